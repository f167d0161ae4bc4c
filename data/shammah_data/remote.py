"""The log on a DuckDB server, through Quack, DuckDB's own client-server protocol. Knows the client side.

Statements run on the server as they are (`query` of the attached catalogue), in explicit transactions: an autocommitted insert
through the attached catalogue itself may report success and write nothing (duckdb-quack issue 267). A thread of its own talks
to the server, so that a server that hangs costs the caller its wait and no more.
"""

import concurrent.futures
import http.client
import os
import random
import re
import ssl
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shammah_data import schema
from shammah_data.database import newer
from shammah_data.errors import LogError, SettingsError
from shammah_data.session import LogTakenError, Session, first_line, literal

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
TOKEN_VARIABLE = "SHAMMAH_LOG_TOKEN"
# Two transactions met in the clock's row: one of them begins again.
_COLLIDED = ("onflict on", "ransaction conflict", "TransactionContext")
_AWAY = (
    "Could not connect",
    "Failed to send",
    "Failed to read",
    "Connection",
    "Invalid connection id",
    "imeout",
    "HTTP",
    "Authorization failed",  # by a server whose database has failed; of a wrong token it says "Authentication failed"
)
_MARK = re.compile(r"\?")
# Reading and importing may take long; a write that somebody waits for gives up after its own wait.
_LONGEST_SECONDS = 3600.0
# A server that is at work answers others meanwhile. One that twice in a row did not is given up.
_LOOK_SECONDS = 5.0
_STUCK_SECONDS = 30.0
# This machine, to which Quack speaks plain HTTP.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class RemoteSession:
    """A session with the server, through a local engine that has it attached as `log`."""

    def __init__(self, engine: "duckdb.DuckDBPyConnection") -> None:
        self.engine = engine

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> "duckdb.DuckDBPyConnection":
        """Run one statement on the server, its parameters written into it as literals.

        What the server says is an InvalidInputException whatever it was; here a collision becomes a TransactionException, a
        server that is away an IOException, and what it refuses a DataError, as they are for a file.
        """
        import duckdb

        try:
            return self.engine.execute("SELECT * FROM log.query(?)", [filled(sql, parameters)])
        except duckdb.Error as error:
            said = first_line(error)  # the lines after it quote the statement
            if any(mark in said for mark in _COLLIDED):
                raise duckdb.TransactionException(said) from error
            if isinstance(error, duckdb.OperationalError) or any(mark in said for mark in _AWAY):
                raise duckdb.IOException(said) from error
            raise duckdb.DataError(said) from error

    def source(self, query: str) -> str:
        """The query, run on the server."""
        return f"log.query({literal(query)})"


def filled(sql: str, parameters: Sequence[object]) -> str:
    """A statement with each `?` outside quotes replaced by its parameter as a literal."""
    if not parameters:
        return sql
    left = iter(parameters)
    # Every second part stands between single quotes; an escaped quote only makes an empty part between.
    parts = sql.split("'")
    for n in range(0, len(parts), 2):
        parts[n] = _MARK.sub(lambda _: literal(next(left)), parts[n])
    return "'".join(parts)


