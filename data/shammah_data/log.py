"""The exchange log: a DuckDB file opened late and closed early, so that serving and training can both use it.

Writes that find the database taken go to an fsynced spool of JSON lines, drained by the next successful write; ids make
that exactly once. Knows rows, not what they mean to a model.
"""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shammah_data import rows, schema
from shammah_data.durable import PRIVATE_FILE, fsync_file, fsync_folder, private_folder, sha256
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange, Feedback, Message, RunRecord
from shammah_data.home import Home
from shammah_data.secrets import redact, redact_all
from shammah_data.spool import Spool

if TYPE_CHECKING:
    import duckdb

# A second opener fails at once and is told so; the message is all that DuckDB offers to tell a lock from damage.
_TAKEN = ("Conflicting lock", "Could not set lock", "being used by another process", "different configuration")
_ID_PREFIX = re.compile(r"[0-9a-f-]+")
_BATCH = 2000


@dataclass(frozen=True)
class Stats:
    """Counts over the log. `per_tier` maps who answered to (exchanges, median latency in ms, cost in USD).

    Who answered is a tier, or "unanswered".
    """

    exchanges: int
    learnable: int
    waiting: int
    per_tier: dict[str, tuple[int, float | None, float]]
    feedback: int
    runs: int
    spooled: int


