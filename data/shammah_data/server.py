"""The log server: one process that owns the database file and lets others use it through Quack. Knows the server side."""

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable

from shammah_data.durable import atomic_write
from shammah_data.errors import LogError, SettingsError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.remote import LOOPBACK, TOKEN_VARIABLE, load_extensions, read_token
from shammah_data.session import Session, literal

_EVERYWHERE = ("0.0.0.0", "[::]")


def serve(home: Home, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the home's log until SIGINT or SIGTERM. Raises LogError, SettingsError."""
    made = _make_token(home)
    log = ExchangeLog(home)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    address = f"quack:{host}:{port}"

    def hold(session: Session) -> None:
        import duckdb

        engine = session.engine
        load_extensions(engine)
        # Who has the token may read and write the log, and nothing else of this machine.
        engine.execute("SET enable_external_access = false")
        engine.execute("SET lock_configuration = true")
        other = ", allow_other_hostname = true" if host not in LOOPBACK else ""
        try:
            engine.execute(f"CALL quack_serve({literal(address)}, token = {literal(read_token(home.log_token))}{other})")
        except duckdb.Error as error:
            raise LogError(f"{address}: cannot be served: {str(error).splitlines()[0]}") from error
        say(f"serving the log of {home.root} at {address}")
        named = f"quack:http://{socket.gethostname() if host in _EVERYWHERE else host}:{port}" if other else address
        say(f'in the other homes: log = "{named}" in config.toml, and the token in {TOKEN_VARIABLE} or in log-token')
        if made:
            say(f"a token was made: {home.log_token}")
        if other:
            say("this is plain HTTP: on any network that is not your own, put a TLS proxy before it, named as quack:HOST:PORT")
        while not stop.wait(1.0):
            try:
                engine.execute("SELECT 1")
            except duckdb.FatalException as error:
                # Nobody gets in any more, and this process cannot open it anew: what serves it holds on to it.
                reason = str(error).rpartition("Original error: ")[2].strip().strip('"')
                raise LogError(f"{home.log}: failed, start the server again: {reason}") from error
        with contextlib.suppress(duckdb.Error):
            engine.execute(f"CALL quack_stop({literal(address)})")

    log.change(hold)
    say("stopped")


def _make_token(home: Home) -> bool:
    if os.environ.get(TOKEN_VARIABLE) or home.log_token.exists():
        read_token(home.log_token)
        return False
    try:
        atomic_write(home.log_token, secrets.token_urlsafe(32).encode() + b"\n")
    except OSError as error:
        raise SettingsError(f"{home.log_token}: cannot be written: {error.strerror}") from error
    return True
