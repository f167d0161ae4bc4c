"""A Claude that runs on this machine: a real HTTP server that speaks the Messages API, and fails on request.

Knows the wire format (messages, server-sent events, error bodies), not the SDK. In a test: `with FakeClaude(answers)`.
As a process: `python -m fakes.claude --port 0 --answers FILE.jsonl` prints its URL and serves until SIGTERM or SIGINT.
"""

import argparse
import json
import re
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self, get_args

Fault = Literal[
    "ok",
    # before the answer begins
    "unauthorized",
    "rate_limited",
    "rate_limited_once",
    "overloaded",
    "overloaded_once",
    "server_error",
    "spend_limit",
    "echo_key",
    "redirect",
    "reset_once",
    "slow_headers",
    "html",
    "blocked",
    # in mid-answer
    "pings",
    "stall",
    "error_event",
    "early_error_event_once",
    "cut",
    "no_stop",
    "no_stop_reason",
    "malformed",
    "wrong_types",
    # whole answers that are not quite answers
    "empty",
    "thinking",
    "no_usage",
    "max_tokens",
    "refusal",
]
Answers = Mapping[str, str] | Callable[[str], str]

GENERIC_ANSWER = "I have no prepared answer to that, so here is a general one."
ONCE: dict[Fault, Fault] = {"rate_limited_once": "rate_limited", "overloaded_once": "overloaded"}
# fault: (HTTP status, error type, headers)
STATUS: dict[Fault, tuple[int, str, dict[str, str]]] = {
    "unauthorized": (401, "authentication_error", {}),
    "rate_limited": (429, "rate_limit_error", {"retry-after": "86400"}),
    "overloaded": (529, "overloaded_error", {}),
    "server_error": (500, "api_error", {}),
    "spend_limit": (400, "invalid_request_error", {}),
    "echo_key": (400, "invalid_request_error", {}),
}


@dataclass(frozen=True)
class Request:
    """One POST as it came in; header names are lower case."""

    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def key(self) -> str:
        """The API key, from either of the two headers that the service takes it from."""
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")


def count_tokens(text: str) -> int:
    """The fake's idea of a token: a word."""
    return len(text.split())


