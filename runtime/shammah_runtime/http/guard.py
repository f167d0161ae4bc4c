"""Who may ask and how much: refuses what a browser was tricked into, what has no token, and what is too large or too slow.

Knows headers and bytes, no API. Everything but the health check needs the token; the page's own paths are let through to it,
for it asks browsers in its own way. Nothing here grants other origins anything.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from shammah_runtime.http.telling import FAULT, Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/healthz"})
# See `shammah_runtime.http.page`, which looks at who asks.
PAGE_PATHS = frozenset({"/", "/exchanges", "/sign-in", "/sign-out", "/page.css", "/page.js", "/page.svg"})
PAGE_FOLDER = "/exchanges/"
_FORM = "application/x-www-form-urlencoded"
# So much of a refused body is read, that the client may still see why: a closed connection would hide the answer.
_DRAINED_BYTES = 16 * 2**20
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Rules:
    """What is let through. `hosts`: names under which the server is meant, beside addresses where it is `public`.

    `page`: whether there is one.
    """

    token: str
    hosts: frozenset[str] = LOOPBACK
    public: bool = False
    page: bool = False
    body_bytes: int = 2**20
    body_seconds: float = 30.0


class Guard:
    """Stands before an application; `refuse(path, problem)` gives the body of a refusal, `count` hears of each."""

    def __init__(
        self,
        app: Application,
        rules: Rules,
        refuse: Callable[[str, Problem], bytes],
        count: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._app = app
        self._rules = rules
        self._refuse = refuse
        self._count = count
        self._warn = warn

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wrong = refusal(self._rules, scope["method"], scope["path"], scope["headers"])
        body = b""
        if wrong is None:
            read = await self._read(receive)
            if read is None:
                return  # gone before it had said what it wants
            wrong, body = read
        else:
            await _drain(receive)
        if wrong is not None:
            self._count(wrong.kind)
            await _answer(send, wrong, self._refuse(scope["path"], wrong), scope["method"])
            return
        await self._serve(scope, body, receive, send)

    async def _serve(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        told = began = False

        async def replay() -> Message:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, replay, watched)
        except Exception as error:  # noqa: BLE001 - no traceback reaches a client, and no fault ends the server
            self._warn(f"internal error ({type(error).__name__}); SHAMMAH_DEBUG=1 shows where")
            if os.environ.get("SHAMMAH_DEBUG"):
                traceback.print_exc(file=sys.stderr)
            if not began:
                await _answer(send, FAULT, self._refuse(scope["path"], FAULT), scope["method"])

    async def _read(self, receive: Receive) -> tuple[Problem | None, bytes] | None:
        """The whole body, or why it is refused; None where the client has gone."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._rules.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._rules.body_bytes:
                        if more:
                            await _drain(receive)
                        return _too_large(self._rules), b""
        except TimeoutError:
            return Problem(408, "too_slow", f"the body took longer than {self._rules.body_seconds:g} s"), b""
        return None, bytes(body)


def refusal(rules: Rules, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Why a request is refused by its head, or None; names in `headers` are lower case."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1").strip())
    if "transfer-encoding" in found and "content-length" in found:
        # Two proxies that read it differently would see two requests in it (RFC 9112, 6.1).
        return Problem(400, "smuggling", "a request with both Content-Length and Transfer-Encoding is refused")
    hosts = found.get("host", [])
    if len(hosts) != 1 or not meant(rules, hosts[0]):
        # Else a name that an attacker's DNS points here would make this server part of the attacker's site.
        return Problem(421, "host", "this server is not known under that name: see [http] hosts")
    if any(origin != f"http://{hosts[0]}" and origin != f"https://{hosts[0]}" for origin in found.get("origin", [])):
        return Problem(403, "origin", "a page of another site may not ask this server")
    on_page = rules.page and (path in PAGE_PATHS or path.startswith(PAGE_FOLDER))
    if path not in OPEN_PATHS and not on_page and not allowed(rules.token, found):
        return Problem(401, "token", "a token is needed: Authorization: Bearer TOKEN, or x-api-key: TOKEN")
    length = found.get("content-length", ["0"])[0]
    if not length.isdecimal() or int(length) > rules.body_bytes:
        return _too_large(rules)
    kind = found.get("content-type", [""])[0].partition(";")[0].strip().lower()
    if method == "POST" and kind != (_FORM if on_page else "application/json"):
        wanted = "a form" if on_page else "JSON: Content-Type: application/json"
        return Problem(415, "content_type", f"the body must be {wanted}")
    return None


def meant(rules: Rules, host: str) -> bool:
    """Whether a Host header names this server; what an address names cannot be changed by any DNS."""
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
    if port and not port.isdecimal():
        return False
    name = name.removeprefix("[").removesuffix("]").lower().removesuffix(".")
    return name in rules.hosts or (rules.public and is_address(name))


def is_address(name: str) -> bool:
    """Whether a name is a numeric address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def allowed(token: str, headers: dict[str, list[str]]) -> bool:
    """Whether a request shows the token; takes as long for a nearly right one as for any other."""
    shown = [value.partition(" ")[2].strip() for value in headers.get("authorization", []) if value[:7].lower() == "bearer "]
    shown += headers.get("x-api-key", [])
    wanted = hashlib.sha256(token.encode()).digest()
    return any(hmac.compare_digest(hashlib.sha256(one.encode()).digest(), wanted) for one in shown)


def _too_large(rules: Rules) -> Problem:
    return Problem(413, "too_large", f"the body is larger than {rules.body_bytes} bytes")


async def _drain(receive: Receive) -> None:
    read = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while read < _DRAINED_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _answer(send: Send, wrong: Problem, body: bytes, method: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    headers += [(name.encode(), value.encode()) for name, value in retry_headers(wrong).items()]
    if wrong.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": wrong.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def retry_headers(wrong: Problem) -> dict[str, str]:
    """What tells a client, and the SDKs by a header of their own, whether to ask again."""
    return {"retry-after": str(wrong.seconds)} if wrong.again else {"x-should-retry": "false"}
