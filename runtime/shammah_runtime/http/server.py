"""`shammah-serve http`: the token, the socket, uvicorn, signals. Knows no request."""

import asyncio
import os
import secrets
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from shammah_data.durable import atomic_write
from shammah_data.errors import InputError, SettingsError
from shammah_data.home import Home
from shammah_data.settings import HttpSettings
from shammah_runtime.appliance import Appliance
from shammah_runtime.http.app import Server
from shammah_runtime.http.asking import Limits
from shammah_runtime.http.guard import LOOPBACK, Rules
from shammah_runtime.http.protocol import limited
from shammah_runtime.http.service import Service

TOKEN_VARIABLE = "SHAMMAH_HTTP_TOKEN"
_FEWEST_LETTERS = 16
# Threads that think in Python give way to the event loop so often: its lag is at most a few of these.
_SWITCH_SECONDS = 0.001
# After the grace, what is under way is stopped, and has so long to end; then its tasks are cancelled.
_ENDING_SECONDS = 5.0


def serve(appliance: Appliance, settings: HttpSettings, public: bool, no_log: bool, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises InputError, SettingsError."""
    where = bind(settings.host, settings.port, public)
    try:
        token, told = read_token(appliance.home)
        server = make(appliance, settings, token, public, no_log, say)
        # For the time before uvicorn takes the signals, and for when it raises one again after it has ended cleanly.
        for number in (signal.SIGINT, signal.SIGTERM, *_hang_up()):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        host, port = where.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"serving http://{shown}:{port}/v1 with the token in {told}")
        if settings.page:
            say(f"the page is at http://{shown}:{port}/ and asks for the same token")
        if public:
            say("other machines can reach this, over plain HTTP: put a TLS proxy before it on any network that is not your own")
        sys.setswitchinterval(_SWITCH_SECONDS)
        server.run(sockets=[where])
        server.close()
    finally:
        where.close()
    say("stopped")


def _hang_up() -> list[signal.Signals]:
    """The signal of a window that is closed, unless nohup has it passed over; Windows has none."""
    number = getattr(signal, "SIGHUP", None)
    return [] if number is None or signal.getsignal(number) is signal.SIG_IGN else [number]


class Graceful(uvicorn.Server):
    """A server that lets what is under way go on for a while once it is told to end, and then stops it."""

    def __init__(self, config: uvicorn.Config, grace_seconds: float, service: Service) -> None:
        super().__init__(config)
        self._grace_seconds = grace_seconds
        self._service = service

    def close(self) -> None:
        """Stop and await what is left where the end was forced; the log has all that was answered."""
        self._service.stop_all()
        self._service.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; see uvicorn."""
        due = asyncio.get_running_loop().call_later(self._grace_seconds, self._service.stop_all)
        await super().shutdown(sockets)
        due.cancel()


def make(
    appliance: Appliance, settings: HttpSettings, token: str, public: bool, no_log: bool, warn: Callable[[str], None]
) -> Graceful:
    """A server that is ready to run."""
    log = None if no_log else appliance.log
    service = Service(appliance.conversation.desk, log, settings.queue, warn)
    limits = Limits(appliance.decoding, appliance.context_turns, settings.plain_systems)
    rules = Rules(token, names(settings, public), public, settings.page, settings.body_bytes, settings.body_seconds)
    app: Any = Server(appliance, service, limits, rules, warn).app
    config = uvicorn.Config(
        app,
        http=limited(settings.header_seconds, settings.write_seconds, settings.connections),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.grace_seconds + _ENDING_SECONDS),
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Graceful(config, settings.grace_seconds, service)


def names(settings: HttpSettings, public: bool) -> frozenset[str]:
    """The names under which the server is meant."""
    own = {settings.host.lower(), socket.gethostname().lower()} if public else set()
    return LOOPBACK | own | {name.lower() for name in settings.hosts}


def bind(host: str, port: int, public: bool) -> socket.socket:
    """A listening socket. Raises InputError where that cannot be, and for a public address that was not asked for."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: is no address of this machine: {error}") from error
    family, _, _, _, address = found[0]
    loopback = address[0] == "::1" or str(address[0]).startswith("127.")
    if not loopback and not public:
        raise InputError(f"{host} can be reached from other machines: say --public if that is what you want")
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(512)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen at {host}:{port}: {error.strerror}") from error
    return listening


def read_token(home: Home) -> tuple[str, str]:
    """The token and where it is kept; made at the first start. Raises SettingsError."""
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return _checked(token, TOKEN_VARIABLE), TOKEN_VARIABLE
    path = home.http_token
    try:
        if not path.exists():
            atomic_write(path, secrets.token_urlsafe(32).encode() + b"\n")
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read or made: {error}") from error
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"{path}: readable by others: chmod 600 {path}")
    return _checked(token, str(path)), str(path)


def _checked(token: str, where: str) -> str:
    if len(token) < _FEWEST_LETTERS or not (token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError(f"{where}: a token has at least {_FEWEST_LETTERS} letters, digits and signs, and no space")
    return token