def text_of(content: Any) -> str:
    """The text of a message's content, a string or a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block.get("type") == "text")


class FakeClaude:
    """The server: set `fault` before a request, find every POST in `requests`; `hung_up`: a client left early."""

    def __init__(self, answers: Answers | None = None, *, fault: Fault = "ok", port: int = 0) -> None:
        self.answers: Answers = {} if answers is None else answers
        self.fault: Fault = fault
        self.retry_after_once = "1"
        self.requests: list[Request] = []
        self.hung_up = threading.Event()
        self.closing, self._closer = socket.socketpair()
        self._lock = threading.Lock()
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="fake-claude")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Readable from here on: every handler that stalls sees it.
        self._closer.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.closing.close()

    @property
    def calls(self) -> int:
        """How many times the Messages API was called, failures included."""
        with self._lock:
            return len(self.requests)

    def answer(self, query: str) -> str:
        """What this Claude says to a user's text."""
        if callable(self.answers):
            return self.answers(query)
        return self.answers.get(query, GENERIC_ANSWER)

    def receive(self, request: Request) -> int:
        """Record a request and return its number, from 1."""
        with self._lock:
            self.requests.append(request)
            return len(self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing joins every handler

    def __init__(self, port: int, fake: FakeClaude) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep test output clean."""

    def do_GET(self) -> None:
        if self.path == "/_calls":
            self._json(200, {"calls": self.server.fake.calls})
        else:
            self._error(404, "not_found_error", f"no such path: {self.path}")

    def do_POST(self) -> None:
        # A client that hangs up early is part of the game.
        try:
            self._post()
        except (BrokenPipeError, ConnectionResetError):
            self.server.fake.hung_up.set()
            self.close_connection = True

    def _post(self) -> None:
        fake = self.server.fake
        raw = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path != "/v1/messages":
            self._error(404, "not_found_error", f"no such path: {self.path}")
            return
        body: dict[str, Any] = json.loads(raw)
        request = Request({name.lower(): value for name, value in self.headers.items()}, body)
        number = fake.receive(request)
        if not request.key:
            self._error(401, "authentication_error", "an API key is required")
        elif (wrong := _wrong(body)) is not None:
            self._error(400, "invalid_request_error", wrong)
        else:
            self._answer(body, request.key, number)

    def _answer(self, body: dict[str, Any], key: str, number: int) -> None:
        fake = self.server.fake
        fault = fake.fault
        headers: dict[str, str] = {}
        if fault.endswith("_once"):
            if fault == "rate_limited_once":
                headers = {"retry-after": fake.retry_after_once}
            fault = ONCE.get(fault, fault) if number == 1 else "ok"
        if fault in STATUS:
            status, kind, usual = STATUS[fault]
            said = {
                "echo_key": f"\x1b[31mno\r\ngood\x9b: {'x' * 110}{key}{'y' * 400}",
                "spend_limit": "You have reached your specified API usage limits.",
            }.get(fault, f"fake {kind}")
            self._error(status, kind, said, usual | headers)
        elif fault == "redirect":
            self._json(307, {}, {"location": f"{fake.url}/v1/messages"})
        elif fault == "reset_once":
            self._reset()
        elif fault == "html":
            self._send(200, b"<html>Sign in to this network</html>", {"content-type": "text/html"})
        elif fault == "blocked":
            self._send(403, b"<html>Blocked by your company</html>", {"content-type": "text/html; charset=utf-8"})
        elif fault == "slow_headers":
            self._stall()
        elif body.get("stream"):
            self._stream(body, fault)
        else:
            self._json(200, _message(body, self._said(body, fault)))

    def _said(self, body: dict[str, Any], fault: Fault) -> str:
        return "" if fault == "empty" else self.server.fake.answer(text_of(body["messages"][-1]["content"]))

    def _stream(self, body: dict[str, Any], fault: Fault) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        answer = self._said(body, fault)
        pieces = re.findall(r"\s*\S+\s*", answer)
        half = max(1, len(pieces) // 2)
        begun = _message(body, answer) | {"content": [], "stop_reason": None}
        if fault == "no_usage":
            del begun["usage"]
        self._event("message_start", message=begun)
        if fault == "early_error_event_once":
            self._fail_in_stream()
            return
        if fault == "pings":
            while not self._left(0.01):
                self._event("ping")
            return
        index = 0
        if fault == "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
            self._event("content_block_start", index=0, content_block=block)
            self._event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Let me see."})
            self._event("content_block_stop", index=0)
            index = 1
        self._event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        self._event("ping")
        for done, piece in enumerate(pieces):
            if done == half and not self._half_way(fault):
                return
            self._event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        self._event("content_block_stop", index=index)
        if fault == "no_stop":
            self._chunk(b"")
            return
        reason = {"max_tokens": "max_tokens", "refusal": "refusal", "no_stop_reason": None}.get(fault, "end_turn")
        usage = {} if fault == "no_usage" else {"usage": {"output_tokens": count_tokens(answer)}}
        self._event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, **usage)
        self._event("message_stop")
        self._chunk(b"")

    def _half_way(self, fault: Fault) -> bool:
        """Do what the fault wants in mid-answer; whether the answer goes on after it."""
        if fault == "stall":
            self._stall()
        elif fault == "cut":
            self.close_connection = True  # with the last chunk still owed
        elif fault == "error_event":
            self._fail_in_stream()
        elif fault == "malformed":
            self._chunk(b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta\n\n')
            self._chunk(b"")
        elif fault == "wrong_types":
            self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": None})
            self._chunk(b"")
        else:
            return True
        return False

    def _fail_in_stream(self) -> None:
        self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        self._chunk(b"")

    def _event(self, kind: str, **fields: Any) -> None:
        self._chunk(f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.close_connection = True

    def _left(self, seconds: float | None = None) -> bool:
        """Wait until the client hangs up or the server closes; whether either happened in time."""
        closing = self.server.fake.closing
        ready, _, _ = select.select([self.connection, closing], [], [], seconds)
        if self.connection in ready:
            self.server.fake.hung_up.set()
        return bool(ready)

    def _stall(self) -> None:
        self._left()
        self.close_connection = True

    def _reset(self) -> None:
        # Lingering for zero seconds makes close() send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _error(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._json(status, {"type": "error", "error": {"type": kind, "message": message}}, headers)

    def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data)), "connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _wrong(body: dict[str, Any]) -> str | None:
    """What the real service would object to in a request."""
    turns = body.get("messages")
    if not body.get("model") or not isinstance(body.get("max_tokens"), int):
        return "model and max_tokens: Field required"
    if not turns:
        return "messages: at least one message is required"
    if turns[0].get("role") != "user":
        return "messages: first message must use the user role"
    if not all(turn.get("role") in ("user", "assistant") and turn.get("content") for turn in turns):
        return "messages: all messages must have a role and non-empty content"
    return None


def _message(body: dict[str, Any], text: str) -> dict[str, Any]:
    said = [body["system"]] if body.get("system") else []
    said += [turn["content"] for turn in body["messages"]]
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": sum(count_tokens(text_of(one)) for one in said), "output_tokens": count_tokens(text)},
    }


def read_answers(path: Path) -> dict[str, str]:
    """The answers in a JSONL file with one {query, response} a line."""
    return dict(_rows(path))


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                yield row["query"], row["response"]


def main() -> None:
    """Serve until SIGTERM or SIGINT; the first line of output is the URL."""
    parser = argparse.ArgumentParser(description="A local stand-in for the Messages API.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answers", type=Path, help="JSONL rows {query, response}; other queries get a generic answer")
    parser.add_argument("--fault", choices=get_args(Fault), default="ok")
    given = parser.parse_args()
    # Blocked before the threads start, so that none of them takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with FakeClaude(read_answers(given.answers) if given.answers else None, fault=given.fault, port=given.port) as fake:
        print(fake.url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