class _Line:
    """One connection to the server: `busy` while a call uses it, one at a time; `since`: when that began."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.since = 0.0
        self.engine: duckdb.DuckDBPyConnection | None = None


class RemoteDatabase:
    """The server at an address such as quack:localhost:9494; `token_file` is read where the environment has no token."""

    def __init__(self, address: str, token_file: Path) -> None:
        self._address = address
        self._token_file = token_file
        self._line = _Line()

    def run(self, work: Callable[[Session], T], *, write: bool, wait: float) -> T:
        """What `work` makes of a session; see Database. Of `work` that the server keeps waiting, the end is not awaited."""
        line = self._free(wait)
        deadline = time.monotonic() + wait
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            try:
                made = self._serve(line, work, deadline)
            except BaseException as error:  # noqa: BLE001 (whatever it is, the caller is told)
                line.busy.release()
                done.set_exception(error)
            else:
                line.busy.release()
                done.set_result(made)

        try:
            # A daemon: the end of a process waits for no server.
            threading.Thread(target=call, name="log-server", daemon=True).start()
        except RuntimeError as error:
            line.busy.release()
            raise LogTakenError(f"{self._address}: not asked any more, this process ends") from error
        return self._result(done, wait)

    def _free(self, wait: float) -> _Line:
        """The line, taken; a new one where a call has been without an answer for long, and the server answers others."""
        line = self._line
        line_is_free = line.busy.acquire(timeout=max(wait, 0.0))
        if not line_is_free and time.monotonic() - line.since > _STUCK_SECONDS:
            # Looked at now and then only: it costs a moment where the server still hangs.
            line.since = time.monotonic()
            if self._answers(0.5):
                self._line = line = _Line()
                line_is_free = line.busy.acquire(blocking=False)
        if not line_is_free:
            raise LogTakenError(f"{self._address}: the log server has not answered yet; try again in a moment")
        line.since = time.monotonic()
        return line

    def _result(self, done: "concurrent.futures.Future[T]", wait: float) -> T:
        last = time.monotonic() + _LONGEST_SECONDS
        silent = 0
        while True:
            try:
                # Who would wait for two seconds or more is at a command that may take its time.
                return done.result(timeout=wait if wait < 2.0 else _LOOK_SECONDS)
            except TimeoutError as error:
                if done.done():
                    return done.result()
                # Quack itself waits for ever, be it for a server that hangs or for a machine that is no more.
                silent = silent + 1 if wait < 2.0 or not self._answers(_LOOK_SECONDS) else 0
                if wait < 2.0 or silent > 1 or time.monotonic() > last:
                    raise LogTakenError(f"{self._address}: the log server does not answer") from error

    def _answers(self, seconds: float) -> bool:
        """Whether the server says anything at all, beside what it is at."""
        found = parsed(self._address)
        kind = http.client.HTTPConnection if found.plain else http.client.HTTPSConnection
        probe = kind(found.host, found.port, timeout=seconds)
        try:
            probe.request("GET", "/")
            probe.getresponse()
        except ssl.SSLCertVerificationError:
            return True  # that is for DuckDB to judge
        except (OSError, http.client.HTTPException):
            return False
        finally:
            probe.close()
        return True

    def _serve(self, line: _Line, work: Callable[[Session], T], deadline: float) -> T:
        import duckdb

        while True:
            try:
                if line.engine is None:
                    line.engine = self._attached()
                return work(RemoteSession(line.engine))
            except duckdb.TransactionException as error:
                if time.monotonic() < deadline:
                    time.sleep(random.uniform(0.002, 0.02))
                    continue
                raise LogTakenError(f"{self._address}: others write to the log; try again in a moment") from error
            except duckdb.OperationalError as error:
                engine, line.engine = line.engine, None
                if engine is not None:
                    engine.close()
                raise LogTakenError(f"{self._address}: the log server is away: {first_line(error)}") from error
            except duckdb.Error as error:
                raise LogError(f"{self._address}: {first_line(error)}") from error
            except SettingsError as error:
                # To whoever writes it is a log that cannot be reached: the rows wait in the spool.
                raise LogError(f"{self._address}: {error}") from error

    def _attached(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        token = read_token(self._token_file)
        engine = duckdb.connect(":memory:")
        try:
            load_extensions(engine)
            engine.execute("SET http_retries = 0")
            server = parsed(self._address)
            if server.plain:
                go_directly(server.host)
            options = f"TYPE quack, TOKEN {literal(token)}, DISABLE_SSL {str(server.plain).lower()}"
            engine.execute(f"ATTACH {literal(server.address)} AS log ({options})")
            applied = RemoteSession(engine).execute("SELECT max(version) FROM schema_version").fetchall()[0][0]
        except BaseException as error:
            engine.close()
            if isinstance(error, duckdb.Error) and "Authentication failed" in str(error):
                raise LogError(
                    f"{self._address}: refuses the token: set {TOKEN_VARIABLE} or {self._token_file} to the server's"
                ) from error
            raise
        if applied != schema.VERSION:
            engine.close()
            if applied > schema.VERSION:
                raise LogError(newer(self._address, applied))
            raise LogError(f"{self._address}: an older Shammah serves it (schema {applied}): upgrade the server")
        return engine


@dataclass(frozen=True)
class Server:
    """Where a log server is. `here`: on this machine; `plain`: spoken to without TLS."""

    host: str
    port: int
    here: bool
    plain: bool

    @property
    def address(self) -> str:
        """As Quack takes it, which knows no word for plain HTTP."""
        return f"quack:{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parsed(address: str) -> Server:
    """An address as the settings have it. This machine is spoken to in plain HTTP, another one only where that is said."""
    host, _, port = address.removeprefix("quack:").removeprefix("http://").rpartition(":")
    here = host in LOOPBACK
    return Server(host.strip("[]"), int(port), here, here or address.startswith("quack:http://"))


def go_directly(host: str) -> None:
    """Let no proxy of the environment have what goes to a host unencrypted: Quack would send it the token and every row.

    libcurl, through which it speaks, takes this from the environment only.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [one.strip() for one in given.split(",") if one.strip()]
    if "*" not in hosts and host not in hosts:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*hosts, host])


def load_extensions(engine: "duckdb.DuckDBPyConnection") -> None:
    """Load Quack and what it speaks through from the installed packages, never from a network. Raises SettingsError."""
    import duckdb

    for name in ("httpfs", "quack"):
        found = util.find_spec(f"duckdb_extension_{name}")
        folder = Path(found.origin).parent if found and found.origin else None
        path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension" if folder else None
        if path is None or not path.exists():
            raise SettingsError(
                f"a log server needs the package duckdb-extension-{name}=={duckdb.__version__}: pip install 'shammah[server]'"
            )
        engine.execute(f"LOAD {literal(str(path))}")


def read_token(path: Path) -> str:
    """The server's token, from the environment or a file that only its owner can read. Raises SettingsError."""
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return token
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the log server wants a token: set {TOKEN_VARIABLE}, or put it into {path} (mode 600)") from error
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"{path}: readable by others: chmod 600 {path}")
    if not token:
        raise SettingsError(f"{path}: is empty; put the log server's token into it")
    return token
