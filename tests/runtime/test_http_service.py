"""Many queries at once, and their ends: a full house, a busy engine, clients that leave, a server that is told to end."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fakes.claude import GENERIC_ANSWER, FakeClaude
from fakes.listening import TOKEN, Answered, Listening, read_all, request_bytes
from fakes.versions import ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.http.asking import Wanted
from shammah_runtime.http.service import Job, Outcome
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import Proposal, Query

Serving = Callable[..., Listening]
CHAT = "/v1/chat/completions"


class Engine:
    """The neural tier of a test: it begins, and answers once it is let or no longer wanted."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let = threading.Event()
        self.stopped = threading.Event()
        self.propose = NeuralTier.propose

    def __call__(self, tier: NeuralTier, query: Query) -> Proposal:
        self.begun.release()
        while not self.let.wait(0.01):
            if query.stop.asked():
                self.stopped.set()
                break
        return self.propose(tier, query)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    held = Engine()
    monkeypatch.setattr(NeuralTier, "propose", lambda tier, query: held(tier, query))
    yield held
    held.let.set()


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def rows(home: Home) -> list[dict[str, Any]]:
    return list(reversed(ExchangeLog(home).recent()))


def post(server: Listening, **fields: Any) -> bytes:
    body = json.dumps({"model": "shammah", "messages": [{"role": "user", "content": TAUGHT}], **fields}).encode()
    return request_bytes(CHAT, body, "Host: localhost", f"Content-Length: {len(body)}")


# -- many at once -----------------------------------------------------------------------------------------------------


def test_every_one_of_many_answers_is_in_the_log(
    tiny: Tiny, home: Home, serving: Serving, crowd: ThreadPoolExecutor, warnings: list[str]
) -> None:
    tiny.publish(home)
    server = serving(offline=True)
    found = list(crowd.map(lambda number: server.complete(f"{QUESTION} {number}"), range(60)))
    assert {answer.status for answer in found} == {200}
    kept = ExchangeLog(home).recent(100)
    assert {str(row["id"]) for row in kept} == {answer.headers["x-shammah-exchange"] for answer in found}
    assert len(kept) == 60
    assert warnings == []


def test_a_busy_engine_leaves_the_question_to_the_next_tier(
    tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving, engine: Engine, crowd: ThreadPoolExecutor
) -> None:
    tiny.publish(home)
    server = serving(engine_wait=0.05)
    first = crowd.submit(server.complete, QUESTION)
    assert engine.begun.acquire(timeout=30.0)
    second = server.complete(TAUGHT)
    assert second.json["choices"][0]["message"]["content"] == TAUGHT_ANSWER
    assert second.json["shammah"]["attempts"][0]["reason"] == "busy"
    assert not first.done()
    engine.let.set()
    assert first.result(30.0).json["choices"][0]["message"]["content"] == ANSWER


def test_a_busy_engine_and_nobody_else_to_ask_is_said_to_be_busy(
    tiny: Tiny, home: Home, serving: Serving, engine: Engine, crowd: ThreadPoolExecutor
) -> None:
    tiny.publish(home)
    server = serving(offline=True, engine_wait=0.05)
    first = crowd.submit(server.complete, QUESTION)
    assert engine.begun.acquire(timeout=30.0)
    answer = server.complete(QUESTION)
    assert (answer.status, answer.headers["retry-after"], answer.json["error"]["code"]) == (503, "1", "busy")
    engine.let.set()
    assert first.result(30.0).status == 200


