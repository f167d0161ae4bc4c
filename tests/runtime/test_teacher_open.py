"""A teacher behind OpenAI's chat completions: answers, faults, its key, and no SDK for it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fakes.open_model import Fault, OpenModel
from shammah_data.errors import TeacherError
from shammah_data.exchange import Message
from shammah_data.settings import TeacherSection
from shammah_runtime.hiring import key_of
from shammah_runtime.openai_shape import events, lines
from shammah_runtime.teacher import Teacher, TeacherSettings

KEY = "sk-open-0123456789-not-a-real-key"
ANSWER = "Open the app, choose Cards, then Reset PIN \u2014 \u4f60\u597d."
TURNS = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "How?")]


@pytest.fixture
def fake() -> Iterator[OpenModel]:
    with OpenModel(ANSWER) as running:
        yield running


def teacher(fake: OpenModel, key: str | None = KEY) -> Teacher:
    settings = TeacherSettings(
        "open-1", 77, "Be brief.", base_url=fake.url, kind="openai", prices=(("open-1", 1.0, 2.0),), failures=100
    )
    return Teacher(settings, key, sleep=lambda _: None)


def fails(fake: OpenModel, key: str | None = KEY) -> TeacherError:
    seen: list[str] = []
    with pytest.raises(TeacherError) as caught:
        teacher(fake, key).ask(TURNS, seen.append)
    message = str(caught.value)
    assert KEY[:10] not in message
    assert message.isprintable()
    assert message[0].isupper()
    assert caught.value.partial == "".join(seen)
    return caught.value


def test_it_streams_and_counts(fake: OpenModel) -> None:
    seen: list[str] = []
    reply = teacher(fake).ask(TURNS, seen.append)
    assert reply.text == "".join(seen) == ANSWER
    assert len([piece for piece in seen if piece]) > 5
    assert (reply.complete, reply.stop_reason, reply.model) == (True, "end_turn", "open-1")
    assert (reply.input_tokens, reply.output_tokens) == (9, len(ANSWER.split(" ")))
    assert reply.cost_usd == pytest.approx((9 * 1.0 + len(ANSWER.split(" ")) * 2.0) / 1e6)
    ((headers, body),) = fake.requests
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "open-1",
        "max_tokens": 77,
        "messages": [
            {"role": "system", "content": "Be brief."},
            *({"role": one.role, "content": one.content} for one in TURNS),
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_calls_itself_otherwise_costs_what_was_asked_for(fake: OpenModel) -> None:
    prices = (("open", 1.0, 2.0), ("other", 9.0, 9.0))
    reply = Teacher(TeacherSettings("open", base_url=fake.url, kind="openai", prices=prices), KEY).ask(TURNS, lambda _: None)
    assert reply.model == "open-1"
    assert reply.cost_usd == pytest.approx((9 * 1.0 + len(ANSWER.split(" ")) * 2.0) / 1e6)


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85"])
def test_a_letter_that_ends_a_line_elsewhere_is_one_of_the_answer(letter: str) -> None:
    with OpenModel(f"One{letter}two, three.") as fake:
        assert teacher(fake).ask(TURNS, lambda _: None).text == f"One{letter}two, three."


def test_a_server_that_wants_no_key_gets_none(fake: OpenModel) -> None:
    assert teacher(fake, None).ask(TURNS, lambda _: None).text == ANSWER
    assert "authorization" not in fake.requests[0][0]


@pytest.mark.parametrize(
    ("fault", "calls", "said"),
    [
        ("unauthorized", 1, "The teacher refused the API key (401): check SHAMMAH_TEACHER_KEY"),
        ("quota", 1, "The teacher reports a billing problem (429)"),
        ("overloaded", 2, "The teacher had an error of its own (503)"),
        ("echo_key", 1, "The teacher rejected the request (400)"),
        ("html", 1, "is not a teacher's answer: check teacher.base_url"),
    ],
)
def test_a_refused_request_is_explained(fake: OpenModel, fault: Fault, calls: int, said: str) -> None:
    fake.fault = fault
    error = fails(fake)
    assert said in str(error)
    assert error.partial == ""
    assert len(fake.requests) == calls


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("malformed", "is not a teacher's answer (JSONDecodeError)"),
        ("wrong_types", "is not a teacher's answer (TypeError)"),
        ("no_end", "The teacher's answer broke off before its end"),
        ("error", "The teacher had an error of its own (server_error in mid-answer): ask again [out of memory]"),
        ("cut", "The connection to the teacher broke in mid-answer"),
    ],
)
def test_a_broken_answer_is_an_error_that_keeps_the_text(fake: OpenModel, fault: Fault, said: str) -> None:
    fake.fault = fault
    error = fails(fake)
    assert said in str(error)
    assert error.partial
    assert ANSWER.startswith(error.partial)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://127.0.0.1:notaport"])
def test_an_address_that_nobody_is_at(url: str) -> None:
    settings = TeacherSettings("m", base_url=url, kind="openai")
    with pytest.raises(TeacherError, match=r"check .*teacher\.base_url"):
        Teacher(settings, KEY, sleep=lambda _: None).ask(TURNS, print)


def test_events_are_read_however_they_are_divided() -> None:
    lines = ["event: x", ": comment", "data: a", "data:b", "", "", "id: 1", "data: c", "", "data: cut off"]
    assert list(events(lines)) == ["a\nb", "c"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_end_as_events_have_them_however_they_are_divided(size: int) -> None:
    sent = "a\u2028b\r\nc\x85\n\r\rd\x0b\r\n\ne".encode()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert list(lines(pieces)) == ["a\u2028b", "c\x85", "", "", "d\x0b", "", "e"]


def test_its_key_comes_from_its_own_variable_first() -> None:
    section = TeacherSection(kind="openai", base_url="https://api.openai.com/v1")
    both = {"SHAMMAH_TEACHER_KEY": "mine", "OPENAI_API_KEY": "theirs", "ANTHROPIC_API_KEY": "claude's"}
    assert key_of(section, both) == "mine"
    assert key_of(section, {"OPENAI_API_KEY": "theirs", "ANTHROPIC_API_KEY": "claude's"}) == "theirs"
    assert key_of(section, {"ANTHROPIC_API_KEY": "claude's"}) is None
    assert key_of(TeacherSection(), both) == "claude's"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "https://example.org/v1", "https://notopenai.com/v1", "https://openai.com.example.org/v1",
     "http://api.openai.com/v1", "https://api.openai.com@example.org/v1", "https://[openai.com"],
)  # fmt: skip
def test_the_key_for_openai_goes_to_openai_only(url: str) -> None:
    section = TeacherSection(kind="openai", base_url=url)
    assert key_of(section, {"OPENAI_API_KEY": "theirs"}) is None
    assert key_of(section, {"OPENAI_API_KEY": "theirs", "SHAMMAH_TEACHER_KEY": "mine"}) == "mine"
    of_openai = TeacherSection(kind="openai", base_url="https://eu.api.openai.com/v1")
    assert key_of(of_openai, {"OPENAI_API_KEY": "theirs"}) == "theirs"


def test_it_needs_no_sdk(fake: OpenModel) -> None:
    code = f"""
import sys
sys.modules["anthropic"] = sys.modules["openai"] = None
from shammah_data.exchange import Message
from shammah_runtime.teacher import Teacher, TeacherSettings
teacher = Teacher(TeacherSettings("m", base_url={fake.url!r}, kind="openai"), None)
teacher.warm()
print(ascii(teacher.ask([Message("user", "hi")], lambda _: None).text))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == ascii(ANSWER)
