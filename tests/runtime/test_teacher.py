"""The teacher against a Claude on this machine, through the real SDK: answers, every fault, deadlines, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from fakes.claude import GENERIC_ANSWER, FakeClaude, Fault
from shammah_data.errors import TeacherError
from shammah_data.exchange import Message
from shammah_runtime.prices import PRICES
from shammah_runtime.stopping import Stop
from shammah_runtime.teacher import Asking, Teacher, TeacherReply, TeacherSettings

KEY = "sk-ant-test-0123456789-not-a-real-key"
QUERY = "How do I reset my PIN?"
ANSWER = "Open the app, choose Cards, then Reset PIN. — Übrigens: it takes a minute."
SLACK = 5.0  # a loaded machine; what it must catch hangs for far longer


@pytest.fixture
def fake() -> Iterator[FakeClaude]:
    with FakeClaude({QUERY: ANSWER, "nihao": "你好 🙂"}) as running:
        yield running
    for thread in threading.enumerate():
        if thread.name == "shammah-teacher":
            thread.join(SLACK)
            assert not thread.is_alive(), "a request outlived its server"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)


class Asked:
    """One question put, and all that is to be seen of it from outside."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.slept: list[float] = []
        self.elapsed = 0.0

    def ask(self, url: str, query: str = QUERY, **settings: Any) -> TeacherReply:
        client = settings.pop("http_client", None)
        key = settings.pop("key", KEY)
        chosen = TeacherSettings(**{"model": "claude-haiku-4-5", "base_url": url, **settings})
        teacher = Teacher(chosen, key, http_client=client, sleep=self.slept.append)
        began = time.monotonic()
        try:
            return teacher.ask([Message("user", query)], self.seen.append)
        finally:
            self.elapsed = time.monotonic() - began

    @property
    def waited(self) -> float:
        """Seconds between the two requests."""
        return round(sum(self.slept), 6)

    def fails(self, url: str, **settings: Any) -> TeacherError:
        with pytest.raises(TeacherError) as caught:
            self.ask(url, **settings)
        error = caught.value
        message = str(error)
        assert KEY not in message
        assert message.isprintable()
        assert 0 < len(message) <= 300
        assert error.partial == "".join(self.seen)
        return error


@pytest.fixture
def asked() -> Asked:
    return Asked()


# --- answers


def test_streams_the_answer_piece_by_piece_and_counts_it(fake: FakeClaude, asked: Asked) -> None:
    reply = asked.ask(fake.url, system="Be brief.")
    assert reply.text == "".join(asked.seen) == ANSWER
    assert len(asked.seen) > 5
    assert (reply.complete, reply.stop_reason, reply.model) == (True, "end_turn", "claude-haiku-4-5")
    assert (reply.input_tokens, reply.output_tokens) == (8, 14)
    assert reply.cost_usd == pytest.approx((8 * 1.0 + 14 * 5.0) / 1e6)
    assert 0.0 < reply.latency_ms <= asked.elapsed * 1000.0


def test_sends_the_whole_conversation_with_key_limit_and_system(fake: FakeClaude) -> None:
    turns = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", QUERY)]
    settings = TeacherSettings("claude-sonnet-4-6", max_tokens=77, system="Be brief.", base_url=fake.url)
    assert Teacher(settings, f"  {KEY}\n").ask(turns, lambda _: None).text == ANSWER
    (request,) = fake.requests
    assert request.key == KEY
    assert request.body == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 77,
        "system": "Be brief.",
        "stream": True,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": QUERY},
        ],
    }


def test_sends_no_system_prompt_when_there_is_none(fake: FakeClaude, asked: Asked) -> None:
    asked.ask(fake.url, system="")
    assert "system" not in fake.requests[0].body


def test_any_script_survives(fake: FakeClaude, asked: Asked) -> None:
    assert asked.ask(fake.url, query="nihao").text == "你好 🙂"


