"""Which questions go where: never local, always local, and no more than so many seconds for the local model."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.versions import QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import SettingsError
from shammah_data.exchange import Message
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import RoutingSection, ServeSettings, Settings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.proposal import Query
from shammah_runtime.routing import Routing
from shammah_runtime.stopping import Deadline, Stop
from shammah_runtime.teacher import Teacher, TeacherSettings


@pytest.fixture
def route(home: Home) -> Any:
    made: list[Appliance] = []

    def make(**routing: Any) -> Appliance:
        settings = Settings(serve=ServeSettings(threads=1, max_tokens=24), routing=RoutingSection(**routing))
        appliance = Appliance(home, settings, Options(watch=False), print)
        appliance.start()
        appliance.models.wait()
        made.append(appliance)
        return appliance

    yield make
    for appliance in made:
        appliance.close()
    for thread in threading.enumerate():
        if thread.name == "learned-index":
            thread.join(30.0)


def told(reply: Reply) -> list[tuple[str, str, str]]:
    return [(attempt.tier, attempt.outcome, attempt.reason) for attempt in reply.attempts]


def test_a_topic_that_is_never_local_is_forwarded(
    route: Callable[..., Appliance], tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    claude.answers = {QUESTION: "At ten."}
    reply = route(never_local=("LIBRARY|open",)).conversation.ask(QUESTION, lambda _: None)
    assert reply.text == "At ten."
    assert told(reply) == [
        ("neural", "declined", "forwarded: routing.never_local has 'LIBRARY|open'"),
        ("teacher", "accepted", "asked"),
    ]


def test_a_topic_that_stays_here_is_never_sent(route: Callable[..., Appliance], claude: FakeClaude, home: Home) -> None:
    appliance = route(always_local=("salary",), never_local=("salary",))
    reply = appliance.conversation.ask("What is my salary?", lambda _: None)
    assert reply.error == (
        "no local answer is sure enough, and Claude was not asked: it stays here: routing.always_local has 'salary'"
    )
    assert told(reply)[0][0] == "neural"
    assert "forwarded" not in told(reply)[0][2]
    asked = appliance.conversation.ask("Salary again?", lambda _: None, "teacher")
    assert asked.error
    assert claude.calls == 0


def test_a_system_message_that_stays_here_is_not_sent_either(claude: FakeClaude) -> None:
    teacher = Teacher(TeacherSettings(model="claude-haiku-4-5", base_url=claude.url), "key")
    cascade = Cascade([], teacher, routing=Routing.of(RoutingSection(always_local=("salary",))))
    reply = cascade.answer(Query("How much is it?", system="The salary of Bob is 50000."), lambda _: None)
    assert reply.error is not None
    assert "routing.always_local has 'salary'" in reply.error
    assert claude.calls == 0
    assert cascade.answer(Query("How much is it?", system="Be brief."), lambda _: None).error is None


def test_what_stays_here_is_no_context_for_the_teacher_and_is_not_audited(
    route: Callable[..., Appliance], tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    appliance = route(always_local=("library",))
    first = appliance.conversation.ask("When does the library open?", lambda _: None)
    assert first.proposal.attempt.tier == "neural"
    reply = appliance.conversation.ask(TAUGHT, lambda _: None, "teacher")
    assert reply.text == TAUGHT_ANSWER
    assert [turn["content"] for turn in claude.requests[0].body["messages"]] == [TAUGHT]
    probability = {row["query"]: row["teacher_probability"] for row in ExchangeLog(home).recent()}
    assert probability == {"When does the library open?": 0.0, TAUGHT: 1.0}


def test_an_answer_of_one_who_did_not_see_what_was_said_before_is_not_trained_on(
    route: Callable[..., Appliance], tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    conversation = route(always_local=("library",)).conversation
    conversation.ask("When does the library open?", lambda _: None)
    conversation.ask("And how much is it?", lambda _: None, "teacher")
    conversation.begin()
    conversation.ask(TAUGHT, lambda _: None, "teacher")
    conversation.ask("And how much is that?", lambda _: None, "teacher")
    assert [turn["content"] for turn in claude.requests[0].body["messages"]] == ["And how much is it?"]
    trainable = {row["query"]: row["trainable"] for row in ExchangeLog(home).recent() if row["tier"] == "teacher"}
    assert trainable == {"And how much is it?": False, TAUGHT: True, "And how much is that?": True}


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("geh\xe4lter", "Die Geha\u0308lter?"),  # two letters for one, as some systems have it in names of files
        ("geha\u0308lter", "Die Geh\xe4lter?"),
        ("confidential", "Is this con\ufb01dential?"),  # a ligature, as it is copied from a PDF
        ("salary", "What is my sal\xadary?"),  # a place to hyphenate
        ("project x", "When does project\xa0X begin?"),
        ("project x", "When does project\n X begin?"),
        ("salary", "\uff33\uff41\uff4c\uff41\uff52\uff59?"),
    ],
)
def test_a_topic_is_found_however_it_is_written(pattern: str, text: str) -> None:
    routing = Routing.of(RoutingSection(always_local=(pattern,)))
    assert routing.only_local(text) is not None
    assert routing.keeps("b", [Message("user", text), Message("assistant", "c")])
    assert routing.may_leave([Message("user", text), Message("assistant", "c")]) == []
    assert routing.only_local("What is the time?") is None


def test_a_pair_leaves_or_stays_together() -> None:
    routing = Routing.of(RoutingSection(always_local=("secret",)))
    context = [Message("user", "a"), Message("assistant", "the secret"), Message("user", "b"), Message("assistant", "c")]
    assert routing.may_leave(context) == context[2:]
    assert routing.keeps("b", context)
    assert not routing.keeps("b", context[2:])
    assert Routing().may_leave(context) == context


def test_the_model_gives_up_after_a_while(route: Callable[..., Appliance], tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home)
    reply = route(local_seconds=1e-9).conversation.ask(TAUGHT, lambda _: None)
    assert told(reply)[0] == ("neural", "declined", "gave up after 1e-09 s (routing.local_seconds)")
    assert reply.text == TAUGHT_ANSWER


def test_an_answer_that_does_not_end_is_ended(
    route: Callable[..., Appliance], tiny: Tiny, home: Home, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    appliance = route(local_seconds=0.05)
    told_to_end = threading.Event()

    def generate(*_: object, **__: object) -> None:
        assert told_to_end.wait(30.0)
        raise InterruptedError

    monkeypatch.setattr(Decoder, "generate", generate)
    monkeypatch.setattr(Decoder, "cancel", lambda _: told_to_end.set())
    reply = appliance.conversation.ask(TAUGHT, lambda _: None)
    assert told(reply)[0] == ("neural", "declined", "gave up after 0.05 s (routing.local_seconds)")
    assert reply.text == TAUGHT_ANSWER


def test_a_deadline_is_a_wish_to_stop() -> None:
    now = [0.0]
    inner = Stop()
    deadline = Deadline(inner, 5.0, lambda: now[0])
    assert not deadline.asked()
    now[0] = 5.0
    assert deadline.asked()
    now[0] = 1.0
    inner.ask()
    assert (deadline.asked(), deadline.passed) == (True, False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[routing]\nnever_local = ['(']", r"routing.never_local: '\(' is no regular expression"),
        ("[routing]\nalways_local = 'x'", "routing.always_local = 'x'; it must be a list of texts"),
        ("[routing]\nlocal_seconds = -1", "routing.local_seconds = -1.0; it must lie between"),
        ("[teacher]\nkind = 'openai'", "needs teacher.base_url"),
        ("[teacher]\nbase_url = 'file:///x'", "teacher.base_url must be an address"),
        ("[teacher]\nprices = 3", r"teacher.prices must be a list of tables, each written \[\[teacher.prices\]\]"),
        ("[[teacher.prices]]\ninput = 3", r"each \[\[teacher.prices\]\] needs a model"),
        ("[[teacher.prices]]\nmodel = 'm'\ninputs = 3", "unknown key teacher.prices.inputs; did you mean 'input'"),
        ("[[teacher.prices]]\nmodel = 'm'\ninput = -1", "teacher.prices.input = -1.0; it must lie between"),
    ],
)
def test_settings_that_cannot_be_are_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        Settings.load(path)
