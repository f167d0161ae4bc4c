"""What is refused before anybody thinks about it: other names, other sites, no token, too much, too slow, two lengths."""

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.listening import AUTHORIZED, TOKEN, Listening, read_all, request_bytes
from fakes.versions import QUESTION, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.http.guard import Rules, allowed, meant, refusal
from shammah_runtime.http.telling import Problem

Serving = Callable[..., Listening]
JSON = {**AUTHORIZED, "content-type": "application/json"}
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BODY = {"model": "shammah", "max_tokens": 20, "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture
def server(tiny: Tiny, home: Home, serving: Serving) -> Listening:
    tiny.publish(home)
    return serving(offline=True, http={"body_bytes": 2000, "body_seconds": 0.3, "header_seconds": 0.3})


@pytest.fixture
def refused(server: Listening, home: Home) -> Callable[..., Any]:
    """Ask, and see that it is refused, in the API's own shape, and that nothing came of it."""

    def ask(path: str, status: int, headers: dict[str, str], body: Any = BODY) -> Any:
        answer = server.ask("POST", path, body, headers)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert not any(name.startswith("access-control") for name in answer.headers)
        told = answer.json
        assert told.get("type") == ("error" if path == MESSAGES else None)
        assert TOKEN not in answer.body.decode()
        assert ExchangeLog(home).recent() == []
        return told["error"]

    return ask


def hung_up() -> Any:
    """A connection that is dropped may end by a reset."""
    return contextlib.suppress(ConnectionResetError)


# -- names and sites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8484", "127.0.0.1.evil.example", "0.0.0.0", "192.168.1.7", "", "[::2]"]
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_name_that_was_bound_to_this_machine_is_refused(refused: Callable[..., Any], host: str, path: str) -> None:
    assert "not known under that name" in refused(path, 421, {**JSON, "host": host})["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8484", "LOCALHOST:8484", "localhost."])
def test_the_machines_own_names_are_let_through(server: Listening, host: str) -> None:
    assert server.ask("POST", CHAT, BODY, {**JSON, "host": host}).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://", ""])
def test_a_page_of_another_site_may_not_ask(refused: Callable[..., Any], origin: str) -> None:
    refused(CHAT, 403, {**JSON, "origin": origin})


def test_a_page_of_this_server_may(server: Listening) -> None:
    assert server.ask("POST", CHAT, BODY, {**JSON, "origin": server.url}).status == 200


def test_a_preflight_grants_nothing(server: Listening) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = server.ask("OPTIONS", CHAT, None, asked)
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_form_is_no_request(refused: Callable[..., Any]) -> None:
    # What a page can send anywhere without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused(CHAT, 415, {**AUTHORIZED, "content-type": kind})


def test_a_public_server_is_known_by_its_addresses_and_the_names_it_was_given() -> None:
    closed, public = Rules(TOKEN), Rules(TOKEN, frozenset({"shammah.example"}), public=True)
    assert [meant(public, name) for name in ("10.0.0.7:8484", "[fe80::1]:80", "shammah.example", "evil.example")] == [
        True,
        True,
        True,
        False,
    ]
    assert not meant(closed, "10.0.0.7:8484")


# -- the token --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"x-api-key": TOKEN.upper()},
        {"cookie": f"token={TOKEN}"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/feedback"])
def test_without_the_token_nothing_is_answered(refused: Callable[..., Any], headers: dict[str, str], path: str) -> None:
    refused(path, 401, {"content-type": "application/json", **headers})


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/openapi.json", "/", "/nothing", "/healthz/", "//healthz"])
def test_without_the_token_nothing_is_told(server: Listening, path: str) -> None:
    answer = server.ask("GET", path, headers={})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_whether_it_is_there_is_told_to_anybody_on_the_machine(server: Listening) -> None:
    answer = server.ask("GET", "/healthz", headers={})
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer {TOKEN}"}, {"x-api-key": TOKEN}]
)
def test_the_token_is_taken_from_either_header(server: Listening, headers: dict[str, str]) -> None:
    assert server.ask("GET", "/v1/models", headers=headers).status == 200


