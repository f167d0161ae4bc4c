"""A damaged database: set aside, and as much of it as can be read put back. Nothing is ever deleted."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shammah_data.database import FileDatabase
from shammah_data.durable import PRIVATE_FILE, fsync_file
from shammah_data.errors import InputError, LogError
from shammah_data.home import Home
from shammah_data.schema import TABLES
from shammah_data.session import LogTakenError, Session, fetch, literal, read_every_row

_WAIT = 10.0
# So many rows DuckDB scans at once.
_VECTOR = 2048
_COPY = "INSERT INTO {0} BY NAME SELECT * FROM damaged.{0} WHERE {1}"
_KEYS = (
    "SELECT constraint_column_names AS names FROM duckdb_constraints() WHERE database_name = 'damaged' AND table_name = ? "
    "AND constraint_type = 'PRIMARY KEY' AND len(constraint_column_names) = 1"
)


@dataclass(frozen=True)
class Repaired:
    """Where the damaged files are now, what was saved, and how much of the write-ahead log was readable.

    `exchanges`: how many there were, as far as the damaged database tells.
    """

    aside: Path
    saved: int
    exchanges: int
    wal_bytes: int
    wal_read: int


def repair(home: Home) -> Repaired:
    """Set a damaged database aside and go on with what can be read of it. Raises InputError where nothing is damaged."""
    database = FileDatabase(home.log)
    try:
        database.run(read_every_row, write=False, wait=_WAIT)
        # An index is read by who writes.
        database.run(read_every_row, write=True, wait=_WAIT)
    except LogTakenError:
        raise
    except LogError as error:
        if "newer Shammah" in str(error):
            raise
    else:
        raise InputError(f"{home.log}: every row can be read: there is nothing to repair")
    with database.maintenance(_WAIT):
        folder = home.damaged / datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        database.set_aside(folder)
        damaged = FileDatabase(folder / home.log.name)
        wal = damaged.wal.read_bytes() if damaged.wal.exists() else b""
        trial = folder / "trial"
        good, found = _longest(wal, lambda part: _whole(damaged, part, trial))
        if found is None:
            good, found = _longest(wal, lambda part: _readable(damaged, part, trial))
        if found is not None:
            rescued = trial / home.log.name
            rescued.chmod(PRIVATE_FILE)
            fsync_file(rescued)
            rescued.replace(home.log)
        shutil.rmtree(trial, ignore_errors=True)
    saved, exchanges = found or (0, 0)
    return Repaired(folder, saved, exchanges, len(wal), good)


def _longest(wal: bytes, attempt: Callable[[bytes], tuple[int, int] | None]) -> tuple[int, tuple[int, int] | None]:
    """The longest beginning of the write-ahead log that replays: whole transactions, up to the first damaged one.

    Returns its length and what the attempt with it found, which is the last one made; None where every attempt fails.
    """
    if (found := attempt(wal)) is not None:
        return len(wal), found
    if not wal or attempt(b"") is None:
        return 0, None
    good, bad = 0, len(wal)
    while good < bad - 1:
        middle = (good + bad) // 2
        if attempt(wal[:middle]) is None:
            bad = middle
        else:
            good = middle
    return good, attempt(wal[:good])


def _copy(damaged: FileDatabase, wal: bytes, folder: Path, name: str) -> FileDatabase | None:
    """The database with this write-ahead log, in an emptied folder; None where there is none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not damaged.path.exists():
        return None
    copy = FileDatabase(folder / name)
    shutil.copyfile(damaged.path, copy.path)
    if wal:
        copy.wal.write_bytes(wal)
    return copy


def _whole(damaged: FileDatabase, wal: bytes, folder: Path) -> tuple[int, int] | None:
    """(saved, exchanges) of a copy of the database with this write-ahead log; None where not every row can be read."""

    def count(session: Session) -> int:
        read_every_row(session)
        return _count(session)

    copy = _copy(damaged, wal, folder, damaged.path.name)
    try:
        found = copy.run(count, write=True, wait=0.0) if copy else None
    except LogError:
        return None
    return None if found is None else (found, found)


def _readable(damaged: FileDatabase, wal: bytes, folder: Path) -> tuple[int, int] | None:
    """(saved, exchanges) of a new database with all rows that can be read; None where the damaged one does not open."""
    copy = _copy(damaged, wal, folder, "damaged.duckdb")
    if copy is None:
        return None
    new = FileDatabase(folder / damaged.path.name)

    def fill(session: Session) -> int:
        session.execute(f"ATTACH {literal(str(copy.path))} AS damaged (READ_ONLY)")
        for table in TABLES:
            if table != "clock":
                _fill(session, table)
        session.execute("UPDATE clock SET last = coalesce((SELECT max(logged_at) FROM exchanges), last)")
        session.execute("DETACH damaged")
        return _count(session)

    try:
        exchanges = copy.run(_count, write=False, wait=0.0)
        return new.run(fill, write=True, wait=0.0), exchanges
    except LogError:
        return None


def _count(session: Session) -> int:
    return int(fetch(session, "SELECT count(*) AS n FROM exchanges")[0]["n"])


def _fill(session: Session, table: str) -> None:
    """Copy the rows of a table that can be read: together, and where that fails one by one."""
    import duckdb

    # A scan reads all blocks that a vector of rows lies in, a look-up by the key only those of its row.
    keys = fetch(session, _KEYS, [table])
    end = int(fetch(session, f"SELECT coalesce(max(rowid) + 1, 0) AS n FROM damaged.{table}")[0]["n"])
    for start in range(0, end, _VECTOR):
        rows = f"rowid >= {start} AND rowid < {start + _VECTOR}"
        try:
            session.execute(_COPY.format(table, rows))
        except duckdb.Error:
            for (name,) in (key["names"] for key in keys):
                for value in _values(session, table, name, rows):
                    with contextlib.suppress(duckdb.Error):  # lost
                        session.execute(_COPY.format(table, f"{name} = {literal(value)}"))


def _values(session: Session, table: str, name: str, rows: str) -> list[object]:
    import duckdb

    try:
        return [row[name] for row in fetch(session, f"SELECT {name} FROM damaged.{table} WHERE {rows}")]
    except duckdb.Error:
        return []
