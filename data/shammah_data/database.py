"""The log's database file: opened late and closed early, made, migrated, rewritten and set aside. Knows locks, not rows.

DuckDB allows one process that writes or several that read. A file beside the database (`.lock`) is held while the database is
made, rewritten or set aside, which no lock inside it can cover, and for the moment in which it is opened to be written: where
there is none DuckDB makes one, and while it is rewritten there is none for some milliseconds.
"""

import contextlib
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from filelock import FileLock, Timeout

from shammah_data import rows, schema
from shammah_data.durable import PRIVATE_FILE, fsync_file, fsync_folder, private_folder
from shammah_data.errors import LogError
from shammah_data.session import LocalSession, LogTakenError, Session, first_line, literal, read_every_row, transaction
from shammah_data.torn import is_torn, keep, mend

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
# A second opener fails at once and is told so; the message is all that DuckDB offers to tell a lock from damage.
_GONE = "database does not exist"
_TAKEN = ("Conflicting lock", "Could not set lock", "being used by another process", "different configuration", _GONE)
# Damage that no waiting cures: no database, or the beginning of one.
_DAMAGED = ("not a valid DuckDB database file", "Could not read enough bytes")
_HOLDER = re.compile(r"\(PID (\d+)\)")
# How a write-ahead log begins (its version entry). DuckDB passes over one that begins otherwise, and its rows, in silence.
_WAL_START = b"\x64\x00\x62"
_POLL_SECONDS = 0.01
# One connection at a time in a process, by path: DuckDB refuses a second one with another access mode, or while one closes.
_turns: "weakref.WeakValueDictionary[str, threading.Lock]" = weakref.WeakValueDictionary()
_logger = logging.getLogger(__name__)


class Database(Protocol):
    """Where the log is: a file here, or a server."""

    def run(self, work: Callable[[Session], T], *, write: bool, wait: float) -> T:
        """What `work` makes of a session.

        Raises LogTakenError when the database is not to be had for `wait` seconds, LogError for any other fault of it.
        """
        ...