def test_no_question_is_traced(fake: FakeClaude, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK hands its calls to whatever collects traces, and what is said with them where this is set.
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE", "content")
    traced: list[object] = []
    monkeypatch.setattr("opentelemetry.trace.get_tracer", lambda *given, **_: traced.append(given))
    assert asked.ask(fake.url).text == ANSWER
    assert traced == []


def test_base_url_comes_from_the_environment(fake: FakeClaude, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
    assert asked.ask(url="", base_url=None).text == ANSWER
    assert fake.calls == 1


def test_thinking_is_not_shown(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "thinking"
    reply = asked.ask(fake.url)
    assert reply.text == "".join(asked.seen) == ANSWER


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
def test_an_answer_cut_short_is_a_reply_but_not_complete(fake: FakeClaude, asked: Asked, reason: Fault) -> None:
    fake.fault = reason
    reply = asked.ask(fake.url)
    assert (reply.text, reply.complete, reply.stop_reason) == (ANSWER, False, reason)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("claude-haiku-4-5", 78e-6),
        ("claude-haiku-4-5-20251001", 78e-6),
        ("claude-opus-5", 390e-6),
        ("claude-opus-5-5", 312e-6),  # not priced as a claude-opus-5
        ("claude-opus-5-9", None),
        ("claude-unheard-of", None),
    ],
)
def test_cost_is_that_of_the_model_or_unknown(fake: FakeClaude, asked: Asked, model: str, usd: float | None) -> None:
    reply = asked.ask(fake.url, model=model, system="Be brief.", prices=PRICES)
    assert reply.cost_usd == (usd if usd is None else pytest.approx(usd))


def test_an_answer_of_which_no_tokens_are_told_is_one(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "no_usage"
    reply = asked.ask(fake.url)
    assert (reply.text, reply.complete) == (ANSWER, True)
    assert (reply.input_tokens, reply.output_tokens, reply.cost_usd) == (None, None, None)


def test_prices_are_the_callers_to_set(fake: FakeClaude, asked: Asked) -> None:
    reply = asked.ask(fake.url, system="Be brief.", prices=(("claude-haiku-4-5", 1e6, 0.0),))
    assert reply.cost_usd == pytest.approx(8.0)


# --- faults before the answer: what is said, how often it is asked


@pytest.mark.parametrize(
    ("fault", "calls", "said"),
    [
        ("unauthorized", 1, "Claude refused the API key (401): check ANTHROPIC_API_KEY"),
        ("rate_limited", 1, "Claude is rate limited (429): it asks to wait 86400 s"),
        ("overloaded", 2, "Claude is overloaded (529): ask again in a minute"),
        ("server_error", 2, "Claude had an error of its own (500): ask again"),
        ("redirect", 1, "sends elsewhere, which is not followed (307): check ANTHROPIC_BASE_URL"),
        ("html", 1, "is not a Claude answer: check ANTHROPIC_BASE_URL"),
    ],
)
def test_a_refused_request_is_explained(fake: FakeClaude, asked: Asked, fault: Fault, calls: int, said: str) -> None:
    fake.fault = fault
    error = asked.fails(fake.url)
    assert said in str(error)
    assert error.partial == ""
    assert fake.calls == calls
    assert asked.waited == 0.5 * (calls - 1)


@pytest.mark.parametrize(
    ("fault", "slept"),
    [
        ("overloaded_once", 0.5),
        ("rate_limited_once", 1.0),
        ("reset_once", 0.5),
        ("early_error_event_once", 0.5),
    ],
)
def test_one_passing_fault_is_survived(fake: FakeClaude, asked: Asked, fault: Fault, slept: float) -> None:
    fake.fault = fault
    reply = asked.ask(fake.url)
    assert reply.text == "".join(asked.seen) == ANSWER
    assert asked.waited == slept
    assert fake.calls == 2


@pytest.mark.parametrize(
    ("header", "calls", "slept"),
    [
        ("0", 2, 0.0),
        ("5", 2, 5.0),
        ("5.5", 1, 0.0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 2, 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1, 0.0),
        ("nan", 2, 0.5),
        ("soon", 2, 0.5),
    ],
)
def test_retry_after_is_obeyed_only_when_small(fake: FakeClaude, asked: Asked, header: str, calls: int, slept: float) -> None:
    fake.fault, fake.retry_after_once = "rate_limited_once", header
    if calls == 2:
        assert asked.ask(fake.url).text == ANSWER
    else:
        assert "asks to wait" in str(asked.fails(fake.url))
    assert (fake.calls, asked.waited) == (calls, slept)


def test_no_retry_that_would_end_after_the_deadline(fake: FakeClaude, asked: Asked) -> None:
    fake.fault, fake.retry_after_once = "rate_limited_once", "5"
    assert "(429)" in str(asked.fails(fake.url, first_token_seconds=4.9))
    assert (fake.calls, asked.slept) == (1, [])


def test_a_wish_to_stop_ends_the_wait_for_the_second_request(fake: FakeClaude) -> None:
    fake.fault, fake.retry_after_once = "rate_limited_once", "5"
    stop = Stop()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        stop.ask()

    teacher = Teacher(TeacherSettings("claude-haiku-4-5", base_url=fake.url), KEY, sleep=sleep)
    with pytest.raises(InterruptedError):
        teacher.ask([Message("user", QUERY)], print, Asking(stop=stop))
    assert sum(slept) < 1.0
    assert fake.calls == 1


def test_a_closed_port_is_tried_twice_and_named(asked: Asked) -> None:
    with socket.socket() as taken:  # bound and not listening: refused, and nobody else can take it
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = asked.fails(f"http://user:secret@{address}")
    assert f"Claude cannot be reached at http://{address} " in str(error)
    assert "secret" not in str(error)
    assert "refused" in str(error)
    assert "ANTHROPIC_BASE_URL" in str(error)
    assert asked.waited == 0.5


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://127.0.0.1:notaport", "no url"])
def test_an_address_that_is_none_is_an_error_of_one_line(asked: Asked, url: str) -> None:
    assert "check" in str(asked.fails(url))
    assert asked.slept == []


def test_a_key_that_the_server_echoes_stays_secret(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "echo_key"
    message = str(asked.fails(fake.url))
    assert "no good" in message
    assert KEY[:12] not in message


def test_a_request_the_service_rejects_says_why(fake: FakeClaude, asked: Asked) -> None:
    message = str(asked.fails(fake.url, query=""))
    assert "(400)" in message
    assert "non-empty content" in message


def test_an_error_caused_by_the_sdk_keeps_its_cause(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "unauthorized"
    assert isinstance(asked.fails(fake.url).__cause__, anthropic.AuthenticationError)


# --- faults in mid-answer: the partial text is kept, and nothing is asked twice


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error_event", "Claude is overloaded (overloaded_error in mid-answer)"),
        ("cut", "The connection to Claude broke in mid-answer"),
        ("no_stop", "Claude's answer broke off before its end"),
        ("no_stop_reason", "Claude's answer broke off before its end"),
        ("malformed", "is not a Claude answer (JSONDecodeError)"),
        ("wrong_types", "is not a Claude answer (TypeError)"),
    ],
)
def test_a_broken_answer_is_an_error_that_keeps_the_text(fake: FakeClaude, asked: Asked, fault: Fault, said: str) -> None:
    fake.fault = fault
    error = asked.fails(fake.url)
    assert said in str(error)
    assert error.partial.startswith("Open the app, ")
    assert ANSWER.startswith(error.partial)
    assert fake.calls == 1


def test_an_empty_answer_is_an_error(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "empty"
    assert "holds no text (end_turn)" in str(asked.fails(fake.url))
    assert fake.calls == 1


def test_an_answer_of_blanks_is_an_empty_one(asked: Asked) -> None:
    with FakeClaude(lambda _: " \n ") as blank:
        assert "no text" in str(asked.fails(blank.url))


# --- deadlines


@pytest.mark.parametrize(
    ("fault", "limit", "partial", "said"),
    [
        ("slow_headers", "first_token_seconds", False, "sent nothing within 1 s"),
        ("pings", "first_token_seconds", False, "sent nothing within 1 s"),
        ("stall", "total_seconds", True, "did not finish within 2 s"),
    ],
)
def test_a_stall_ends_at_the_deadline_and_hangs_up(
    fake: FakeClaude, asked: Asked, fault: Fault, limit: str, partial: bool, said: str
) -> None:
    fake.fault = fault
    seconds = 2.0 if partial else 1.0
    error = asked.fails(fake.url, **{limit: seconds})
    assert said in str(error)
    assert f"teacher.{limit}" in str(error)
    assert bool(error.partial) is partial
    assert seconds <= asked.elapsed < seconds + SLACK
    assert fake.hung_up.wait(SLACK), "the connection was left open"
    assert fake.calls == 1


def test_the_first_deadline_ends_with_the_first_text(fake: FakeClaude) -> None:
    ahead = [0.0]

    def show(_: str) -> None:
        ahead[0] = 25.0

    settings = TeacherSettings("m", base_url=fake.url, first_token_seconds=20.0, total_seconds=60.0)
    teacher = Teacher(settings, KEY, clock=lambda: time.monotonic() + ahead[0])
    assert teacher.ask([Message("user", QUERY)], show).text == ANSWER


def test_the_deadline_covers_both_requests(fake: FakeClaude) -> None:
    """The second request gets what the first and the wait left over, not a deadline of its own."""
    ahead = [0.0]

    def sleep(_: float) -> None:  # the machine was suspended meanwhile
        ahead[0] = 29.5
        fake.fault = "slow_headers"

    fake.fault = "overloaded"
    settings = TeacherSettings("m", base_url=fake.url, first_token_seconds=30.0, total_seconds=30.0)
    teacher = Teacher(settings, KEY, clock=lambda: time.monotonic() + ahead[0], sleep=sleep)
    began = time.monotonic()
    with pytest.raises(TeacherError, match="did not finish within 30 s"):
        teacher.ask([Message("user", QUERY)], lambda _: None)
    assert time.monotonic() - began < 0.5 + SLACK
    assert fake.calls == 2


# --- leaving early


def test_ctrl_c_while_waiting_ends_the_question_at_once(fake: FakeClaude, asked: Asked) -> None:
    fake.fault = "stall"
    waiting = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        if waiting.wait(SLACK):
            signal.pthread_kill(main, signal.SIGINT)

    def show(text: str) -> None:
        asked.seen.append(text)
        waiting.set()

    teacher = Teacher(TeacherSettings("m", base_url=fake.url), KEY)
    presser = threading.Thread(target=press)
    presser.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        teacher.ask([Message("user", QUERY)], show)
    assert time.monotonic() - began < SLACK
    presser.join()
    assert asked.seen[0] == "Open "
    assert fake.hung_up.wait(SLACK), "the connection was left open"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal at a moment that is set")
def test_a_wish_to_stop_from_a_signal_is_heeded_however_long_its_handler_takes(fake: FakeClaude) -> None:
    """On a busy machine a handler begins late and outlasts the short wait that it interrupts."""
    stop = Stop()
    fake.fault = "stall"

    def press(*_: object) -> None:
        time.sleep(0.3)
        stop.ask()

    def show(_: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    before = signal.signal(signal.SIGALRM, press)
    try:
        teacher = Teacher(TeacherSettings("m", base_url=fake.url, first_token_seconds=5.0, total_seconds=5.0), KEY)
        with pytest.raises(InterruptedError):
            teacher.ask([Message("user", QUERY)], show, Asking(stop=stop))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_an_error_of_the_one_who_shows_closes_the_stream(fake: FakeClaude) -> None:
    fake.fault = "stall"

    def show(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Teacher(TeacherSettings("m", base_url=fake.url), KEY).ask([Message("user", QUERY)], show)
    assert fake.hung_up.wait(SLACK), "the connection was left open"


# --- keys, the given transport, the import


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "no ANTHROPIC_API_KEY in the environment"),
        (" \n", "no ANTHROPIC_API_KEY in the environment"),
        ("sk-ant\nx: y", "ANTHROPIC_API_KEY holds characters that no key has"),
        ("schlüssel", "ANTHROPIC_API_KEY holds characters that no key has"),
    ],
)
def test_without_a_usable_key_nothing_is_asked(fake: FakeClaude, asked: Asked, key: str | None, reason: str) -> None:
    teacher = Teacher(TeacherSettings("m"), key)
    assert (teacher.available, teacher.unavailable_reason) == (False, reason)
    assert reason in str(asked.fails(fake.url, key=key))
    assert fake.calls == 0


def test_with_a_key_it_is_available() -> None:
    teacher = Teacher(TeacherSettings("m"), KEY)
    assert (teacher.available, teacher.unavailable_reason) == (True, None)


def test_a_given_http_client_is_used_and_left_open(fake: FakeClaude, asked: Asked) -> None:
    with anthropic.DefaultHttpxClient(headers={"x-from": "test"}) as client:
        assert asked.ask(fake.url, http_client=client).text == ANSWER
        assert not client.is_closed
    assert fake.requests[0].headers["x-from"] == "test"


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_only_warm_imports_the_sdk() -> None:
    made = "import sys; from shammah_runtime.teacher import *; t = Teacher(TeacherSettings('m'), 'k'); t.available; "
    assert _python(made + "print('anthropic' in sys.modules); t.warm(); print('anthropic' in sys.modules)") == ("False\nTrue")


def test_a_missing_sdk_is_an_error_of_one_line() -> None:
    code = """
import sys
sys.modules["anthropic"] = None
from shammah_data.errors import TeacherError
from shammah_data.exchange import Message
from shammah_runtime.teacher import Teacher, TeacherSettings
teacher = Teacher(TeacherSettings("m"), "sk-ant-test")
teacher.warm()
try:
    teacher.ask([Message("user", "hi")], print)
except TeacherError as error:
    print(error)
"""
    said = _python(code)
    assert said.startswith("The anthropic package cannot be imported")
    assert "\n" not in said


# --- the fake itself, as other tests use it


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=SLACK) as response:
        return json.load(response)


def test_the_fake_runs_as_a_process(tmp_path: Path, asked: Asked) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"query": QUERY, "response": ANSWER}) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "fakes.claude", "--port", "0", "--answers", str(answers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert asked.ask(url).text == ANSWER
            assert asked.ask(url, query="something else").text == GENERIC_ANSWER
            assert _get(f"{url}/_calls") == {"calls": 2}
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("answers", [{QUERY: ANSWER}, {QUERY: ANSWER}.__getitem__])
def test_the_fake_answers_without_streaming(answers: dict[str, str] | Callable[[str], str]) -> None:
    with (
        FakeClaude(answers) as fake,
        anthropic.Anthropic(api_key=KEY, base_url=fake.url, max_retries=0) as client,
    ):
        message = client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": QUERY}])
    assert [block.text for block in message.content if block.type == "text"] == [ANSWER]
    assert message.stop_reason == "end_turn"