class ExchangeLog:
    """The log of one home.

    `wait` is how long, in seconds, an operation waits for another process to let go of the database.
    """

    def __init__(self, home: Home, wait: float = 0.2, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._wait = wait
        self._clock = clock
        self._spool = Spool(home.spool)
        # One connection at a time in a process: DuckDB refuses a second one with another access mode.
        self._turn = threading.Lock()

    # -- opening -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self, *, write: bool, wait: float | None = None) -> Iterator["duckdb.DuckDBPyConnection"]:
        import duckdb  # a tenth of a second that a prompt need not wait for

        path = self._home.log
        deadline = self._clock() + (self._wait if wait is None else wait)
        with self._turn:
            try:
                private_folder(path.parent)
                if not path.exists():
                    self._create()
            except (OSError, duckdb.Error) as error:
                raise LogError(f"{path}: cannot be created: {_first_line(error)}") from error
            connection = self._connect(deadline, write=write)
            try:
                if self._applied(connection) < schema.VERSION:
                    if not write:  # a read-only connection cannot migrate
                        connection.close()
                        connection = self._connect(deadline, write=True)
                    self._migrate(connection)
                yield connection
            except duckdb.Error as error:
                raise LogError(f"{path}: {_first_line(error)}") from error
            finally:
                connection.close()

    def _create(self) -> None:
        """Put an empty log in its place by a rename: one half made by a killed process could never be opened again."""
        import duckdb

        path = self._home.log
        made = path.with_name(f".{path.name}.new")
        with self._spool.lock():
            if path.exists():
                return  # another process was faster
            for leftover in (made, made.with_name(made.name + ".wal")):
                leftover.unlink(missing_ok=True)
            with duckdb.connect(str(made)) as connection:
                self._migrate(connection)
            made.chmod(PRIVATE_FILE)
            fsync_file(made)
            os.replace(made, path)
            fsync_folder(path.parent)

    def _connect(self, deadline: float, *, write: bool) -> "duckdb.DuckDBPyConnection":
        import duckdb

        path = self._home.log
        while True:
            try:
                return duckdb.connect(str(path), read_only=not write)
            except duckdb.Error as error:
                if not any(mark in str(error) for mark in _TAKEN):
                    raise LogError(f"{path}: cannot be opened: {_first_line(error)}") from error
                if self._clock() >= deadline:
                    raise LogTakenError(f"{path}: in use by another process; try again in a moment") from error
                time.sleep(0.01)

    def _applied(self, connection: "duckdb.DuckDBPyConnection") -> int:
        known = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_name = 'schema_version'"
        ).fetchone()
        if not known or not known[0]:
            return 0
        row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        applied = int(row[0]) if row else 0
        if applied > schema.VERSION:
            raise LogError(
                f"{self._home.log}: written by a newer Shammah (schema {applied} > {schema.VERSION}): upgrade this one"
            )
        return applied

    def _migrate(self, connection: "duckdb.DuckDBPyConnection") -> None:
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
        )
        for version in range(self._applied(connection) + 1, schema.VERSION + 1):
            connection.execute(schema.MIGRATIONS[version - 1])
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", [version, rows.now()])
        connection.execute("COMMIT")

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, exchange: Exchange) -> bool:
        """Make one exchange durable before returning; False when it went to the spool because the database was taken.

        Raises LogError when neither the database nor the spool can be written.
        """
        return self._write(rows.exchange_record(exchange))

    def rate(self, feedback: Feedback) -> bool:
        """Make one rating durable before returning; False when it went to the spool."""
        return self._write(rows.feedback_record(feedback))

    def record_run(self, run: RunRecord) -> None:
        """Store the record of a training run; an existing one with this id is replaced.

        Waits up to ten seconds for the database. Raises LogError.
        """
        with self._open(write=True, wait=10.0) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    run.id,
                    rows.utc(run.started),
                    rows.utc(run.finished),
                    run.status,
                    redact(run.reason),
                    run.version,
                    json.dumps(redact_all(run.figures)),
                ],
            )

    def add_many(self, exchanges: Iterable[Exchange], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """Append many exchanges in batches; those whose id is there already are left alone.

        Returns (new, duplicates). Waits up to ten seconds for the database. Raises LogError.
        """
        new = seen = 0
        with self._open(write=True, wait=10.0) as connection:
            self._drain(connection)
            batch: list[dict[str, Any]] = []
            for exchange in exchanges:
                batch.append(rows.exchange_record(exchange))
                if len(batch) == _BATCH:
                    new, seen = new + rows.insert(connection, batch), seen + len(batch)
                    batch = []
                    if progress:
                        progress(seen)
            new, seen = new + rows.insert(connection, batch), seen + len(batch)
            if progress:
                progress(seen)
        return new, seen - new

    def count_new(self, exchanges: Iterable[Exchange], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """What `add_many` would return for these exchanges; writes nothing. Raises LogError."""
        with self._reading(wait=10.0) as connection:
            known = {str(row[0]) for row in connection.execute("SELECT id FROM exchanges").fetchall()}
        new = seen = 0
        for exchange in exchanges:
            seen += 1
            if exchange.id not in known:
                known.add(exchange.id)
                new += 1
            if progress and seen % _BATCH == 0:
                progress(seen)
        return new, seen - new

    def forget(self, exchange_id: str) -> bool:
        """Delete one exchange with its attempts and feedback; False when there is none. Raises LogError."""
        with self._open(write=True, wait=10.0) as connection:
            self._drain(connection)
            connection.execute("BEGIN")
            for table, key in (("attempts", "exchange_id"), ("feedback", "exchange_id")):
                connection.execute(f"DELETE FROM {table} WHERE {key} = ?::UUID", [exchange_id])
            gone = connection.execute("DELETE FROM exchanges WHERE id = ?::UUID RETURNING id", [exchange_id]).fetchall()
            connection.execute("COMMIT")
        return bool(gone)

    def _write(self, record: dict[str, Any]) -> bool:
        try:
            with self._open(write=True) as connection:
                self._drain(connection)
                rows.insert(connection, [record])
            return True
        except LogError as error:
            try:
                self._spool.append(record)
            except OSError as spool_error:
                raise LogError(f"{error}; the spool cannot be written either: {spool_error}") from error
            if isinstance(error, LogTakenError):
                return False
            raise LogError(f"{error}; the exchange is kept in {self._home.spool}") from error

    def _drain(self, connection: "duckdb.DuckDBPyConnection") -> None:
        import duckdb

        if not self._spool.exists():
            return
        with self._spool.lock():
            lines = self._spool.read()
            torn = [line for line, record in lines if not rows.is_record(record)]
            good = [(line, record) for line, record in lines if rows.is_record(record)]
            refusals = (duckdb.DataError, duckdb.IntegrityError)
            try:
                rows.insert(connection, [record for _, record in good])
            except refusals:
                # One record that the tables refuse must not hold up all the others for ever.
                for line, record in good:
                    try:
                        rows.insert(connection, [record])
                    except refusals:
                        torn.append(line)
            try:
                self._spool.clear(torn)
            except OSError as error:
                raise LogError(f"{self._home.spool}: cannot be cleared: {error.strerror}") from error

    # -- reading -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self, wait: float = 2.0) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A read-only connection; what is spooled is drained first unless another process holds the database."""
        if self._spool.exists():
            try:
                with self._open(write=True) as connection:
                    self._drain(connection)
            except LogTakenError:
                pass  # it may be a reader, beside which this one can read
        with self._open(write=False, wait=wait) as connection:
            yield connection

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest exchanges as rows of the `rated` view, newest first. Raises LogError."""
        with self._reading() as connection:
            return _fetch(connection, "SELECT * FROM rated ORDER BY created_at DESC, turn DESC LIMIT ?", [limit])

    def search(self, words: Sequence[str], limit: int = 20) -> list[dict[str, Any]]:
        """The newest exchanges that hold every one of the words in query, answer or correction, in any case."""
        holds = " AND ".join("contains(lower(concat_ws(chr(10), query, answer, correction)), lower(?))" for _ in words)
        sql = f"SELECT * FROM rated WHERE {holds or 'true'} ORDER BY created_at DESC, turn DESC LIMIT ?"
        with self._reading() as connection:
            return _fetch(connection, sql, [*words, limit])

    def export(self, path: Path) -> int:
        """Write every exchange with its rating and correction, oldest first; returns how many.

        A path that ends in .parquet gets Parquet, any other JSON lines that `shammah-log import` reads back. Raises LogError.
        """
        # Read back elsewhere, without its ratings, a wrong answer must not become a right one.
        columns = (
            "* REPLACE (id::VARCHAR AS id, CAST(context AS JSON) AS context, trainable AND (rating IS DISTINCT FROM 'bad' "
            "OR correction IS NOT NULL) AS trainable), coalesce(correction, answer) AS response"
        )
        form = "parquet" if path.suffix == ".parquet" else "json"
        quoted = str(path).replace("'", "''")
        with self._reading() as connection:
            done = connection.execute(
                f"COPY (SELECT {columns} FROM rated ORDER BY created_at, turn, id) TO '{quoted}' (FORMAT {form})"
            ).fetchone()
        path.chmod(PRIVATE_FILE)
        return int(done[0]) if done else 0

    def find(self, id_or_prefix: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One exchange and its attempts, by id or an unambiguous beginning of it. Raises LogError."""
        prefix = id_or_prefix.lower()
        with self._reading() as connection:
            found = []
            if _ID_PREFIX.fullmatch(prefix):
                found = _fetch(connection, "SELECT * FROM rated WHERE starts_with(id::VARCHAR, ?) LIMIT 2", [prefix])
            if not found:
                raise LogError(f"no exchange {id_or_prefix!r}: `shammah-log list` shows the ids")
            if len(found) > 1:
                raise LogError(f"{id_or_prefix} is the beginning of several ids: give more of it")
            sql = "SELECT * FROM attempts WHERE exchange_id = ? ORDER BY position"
            return found[0], _fetch(connection, sql, [found[0]["id"]])

    def learnable(self) -> list[dict[str, Any]]:
        """Every exchange that may be learned from: id, created_at, query, context, target, weight; oldest first."""
        with self._reading() as connection:
            return _fetch(
                connection, "SELECT id, created_at, query, context, target, weight FROM learnable ORDER BY created_at, turn, id"
            )

    def learnable_count(self, since: datetime | None = None) -> int:
        """How many exchanges may be learned from, of those logged after `since` (UTC where it names no zone)."""
        with self._reading() as connection:
            return _learnable_count(connection, since)

    def stats(self, since: datetime | None = None) -> Stats:
        """Counts; `waiting` are the learnable exchanges logged after `since` (the last training). Raises LogError."""
        with self._reading() as connection:
            tiers = _fetch(
                connection,
                "SELECT CASE WHEN trim(answer) = '' THEN 'unanswered' ELSE tier END AS who, count(*) AS n, "
                "median(latency_ms) AS ms, coalesce(sum(cost_usd), 0) AS usd FROM exchanges GROUP BY who ORDER BY n DESC, who",
            )
            counts = _fetch(
                connection,
                "SELECT (SELECT count(*) FROM exchanges) AS exchanges, (SELECT count(*) FROM feedback) AS feedback, "
                "(SELECT count(*) FROM runs) AS runs",
            )[0]
            learnable, waiting = _learnable_count(connection, None), _learnable_count(connection, since)
        return Stats(
            exchanges=counts["exchanges"],
            learnable=learnable,
            waiting=waiting,
            per_tier={row["who"]: (row["n"], row["ms"], row["usd"]) for row in tiers},
            feedback=counts["feedback"],
            runs=counts["runs"],
            spooled=len(self._spool.read()),
        )

    def runs(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest training runs, newest first, `figures` parsed."""
        with self._reading() as connection:
            found = _fetch(connection, "SELECT * FROM runs ORDER BY started DESC LIMIT ?", [limit])
        return [{**row, "figures": json.loads(row["figures"])} for row in found]

    def snapshot(self, path: Path) -> tuple[str, int, datetime]:
        """Write what may be learned from to a Parquet file and let go of the database at once.

        Returns (sha256 of the file, rows, the time up to which rows are in it). Raises LogError.
        """
        with self._reading(wait=10.0) as connection:
            row = connection.execute("SELECT count(*), max(logged_at) FROM learnable").fetchone()
            quoted = str(path).replace("'", "''")
            connection.execute(
                "COPY (SELECT id::VARCHAR AS id, created_at, session, turn, query, context, target, tier, source, rating, "
                f"weight, logged_at FROM learnable ORDER BY created_at, turn, id) TO '{quoted}' (FORMAT parquet)"
            )
        assert row is not None  # an aggregate always returns a row
        path.chmod(PRIVATE_FILE)
        return sha256(path), int(row[0]), row[1] or rows.now()


class LogTakenError(LogError):
    """Another process holds the database; waiting or spooling is the cure."""


def read_snapshot(path: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot, oldest first."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        return _fetch(connection, "SELECT * FROM read_parquet(?)", [str(path)])


def context_of(row: dict[str, Any]) -> tuple[Message, ...]:
    """The earlier turns of a row."""
    return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(row["context"]))


def _fetch(connection: "duckdb.DuckDBPyConnection", sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, list(parameters))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _learnable_count(connection: "duckdb.DuckDBPyConnection", since: datetime | None) -> int:
    if since is None:
        return int(_fetch(connection, "SELECT count(*) AS n FROM learnable")[0]["n"])
    # DuckDB would read a TIMESTAMP column as local time to compare it with a moment that has a zone.
    after = since.isoformat() if since.tzinfo is None else rows.utc(since)
    return int(_fetch(connection, "SELECT count(*) AS n FROM learnable WHERE logged_at > ?::TIMESTAMP", [after])[0]["n"])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