class FileDatabase:
    """The database at one path."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._turn = _turns.setdefault(os.path.realpath(path), threading.Lock())
        self._beyond_mending = False

    @property
    def wal(self) -> Path:
        """The write-ahead log, there only after a kill or while somebody writes."""
        return self.path.with_name(self.path.name + ".wal")

    @property
    def _old(self) -> Path:
        return self.path.with_name(f".{self.path.name}.old")

    @property
    def _new(self) -> Path:
        return self.path.with_name(f".{self.path.name}.new")

    def run(self, work: Callable[[Session], T], *, write: bool, wait: float) -> T:
        """What `work` makes of a session; see Database."""
        with self.session(write=write, wait=wait) as session:
            return work(session)

    @contextlib.contextmanager
    def session(self, *, write: bool, wait: float) -> Iterator[Session]:
        """An open database, made or migrated where that is due."""
        with self._session(write=write, wait=wait) as session:
            yield session

    @contextlib.contextmanager
    def _session(self, *, write: bool, wait: float, maintaining: bool = False) -> Iterator[Session]:
        """The same; `maintaining`: by who holds `maintenance` already."""
        import duckdb  # a tenth of a second that a prompt need not wait for

        deadline = self._clock() + wait
        if not self._turn.acquire(timeout=max(wait, 0.0)):
            raise LogTakenError(f"{self.path}: in use by another part of this process; try again in a moment")
        try:
            if not self.path.exists() and not maintaining:
                self._create(deadline)
            connection = self._connect(deadline, write=write, maintaining=maintaining)
            try:
                if self._applied(connection) < schema.VERSION:
                    if not write:  # a read-only connection cannot migrate
                        connection.close()
                        connection = self._connect(deadline, write=True, maintaining=maintaining)
                    self._migrate(connection)
                yield LocalSession(connection)
            except duckdb.Error as error:
                if is_torn(str(error)):
                    connection.close()
                    self._mend(deadline)
                    raise LogTakenError(f"{self.path}: was torn by a kill and is mended; try again") from error
                raise LogError(f"{self.path}: {first_line(error)}") from error
            except RuntimeError as error:
                # So DuckDB tells of what a signal's handler raised while a statement ran.
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise error.__cause__ from None
                raise
            finally:
                connection.close()
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def maintenance(self, wait: float) -> Iterator[None]:
        """Keep every other process from making or replacing the file. Raises LogTakenError, LogError."""
        try:
            private_folder(self.path.parent)
            lock = FileLock(self.path.with_name(self.path.name + ".lock"), mode=PRIVATE_FILE, timeout=max(wait, 0.0))
            lock.acquire(poll_interval=_POLL_SECONDS)
        except Timeout as error:
            raise LogTakenError(f"{self.path}: being made or rewritten by another process; try again in a moment") from error
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def _create(self, deadline: float) -> None:
        """Put an empty log in its place by a rename: one half made by a killed process could never be opened again."""
        import duckdb

        with self.maintenance(deadline - self._clock()):
            if self.path.exists():
                return  # another process was faster
            try:
                if self._old.exists():  # a rewrite was killed between its two renames
                    os.replace(self._old, self.path)
                    fsync_folder(self.path.parent)
                    return
                self._remove_leftovers()
                with duckdb.connect(str(self._new)) as connection:
                    self._migrate(connection)
                self._new.chmod(PRIVATE_FILE)
                fsync_file(self._new)
                os.replace(self._new, self.path)
                fsync_folder(self.path.parent)
            except (OSError, duckdb.Error) as error:
                raise LogError(f"{self.path}: cannot be created: {first_line(error)}") from error

    def _remove_leftovers(self) -> None:
        for leftover in (self._new, self._new.with_name(self._new.name + ".wal")):
            leftover.unlink(missing_ok=True)

    def _open(self, deadline: float, *, write: bool, maintaining: bool) -> "duckdb.DuckDBPyConnection":
        import duckdb

        with contextlib.ExitStack() as stack:
            if write and not maintaining:
                stack.enter_context(self.maintenance(deadline - self._clock()))
            self._check_wal()
            if not self.path.exists():  # being rewritten: to be opened in a moment, and by no means to be made
                raise duckdb.IOException(_GONE)
            return duckdb.connect(str(self.path), read_only=not write)

    def _connect(self, deadline: float, *, write: bool, maintaining: bool = False) -> "duckdb.DuckDBPyConnection":
        import duckdb

        mended = False
        while True:
            try:
                return self._open(deadline, write=write, maintaining=maintaining)
            except duckdb.Error as error:
                said = str(error)
                if "replaying WAL" in said:
                    raise self._no_replay() from error
                if is_torn(said) and not mended:
                    mended = self._mend(deadline)
                    continue
                if not any(mark in said for mark in _TAKEN):
                    cure = ": run `shammah-log repair`" if any(mark in said for mark in _DAMAGED) else ""
                    raise LogError(f"{self.path}: cannot be opened: {first_line(error)}{cure}") from error
                if self._clock() >= deadline:
                    holder = _HOLDER.search(said)
                    who = f"process {holder[1]}" if holder else "another process"
                    raise LogTakenError(f"{self.path}: in use by {who}; try again in a moment") from error
                time.sleep(_POLL_SECONDS)

    def _mend(self, deadline: float) -> bool:
        """Put a mended database in the place of one that a kill tore. Raises LogTakenError, and LogError where it cannot."""
        damaged = LogError(f"{self.path}: is damaged: run `shammah-log repair`")
        mending = self.path.with_name(f".{self.path.name}.mending")
        mended = self.path.with_name(f".{self.path.name}.mended")
        if self._beyond_mending:
            raise damaged
        with self.maintenance(max(deadline - self._clock(), 0.0)):
            if not self._still_torn():
                return True  # another process was faster
            try:
                # There already: killed while it was put in place, with the write-ahead log perhaps gone.
                if not mended.exists():
                    if not mend(self.path, self.wal, mending):
                        self._beyond_mending = True
                        raise damaged
                    folder = self.path.parent / "damaged" / f"{rows.now():%Y%m%dT%H%M%S%fZ}"
                    keep([self.path, self.wal], folder)
                    os.replace(mending, mended)
                    fsync_folder(self.path.parent)
                    _logger.warning(f"{self.path}: was torn by a kill; mended with every row, and kept as it was in {folder}")
                # Its rows are in the mended database, and it is kept beside the torn one.
                self.wal.unlink(missing_ok=True)
                os.replace(mended, self.path)
                fsync_folder(self.path.parent)
            except OSError as error:
                raise LogError(f"{self.path}: cannot be mended: {error.strerror or error}") from error
        return True

    def _still_torn(self) -> bool:
        import duckdb

        try:
            with duckdb.connect(str(self.path), read_only=True) as connection:
                read_every_row(LocalSession(connection))
        except duckdb.Error as error:
            return is_torn(str(error))
        return False

    def _check_wal(self) -> None:
        try:
            with open(self.wal, "rb") as file:
                start = file.read(len(_WAL_START))
        except OSError:
            return
        if start != _WAL_START[: len(start)]:
            raise self._no_replay()

    def _no_replay(self) -> LogError:
        return LogError(f"{self.path}: its write-ahead log cannot be replayed; it is left as it is: run `shammah-log repair`")

    def _applied(self, connection: "duckdb.DuckDBPyConnection") -> int:
        import duckdb

        try:
            row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        except duckdb.CatalogException:
            return 0
        applied = int(row[0]) if row else 0
        if applied > schema.VERSION:
            raise LogError(newer(str(self.path), applied))
        return applied

    def _migrate(self, connection: "duckdb.DuckDBPyConnection") -> None:
        with transaction(LocalSession(connection)):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
            )
            for version in range(self._applied(connection) + 1, schema.VERSION + 1):
                connection.execute(schema.MIGRATIONS[version - 1])
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", [version, rows.now()])

    def rewrite(self, wait: float) -> tuple[int, int]:
        """Write the database anew, without the bytes of what was deleted; returns its size in bytes before and after.

        Killed at any moment, it leaves the old file or the new one. Raises LogTakenError, LogError.
        """
        with self.maintenance(wait):
            with self._session(write=True, wait=wait, maintaining=True) as session:
                engine = session.engine
                try:
                    self._remove_leftovers()
                    # Everything in the file and nothing in the write-ahead log, which goes by the path and not the file.
                    engine.execute("CHECKPOINT")
                    name = engine.execute("SELECT current_database()").fetchall()[0][0]
                    engine.execute(f"ATTACH {literal(str(self._new))} AS anew")
                    engine.execute(f'COPY FROM DATABASE "{name}" TO anew')
                    engine.execute("DETACH anew")
                    self._new.chmod(PRIVATE_FILE)
                    fsync_file(self._new)
                    sizes = self.path.stat().st_size, self._new.stat().st_size
                    # First out of the way: closing must meet no database that another process has begun to write.
                    os.replace(self.path, self._old)
                except OSError as error:
                    raise LogError(f"{self.path}: cannot be rewritten: {error.strerror or error}") from error
            os.replace(self._new, self.path)
            fsync_folder(self.path.parent)
            self._old.unlink()
        return sizes

    def set_aside(self, folder: Path) -> list[Path]:
        """Move the database and its write-ahead log into a new folder; returns where they are now. Raises LogError.

        The caller holds `maintenance` and has seen that the database cannot be opened.
        """
        moved = []
        try:
            private_folder(folder)
            for path in (self.path, self.wal):
                if path.exists():
                    os.replace(path, folder / path.name)
                    moved.append(folder / path.name)
            fsync_folder(folder)
            fsync_folder(self.path.parent)
        except OSError as error:
            raise LogError(f"{self.path}: cannot be set aside: {error.strerror or error}") from error
        return moved


def newer(where: str, applied: int) -> str:
    """What is said of a log that a later Shammah wrote."""
    return f"{where}: written by a newer Shammah (schema {applied} > {schema.VERSION}): upgrade this one"
