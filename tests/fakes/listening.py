"""A `shammah-serve http` in this process: real uvicorn on a loopback port, in a thread, ended cleanly. And its clients."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from shammah_data.settings import HttpSettings
from shammah_runtime.appliance import Appliance
from shammah_runtime.http.server import bind, make

TOKEN = "a-token-of-the-tests"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Answered:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Listening:
    """A server over an appliance; `url` without a path."""

    def __init__(
        self,
        appliance: Appliance,
        settings: HttpSettings = HttpSettings(),
        *,
        public: bool = False,
        no_log: bool = False,
        warn: Callable[[str], None] = print,
    ) -> None:
        self.appliance = appliance
        self._socket = bind(settings.host, 0, public)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = make(appliance, settings, TOKEN, public, no_log, warn)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), name="http-of-a-test")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._socket.close()

    def end(self) -> None:
        """Tell it to end, as a signal does, and wait for that."""
        self.server.should_exit = True
        self._thread.join(30.0)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        """A connection on which nothing has been sent."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30.0)

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, raw: bytes | None = None
    ) -> Answered:
        """One request; with the token and as JSON unless `headers` are given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30.0)
        sent = raw if raw is not None else None if body is None else json.dumps(body).encode()
        given = {**AUTHORIZED, "content-type": "application/json"} if headers is None else dict(headers)
        try:
            connection.request(method, path, sent, given)
            came = connection.getresponse()
            return Answered(came.status, {name.lower(): value for name, value in came.getheaders()}, came.read())
        finally:
            connection.close()

    def complete(self, text: str, **fields: Any) -> Answered:
        """Ask for a chat completion."""
        asked = {"model": "shammah", "messages": [{"role": "user", "content": text}], **fields}
        return self.ask("POST", "/v1/chat/completions", asked)


def request_bytes(path: str, body: bytes, *headers: str) -> bytes:
    """A POST as it goes over the wire, with these header lines beside the token's."""
    lines = [f"POST {path} HTTP/1.1", f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found