def test_a_full_house_refuses_and_has_room_again(
    tiny: Tiny, home: Home, serving: Serving, engine: Engine, crowd: ThreadPoolExecutor
) -> None:
    tiny.publish(home)
    server = serving(offline=True, http={"queue": 1})
    first = crowd.submit(server.complete, QUESTION)
    assert engine.begun.acquire(timeout=30.0)
    for stream in (False, True):
        answer = server.complete(QUESTION, stream=stream)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    theirs = server.ask("POST", "/v1/messages", {"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]})
    assert (theirs.status, theirs.json["error"]["type"]) == (503, "overloaded_error")
    # What needs no engine is answered all the same.
    assert server.ask("GET", "/healthz").status == 200
    assert b"shammah_http_under_way 1.0" in server.ask("GET", "/metrics").body
    engine.let.set()
    assert first.result(30.0).status == 200
    assert server.complete(QUESTION).status == 200


# -- clients that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_ends_the_models_answer(
    tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving, engine: Engine, stream: bool
) -> None:
    tiny.publish(home)
    server = serving()
    with server.connect() as connection:
        connection.sendall(post(server, stream=stream))
        assert engine.begun.acquire(timeout=30.0)
    assert engine.stopped.wait(30.0)
    server.end()
    # Nothing was shown: nothing is logged, and nobody else is asked.
    assert rows(home) == []
    assert claude.calls == 0


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_ends_the_teachers_answer(home: Home, claude: FakeClaude, serving: Serving, stream: bool) -> None:
    claude.fault = "stall"
    server = serving()
    with server.connect() as connection:
        connection.sendall(post(server, stream=stream))
        if stream:
            assert b"200 OK" in connection.recv(65536)
        else:
            while claude.calls == 0:
                assert server.ask("GET", "/healthz").status == 200
    assert claude.hung_up.wait(30.0)
    server.end()
    # What had come is kept as incomplete, and never trained on.
    assert all(not row["complete"] and TAUGHT_ANSWER.startswith(row["answer"]) for row in rows(home))
    assert ExchangeLog(home).learnable_count() == 0


# -- the end ----------------------------------------------------------------------------------------------------------


def test_what_is_under_way_may_finish(
    tiny: Tiny, home: Home, serving: Serving, engine: Engine, crowd: ThreadPoolExecutor
) -> None:
    tiny.publish(home)
    server = serving(offline=True, http={"grace_seconds": 60.0})
    first = crowd.submit(server.complete, QUESTION)
    assert engine.begun.acquire(timeout=30.0)
    server.server.should_exit = True
    engine.let.set()
    assert first.result(30.0).json["choices"][0]["message"]["content"] == ANSWER
    server.end()
    assert [row["answer"] for row in rows(home)] == [ANSWER]


def test_what_does_not_finish_in_time_is_stopped_and_said_so(
    tiny: Tiny, home: Home, serving: Serving, engine: Engine, crowd: ThreadPoolExecutor
) -> None:
    tiny.publish(home)
    server = serving(offline=True, http={"grace_seconds": 0.05})
    first = crowd.submit(server.complete, QUESTION)
    assert engine.begun.acquire(timeout=30.0)
    server.end()
    answer: Answered = first.result(30.0)
    assert (answer.status, answer.json["error"]["code"]) == (503, "ending")
    assert engine.stopped.is_set()


def test_a_stream_that_is_stopped_says_so(home: Home, claude: FakeClaude, serving: Serving) -> None:
    claude.fault = "stall"
    server = serving(http={"grace_seconds": 0.05})
    with server.connect() as connection:
        connection.sendall(post(server, stream=True))
        came = connection.recv(65536)
        server.end()
        came += read_all(connection)
    assert b"the server is ending" in came
    assert b"[DONE]" not in came
    (row,) = rows(home)
    assert not row["complete"]


# -- faults of ours ---------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_shows_no_traceback_and_ends_nothing(
    tiny: Tiny, home: Home, serving: Serving, warnings: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    tiny.publish(home)
    server = serving(offline=True)

    def broken(_: NeuralTier, query: Query) -> Proposal:
        raise LookupError("secret of the inside")

    with monkeypatch.context() as patch:
        patch.setattr(NeuralTier, "propose", broken)
        for stream in (False, True):
            answer = server.complete(QUESTION, stream=stream)
            assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
            assert b"secret" not in answer.body
    assert warnings == ["internal error (LookupError); SHAMMAH_DEBUG=1 shows where"] * 2
    assert "Traceback" not in capfd.readouterr().err
    assert server.complete(QUESTION).status == 200


def test_a_fault_in_a_path_shows_no_traceback(
    home: Home, serving: Serving, warnings: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    server = serving(offline=True)

    def broken() -> dict[str, Any]:
        raise LookupError("secret of the inside")

    monkeypatch.setattr("shammah_runtime.http.app.description", broken)
    answer = server.ask("GET", "/openapi.json")
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body
    server.end()
    assert warnings == ["internal error (LookupError); SHAMMAH_DEBUG=1 shows where"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_path_that_is_not_there_says_so_in_the_apis_shape(home: Home, serving: Serving) -> None:
    server = serving(offline=True)
    ours, theirs = server.ask("GET", "/v1/nothing"), server.ask("POST", "/v1/messages/count_tokens", {})
    assert (ours.status, ours.json["error"]["code"]) == (404, "not_found")
    assert (theirs.status, theirs.json["type"], theirs.json["error"]["type"]) == (404, "error", "not_found_error")
    assert server.ask("GET", CHAT).status == 405


def test_one_model_and_both_ways_to_show_the_token_are_described(home: Home, serving: Serving) -> None:
    server = serving(offline=True)
    told = server.ask("GET", "/openapi.json").json
    (parameter,) = told["paths"]["/v1/models/{name}"]["get"]["parameters"]
    for name in parameter["schema"]["examples"]:
        assert server.ask("GET", f"/v1/models/{name}").json["id"] == name
    bearer, key = (told["components"]["securitySchemes"][name] for (name,) in told["security"])
    assert bearer == {"type": "http", "scheme": "bearer"}
    assert (key["type"], key["in"]) == ("apiKey", "header")
    assert server.ask("GET", "/v1/models", headers={key["name"]: TOKEN}).status == 200


def test_a_log_that_cannot_be_written_costs_no_answer(home: Home, claude: FakeClaude, serving: Serving) -> None:
    server = serving(no_log=True)
    assert server.complete("Anything?").json["choices"][0]["message"]["content"] == GENERIC_ANSWER
    assert rows(home) == []


def test_text_that_a_client_does_not_take_in_is_not_kept_without_bound() -> None:
    async def unread() -> tuple[Job, int]:
        job = Job(asyncio.get_running_loop(), Wanted(Query("How long?")))
        for _ in range(64):
            job.put("x" * 2**16)
        job.put(Outcome())
        read = 0
        while isinstance(piece := await job.next(), str):
            read += len(piece)
        return job, read

    job, read = asyncio.run(unread())
    assert job.stop.asked()
    assert 2**20 <= read < 2**21


def test_text_that_is_read_as_it_comes_is_never_cut() -> None:
    async def drained() -> tuple[Job, int]:
        job = Job(asyncio.get_running_loop(), Wanted(Query("How long?")))
        read = 0
        for _ in range(64):
            job.put("x" * 2**16)
            read += len(str(await job.next()))
        return job, read

    job, read = asyncio.run(drained())
    assert not job.stop.asked()
    assert read == 2**22