@given(st.text(max_size=40))
def test_no_other_text_is_the_token(shown: str) -> None:
    assert not allowed(TOKEN, {"x-api-key": [shown], "authorization": [f"Bearer {shown}"]})


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused(refused: Callable[..., Any]) -> None:
    assert "larger than 2000 bytes" in refused(CHAT, 413, JSON, {**BODY, "user": "x" * 2000})["message"]


def test_a_body_that_turns_out_too_large_is_refused(server: Listening) -> None:
    with server.connect() as connection:
        chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
        head = request_bytes(CHAT, b"", f"Host: 127.0.0.1:{server.port}", "Transfer-Encoding: chunked")
        connection.sendall(head + 3 * chunk + b"0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999", "5, 6"])
def test_a_length_that_is_none_is_refused(server: Listening, length: str) -> None:
    with server.connect() as connection:
        connection.sendall(request_bytes(CHAT, b"", f"Host: 127.0.0.1:{server.port}", f"Content-Length: {length}"))
        assert read_all(connection).split()[1] in (b"400", b"413")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked", "Content-Length: 5"],
    ],
)
def test_a_request_that_two_servers_would_read_differently_is_refused(server: Listening, home: Home, lines: list[str]) -> None:
    hidden = request_bytes(CHAT, b"", "Host: localhost", "Content-Length: 0")
    with server.connect() as connection:
        connection.sendall(request_bytes(CHAT, b"0\r\n\r\n" + hidden, f"Host: 127.0.0.1:{server.port}", *lines))
        answer = read_all(connection)
    # One refusal, and then the connection is closed: the hidden request is never answered.
    assert answer.split()[1] in (b"400", b"501")
    assert answer.count(b"HTTP/1.1") == 1
    assert ExchangeLog(home).recent() == []


@pytest.mark.parametrize("hosts", [[], ["Host: localhost", "Host: localhost"]])
def test_a_request_names_its_host_once(server: Listening, hosts: list[str]) -> None:
    body = json.dumps(BODY).encode()
    with server.connect() as connection:
        connection.sendall(request_bytes(CHAT, body, *hosts, f"Content-Length: {len(body)}"))
        assert read_all(connection).split()[1] in (b"400", b"421")


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc"])
def test_a_head_that_does_not_end_is_hung_up_on(server: Listening, sent: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        with hung_up():
            assert read_all(connection) == b""


def test_a_kept_connection_gets_no_more_time_for_its_second_head(server: Listening) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        with hung_up():
            while connection.recv(65536):
                pass


def test_a_body_that_does_not_end_is_refused(server: Listening) -> None:
    with server.connect() as connection:
        connection.sendall(request_bytes(CHAT, b"{", f"Host: 127.0.0.1:{server.port}", "Content-Length: 100"))
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_more_connections_than_may_be_are_dropped(serving: Serving, home: Home) -> None:
    server = serving(offline=True, http={"connections": 2})
    with server.connect() as one, server.connect() as two:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        two.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200")
        assert two.recv(100).startswith(b"HTTP/1.1 200")
        with server.connect() as three, hung_up():
            assert read_all(three) == b""
    assert server.ask("GET", "/healthz", headers={}).status == 200


def test_who_takes_nothing_in_is_hung_up_on(home: Home, claude: Any, serving: Serving) -> None:
    claude.answers = lambda _: " ".join(["x" * 100_000] * 1000)
    server = serving(http={"write_seconds": 0.2})
    body = json.dumps({**BODY, "stream": True}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.settimeout(60.0)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request_bytes(CHAT, body, "Host: localhost", f"Content-Length: {len(body)}"))
        # The query ends although its client never reads, long before the answer does.
        assert claude.hung_up.wait(60.0)


# -- the rules alone --------------------------------------------------------------------------------------------------


def test_a_refusal_comes_before_the_token_is_looked_at() -> None:
    headers = [(b"host", b"evil.example"), (b"authorization", f"Bearer {TOKEN}".encode())]
    found = refusal(Rules(TOKEN), "GET", "/v1/models", headers)
    assert isinstance(found, Problem)
    assert found.kind == "host"
    assert refusal(Rules(TOKEN), "GET", "/healthz", [(b"host", b"localhost")]) is None
