"""A server of an open model, as any that speaks OpenAI's chat completions: streams answers, and fails on request."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

Fault = Literal[
    "ok", "unauthorized", "quota", "overloaded", "echo_key", "html", "malformed", "wrong_types", "no_end", "error", "cut"
]
# fault: (HTTP status, error type)
STATUS: dict[Fault, tuple[int, str]] = {
    "unauthorized": (401, "invalid_request_error"),
    "quota": (429, "insufficient_quota"),
    "overloaded": (503, "server_error"),
    "echo_key": (400, "invalid_request_error"),
}


class OpenModel:
    """The server: set `fault` before a request, find the body and the headers of each POST in `requests`."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.fault: Fault = "ok"
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="open-model")
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, fake: OpenModel) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep test output clean."""

    def do_POST(self) -> None:
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.requests.append((headers, body))
        if self.path != "/v1/chat/completions":
            self._whole(404, {"error": {"message": "no such path", "type": "not_found_error"}})
        elif fake.fault in STATUS:
            status, kind = STATUS[fake.fault]
            said = f"no: {headers.get('authorization', '')}" if fake.fault == "echo_key" else "fake"
            self._whole(status, {"error": {"message": said, "type": kind}})
        else:
            self._stream(fake.fault)

    def _whole(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(data))), ("connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def _stream(self, fault: Fault) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        if fault == "html":
            self._chunk(b"<html>Sign in</html>\n\n")
            self._chunk(b"")
            return
        words = self.server.fake.answer.split(" ")
        self._event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
        for n, word in enumerate(words):
            if n == len(words) // 2 and self._fails(fault):
                return
            self._event(choices=[{"index": 0, "delta": {"content": word if n == 0 else f" {word}"}}])
        if fault != "no_end":
            self._event(choices=[{"index": 0, "content_filter_offsets": {"start": 0}, "finish_reason": None}])
            self._event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
            self._event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": len(words)})
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _fails(self, fault: Fault) -> bool:
        """Do what the fault wants in mid-answer; whether that ends it."""
        if fault == "malformed":
            self._chunk(b'data: {"choices": [\n\n')
        elif fault == "wrong_types":
            self._event(choices=[{"index": 0, "delta": {"content": 7}}])
        elif fault == "error":
            self._event(error={"message": "out of memory", "type": "server_error"})
        elif fault != "cut":
            return False
        if fault != "cut":
            self._chunk(b"")
        return True

    def _event(self, **fields: Any) -> None:
        # As letters, as most of them send them.
        self._chunk(f"data: {json.dumps({'model': 'open-1', **fields}, ensure_ascii=False)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
