"""A session with the log's database, wherever that is: statements, rows, and the one transaction. Knows no path, no lock.

A local session is a DuckDB connection to the file. A remote one (`shammah_data.remote`) sends the same statements to a
server; `source` is what lets a local engine read the rows of either.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shammah_data.errors import InputError, LogError

if TYPE_CHECKING:
    import duckdb


class LogTakenError(LogError):
    """Another process holds the database, or its server is away; waiting or spooling is the cure."""


class Session(Protocol):
    """What the log does with its database. Every method raises duckdb.Error."""

    @property
    def engine(self) -> "duckdb.DuckDBPyConnection":
        """The DuckDB of this process, in which `source` can be read."""
        ...

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> "duckdb.DuckDBPyConnection":
        """Run one statement where the data is; the result is fetched from what is returned."""
        ...

    def source(self, query: str) -> str:
        """A SELECT over the log as a FROM item of `engine`."""
        ...


class LocalSession:
    """A connection to the database file."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self.engine = connection

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> "duckdb.DuckDBPyConnection":
        """Run one statement."""
        return self.engine.execute(sql, list(parameters))

    def source(self, query: str) -> str:
        """The query itself, in parentheses."""
        return f"({query})"


def fetch(session: Session, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """The rows of a query, by column name."""
    cursor = session.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def read_every_row(session: Session) -> None:
    """Read all of every table that there is: a damaged block shows when it is read. Raises duckdb.Error."""
    for table in fetch(session, "SELECT table_name AS name FROM duckdb_tables() WHERE NOT temporary"):
        fetch(session, f'SELECT sum(hash(t)) FROM "{table["name"]}" t')


@contextlib.contextmanager
def transaction(session: Session) -> Iterator[None]:
    """All of the block or nothing of it."""
    session.execute("BEGIN")
    try:
        yield
        session.execute("COMMIT")
    except BaseException:
        import duckdb

        with contextlib.suppress(duckdb.Error):  # the first error is the one to tell
            session.execute("ROLLBACK")
        raise


def write_file(session: Session, query: str, path: Path, form: str) -> int:
    """Write the rows of a query to a file of this machine, as `parquet` or `json`; returns how many."""
    # Else DuckDB writes beside a file that is there already, and leaves that behind where the disk is full.
    options = f"FORMAT {form}, USE_TMP_FILE false"
    done = session.engine.execute(f"COPY (SELECT * FROM {session.source(query)}) TO {literal(str(path))} ({options})")
    found = done.fetchone()
    return int(found[0]) if found else 0


def literal(value: object) -> str:
    """A value as SQL text. Raises InputError for bytes that are no text, as they come from a command line."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return str(value)
    quoted = str(value).replace("'", "''")
    try:
        quoted.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{value}: is no text in UTF-8") from error
    return f"'{quoted}'"


def first_line(error: Exception) -> str:
    """The first line of what an error says, for messages of one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
