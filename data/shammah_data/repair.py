"""A database that cannot be opened: set aside, and as much of it as can be read put back. Nothing is ever deleted."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shammah_data.database import FileDatabase
from shammah_data.durable import PRIVATE_FILE, fsync_file
from shammah_data.errors import InputError, LogError
from shammah_data.home import Home
from shammah_data.session import LogTakenError, Session, fetch

_WAIT = 10.0


@dataclass(frozen=True)
class Repaired:
    """Where the damaged files are now, how many exchanges were saved, and how much of the write-ahead log was readable."""

    aside: Path
    saved: int
    wal_bytes: int
    wal_read: int


def repair(home: Home) -> Repaired:
    """Set a damaged database aside and go on with what can be read of it. Raises InputError where nothing is damaged."""
    database = FileDatabase(home.log)
    try:
        database.run(lambda _: None, write=True, wait=_WAIT)
    except LogTakenError:
        raise
    except LogError as error:
        if "newer Shammah" in str(error):
            raise
    else:
        raise InputError(f"{home.log}: opens well: there is nothing to repair")
    with database.maintenance(_WAIT):
        folder = home.damaged / datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        database.set_aside(folder)
        damaged = FileDatabase(folder / home.log.name)
        wal = damaged.wal.read_bytes() if damaged.wal.exists() else b""
        # The longest beginning of the write-ahead log that replays: whole transactions, up to the first damaged one.
        good, bad = -1, len(wal) + 1
        trial = folder / "trial"
        for length in (len(wal), 0):
            if _saved(damaged, wal[:length], trial) is not None:
                good = length
                break
            bad = length
        while 0 <= good < bad - 1 and bad <= len(wal):
            middle = (good + bad) // 2
            if _saved(damaged, wal[:middle], trial) is None:
                bad = middle
            else:
                good = middle
        saved = _saved(damaged, wal[:good], trial) if good >= 0 else None
        if saved is not None:
            rescued = trial / home.log.name
            rescued.chmod(PRIVATE_FILE)
            fsync_file(rescued)
            rescued.replace(home.log)
        shutil.rmtree(trial, ignore_errors=True)
    return Repaired(folder, saved or 0, len(wal), max(good, 0))


def _saved(damaged: FileDatabase, wal: bytes, folder: Path) -> int | None:
    """How many exchanges a copy of the database holds with this write-ahead log; None where it does not open."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy = FileDatabase(folder / damaged.path.name)
    if not damaged.path.exists():
        return None
    shutil.copyfile(damaged.path, copy.path)
    if wal:
        copy.wal.write_bytes(wal)

    def count(session: Session) -> int:
        # Every column of every row: a damaged block shows when it is read.
        fetch(session, "SELECT sum(hash(e)) FROM exchanges e")
        return int(fetch(session, "SELECT count(*) AS n FROM exchanges")[0]["n"])

    try:
        return copy.run(count, write=True, wait=0.0)
    except LogError:
        return None
