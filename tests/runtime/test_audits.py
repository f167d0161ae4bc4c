"""Audits end to end: a real log, a real model, a real teacher over loopback HTTP."""

import dataclasses
import errno
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.processes import Holder
from fakes.versions import ACCEPT_ALL, ANSWER, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.auditing import is_drawn
from shammah_data.errors import TeacherError
from shammah_data.exchange import Audited, Exchange
from shammah_data.forget import forget
from shammah_data.guard import Raised
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, context_of
from shammah_data.manifest import Calibration, Step
from shammah_data.queries import Selection
from shammah_data.session import LogTakenError
from shammah_data.settings import AuditSection, RoutingSection, ServeSettings, Settings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.audits import Auditor
from shammah_runtime.status import status_lines

ALL = AuditSection(share=1.0, new_share=1.0, per_day=1000)
UNLIKE = "It is closed on Sundays, and nobody has the key."


@pytest.fixture
def teacher(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], FakeClaude]]:
    """Start a Claude that gives these answers."""
    running: list[FakeClaude] = []

    def start(answers: dict[str, str]) -> FakeClaude:
        fake = FakeClaude(answers)
        fake.__enter__()
        running.append(fake)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        return fake

    yield start
    for fake in running:
        fake.__exit__(None, None, None)


@pytest.fixture
def make(home: Home) -> Iterator[Callable[..., Appliance]]:
    made: list[Appliance] = []

    def start(audit: AuditSection = ALL, target: float = 0.0, always_local: tuple[str, ...] = (), **options: Any) -> Appliance:
        routing = RoutingSection(target_precision=target, always_local=always_local)
        settings = Settings(serve=ServeSettings(threads=1, max_tokens=24), audit=audit, routing=routing)
        appliance = Appliance(home, settings, Options(watch=False, **options), lambda text: None)
        appliance.start()
        made.append(appliance)
        return appliance

    yield start
    for appliance in made:
        appliance.close()


def auditor_of(appliance: Appliance) -> Auditor:
    assert appliance.auditor is not None
    appliance.auditor.count()
    return appliance.auditor


def ask(appliance: Appliance, *texts: str) -> None:
    for text in texts:
        reply = appliance.conversation.ask(text, lambda _: None)
        assert reply.proposal.attempt.tier == "neural"


def rows(home: Home) -> list[dict[str, Any]]:
    return ExchangeLog(home).recent(100)[::-1]


def test_an_accepted_answer_is_put_to_the_teacher_and_judged(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({"When does it open?": ANSWER})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, "When does it open?")
    assert claude.calls == 0
    assert auditor.run() == 1
    local, audit = rows(home)
    assert (local["tier"], local["teacher_probability"]) == ("neural", 1.0)
    assert (audit["tier"], audit["source"], audit["answer"], audit["query"]) == ("teacher", "audit", ANSWER, local["query"])
    (found,) = ExchangeLog(home).outcomes(["v0001"])
    assert (found.exchange_id, found.agrees, found.probability) == (str(local["id"]), True, 1.0)
    assert auditor.run() == 0
    assert claude.calls == 1


def test_the_status_tells_the_precision_that_audits_found(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    teacher({"one": ANSWER, "two": ANSWER, "three": UNLIKE})
    appliance = make()
    auditor = auditor_of(appliance)
    assert "precision  not measured" in "\n".join(status_lines(appliance))
    ask(appliance, "one", "two", "three")
    assert auditor.run() == 3
    status = "\n".join(status_lines(appliance))
    assert "precision  67% of the local answers" in status
    assert "2 of 3 audited ones agreed" in status
    assert "exchanges  3," in status
    assert "audits          3, asked in the background" in status


def test_only_what_was_drawn_is_asked(make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make(AuditSection(share=0.3, new_share=0.3, per_day=1000))
    auditor = auditor_of(appliance)
    ask(appliance, *(f"question {n}" for n in range(12)))
    given = rows(home)
    assert {row["teacher_probability"] for row in given} == {0.3}
    drawn = [row["query"] for row in given if is_drawn(str(row["id"]), 0.3)]
    auditor.run()
    assert [request.body["messages"][-1]["content"] for request in claude.requests] == drawn


def test_a_day_has_its_budget(make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make(dataclasses.replace(ALL, per_day=2))
    auditor = auditor_of(appliance)
    ask(appliance, "one", "two", "three", "four")
    auditor.run()
    assert claude.calls == 2
    ask(appliance, "five")
    assert rows(home)[4]["query"] == "five" or rows(home)[-1]["teacher_probability"] == 0.0
    again = auditor_of(make(dataclasses.replace(ALL, per_day=2)))
    assert again.run() == 0


def test_nothing_private_and_nothing_offline_is_audited(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    assert make(offline=True).auditor is None
    assert make(AuditSection(share=0.0, new_share=0.0)).auditor is None
    assert make(no_log=True).auditor is None
    appliance = make()
    auditor = auditor_of(appliance)
    appliance.conversation.set_private(True)
    ask(appliance, "in private")
    auditor.run()
    assert claude.calls == 0


def test_a_teacher_that_fails_is_asked_again_later(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, "one")
    claude.fault = "unauthorized"
    with pytest.raises(TeacherError):
        auditor.run()
    assert len(rows(home)) == 1
    claude.fault = "ok"
    assert auditor.run() == 1


def test_an_audit_of_what_is_forgotten_meanwhile_is_not_kept(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    holders: list[Holder] = []

    def answer(text: str) -> str:
        forget(ExchangeLog(home), home, Selection(words=(text,)))
        if text == "two":
            # What is written now waits in the spool.
            holders.append(Holder(home.log))
        return ANSWER

    claude.answers = answer
    appliance = make()
    for text in ("one", "two"):
        appliance.conversation.begin()
        ask(appliance, text)
    with pytest.raises(LogTakenError):
        auditor_of(appliance).run()
    holders[0].let_go()
    assert claude.calls == 2
    assert rows(home) == []
    assert not home.spool.exists()


def test_one_question_that_gets_no_answer_keeps_no_other_from_its_audit(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    claude.answers = lambda text: "" if "lock" in text else ANSWER
    appliance = make()
    ask(appliance, "how to pick a lock", "two", "three")
    assert auditor_of(appliance).run() == 2
    assert claude.calls == 3
    audits = [row for row in rows(home) if row["source"] == "audit"]
    assert [(row["answer"], row["complete"]) for row in audits] == [("", False), (ANSWER, True), (ANSWER, True)]
    assert all(row["cost_usd"] > 0 for row in audits)
    # Nor is it asked by the next one.
    assert auditor_of(make()).run() == 0
    assert claude.calls == 3


def test_a_teacher_that_declines_in_words_says_nothing_of_an_answer(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({"one": "I'm sorry, but I can't access your opening hours. Please look at the website.", "two": ANSWER})
    appliance = make()
    ask(appliance, "one", "two")
    assert auditor_of(appliance).run() == 1
    assert [found.agrees for found in ExchangeLog(home).outcomes(["v0001"])] == [True]
    # Nor is it asked again.
    assert auditor_of(make()).run() == 0
    assert claude.calls == 2


def test_an_answer_that_breaks_off_is_not_asked_and_paid_for_again_and_again(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, "one", "two")
    claude.fault = "cut"
    with pytest.raises(TeacherError, match="broke in mid-answer"):
        auditor.run()
    claude.fault = "ok"
    assert auditor.run() == 1
    assert auditor_of(make()).run() == 0
    assert claude.calls == 2
    audits = [(row["query"], row["complete"]) for row in rows(home) if row["source"] == "audit"]
    assert audits == [("one", False), ("two", True)]


def test_what_has_to_stay_here_by_now_is_not_audited(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    ask(make(), "what is the salary of Bob", "and the holidays", "and his shoes")
    assert auditor_of(make(always_local=("salary",))).run() == 0
    assert claude.calls == 0
    assert auditor_of(make()).run() == 3


def test_what_the_user_has_said_is_not_put_to_the_teacher(make: Callable[..., Appliance], teacher: Any, home: Home) -> None:
    claude = teacher({TAUGHT: TAUGHT_ANSWER})
    appliance = make()
    auditor = auditor_of(appliance)
    conversation = appliance.conversation
    conversation.ask(TAUGHT, lambda _: None)
    conversation.rate("bad", "Bring nothing at all.")
    for _ in range(2):
        conversation.begin()
        assert conversation.ask(TAUGHT, lambda _: None).text == "Bring nothing at all."
        assert auditor.run() == 0
    assert claude.calls == 1
    # An earlier release has put it there.
    given = rows(home)[-1]
    ExchangeLog(home).audit(Audited(str(given["id"]), "learned", 1.0, False, "other words"))
    again = make()
    auditor_of(again)
    assert again.conversation.ask(TAUGHT, lambda _: None).text == "Bring nothing at all."


def test_an_audit_is_as_trainable_as_what_it_audits(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    teacher({})
    appliance = make()
    ask(appliance, "one", "two")
    log = ExchangeLog(home)
    log.change(lambda session: session.execute("UPDATE exchanges SET trainable = false WHERE query = 'one'"))
    assert auditor_of(appliance).run() == 2
    assert {row["query"]: row["trainable"] for row in rows(home) if row["source"] == "audit"} == {"one": False, "two": True}


def test_only_one_process_audits_at_a_time(make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make()
    ask(appliance, "one")
    first, second = auditor_of(appliance), auditor_of(make(dataclasses.replace(ALL, per_day=1)))
    found = []

    def answer(_: str) -> str:
        """While the first one asks."""
        found.append(second.run())
        return ANSWER

    claude.answers = answer
    assert first.run() == 1
    assert found == [0]
    assert claude.calls == 1
    ask(appliance, "two")
    # The day's one audit is spent, by the other.
    assert second.run() == 0


def test_audits_go_on_after_a_full_disk(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    teacher({})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, "one")
    ran = threading.Event()

    def full() -> int:
        if not ran.is_set():
            ran.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return Auditor.run(auditor)

    monkeypatch.setattr("shammah_runtime.audits._PAUSE", 0.01)
    monkeypatch.setattr(auditor, "run", full)
    auditor.start()
    deadline = time.monotonic() + 20.0
    while len(rows(home)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(rows(home)) == 2


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has one time zone")
@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ("2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("2026-07-01T22:00:00+00:00", "2026-07-02T22:00:00+00:00"),
        ("2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00"),
    ],
)
def test_the_day_of_audits_is_the_local_one_also_when_the_clocks_change(
    make: Callable[..., Appliance],
    teacher: Any,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    begins: str,
    ends: str,
) -> None:
    teacher({})
    begin, end, second = datetime.fromisoformat(begins), datetime.fromisoformat(ends), timedelta(seconds=1)
    log = ExchangeLog(home)
    for count, moment in enumerate((begin - second, begin, end - second)):
        log.append(Exchange(f"audit {count}", "Yes.", "teacher", source="audit", created_at=moment))
    auditors = [auditor_of(make(dataclasses.replace(ALL, per_day=most))) for most in (2, 3)]
    found = []
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            time.tzset()
            for auditor, now in itertools.product(auditors, (begin, end - second, end)):
                patch.setattr(auditor, "_now", lambda now=now: now)
                auditor.count()
                found.append(auditor.probability("v0001"))
    finally:
        time.tzset()
    # Two are of this day: they spend a budget of two, and not one of three.
    assert found == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]


def test_audits_go_on_the_next_day(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})
    appliance = make(dataclasses.replace(ALL, per_day=1))
    auditor = auditor_of(appliance)
    now = datetime.now(UTC)
    monkeypatch.setattr(auditor, "_now", lambda: now)
    ask(appliance, "one", "two")
    auditor.start()
    deadline = time.monotonic() + 20.0
    while auditor.probability("v0001") > 0.0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert claude.calls == 1
    now += timedelta(days=1)
    assert auditor.probability("v0001") == 1.0
    # That woke what waits since yesterday.
    while claude.calls < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert claude.calls == 2


def test_what_is_forgotten_while_audits_run_is_not_sent(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})

    def answer(text: str) -> str:
        if text == "one":
            forget(ExchangeLog(home), home, Selection(words=("two",)))
        return ANSWER

    claude.answers = answer
    appliance = make()
    ask(appliance, "one")
    appliance.conversation.begin()
    ask(appliance, "two", "three")
    assert auditor_of(appliance).run() == 2
    sent = [[turn["content"] for turn in request.body["messages"]] for request in claude.requests]
    assert sent == [["one"], ["three"]]


def test_what_is_forgotten_while_an_audit_is_asked_is_not_kept_as_an_earlier_turn(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    claude = teacher({})

    def answer(text: str) -> str:
        if text == "three":
            forget(ExchangeLog(home), home, Selection(words=("two",)))
        return ANSWER

    claude.answers = answer
    appliance = make()
    ask(appliance, "two", "three")
    auditor_of(appliance).run()
    assert claude.calls == 2
    found = rows(home)
    assert {row["query"] for row in found} == {"three"}
    assert [(row["source"], context_of(row), row["trainable"]) for row in found] == [("serve", (), True), ("audit", (), False)]


def test_a_version_that_slips_answers_less_at_once(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    teacher({f"question {n}": UNLIKE for n in range(12)})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, *(f"question {n}" for n in range(12)))
    auditor.run()
    assert any("v0001 slipped" in note for note in appliance.models.notes())
    assert "raised     no answers since" in "\n".join(status_lines(appliance))
    reply = appliance.conversation.ask("question 1", lambda _: None)
    assert reply.proposal.attempt.tier == "teacher"
    assert any("v0001 may not answer" in attempt.reason for attempt in reply.attempts)
    # Another process minds it too, and so does one that starts tomorrow.
    assert make().conversation.ask("question 2", lambda _: None).attempts[0].outcome == "declined"


def test_what_was_given_for_a_lower_target_is_no_slip_of_a_higher_one(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home
) -> None:
    ladder = (Step(0.95, ACCEPT_ALL, 20, 20, False), Step(0.99, 0.9, 9, 9, False))
    calibration = Calibration({"mean": 1.0}, 0.0, ACCEPT_ALL, 0.95, 20, 20, 20, False, ladder)
    tiny.publish(home, context_examples=1000, graphs=({"calibration": calibration},))
    teacher({f"question {n}": UNLIKE for n in range(13)})
    ask(make(), *(f"question {n}" for n in range(12)))
    strict = make(target=0.99)
    assert auditor_of(strict).run() == 12
    assert strict.guard.of("v0001") is None
    own = make()
    ask(own, "question 12")
    assert auditor_of(own).run() == 1
    assert own.guard.of("v0001") is not None


def test_a_bad_new_version_goes_back_to_the_one_before(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    other_tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    appliance = make()
    assert appliance.store.pointer().champion == "v0002"
    claude = teacher({})
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, *(f"question {n}" for n in range(30)))
    auditor.run()
    assert 0 < claude.calls <= 30
    pointer = appliance.store.pointer()
    assert (pointer.champion, pointer.previous) == ("v0001", "v0002")
    assert any("v0002 is worse than v0001" in note for note in appliance.models.notes())


def test_the_command_audits_what_waits(
    make: Callable[..., Appliance], teacher: Any, tiny: Tiny, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    from shammah_runtime.cli import audit

    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    ExchangeLog(home).append(
        Exchange(query="one", answer=ANSWER, tier="neural", model_version="v0001", confidence=0.9, teacher_probability=1.0)
    )
    teacher({"one": ANSWER})
    audit()
    assert capsys.readouterr().out == (
        "audited: 1; precision: 100% of the local answers (95% interval 2% to 100%): 1 of 1 audited one agreed\n"
    )


def test_a_raised_threshold_is_told_with_its_reason(make: Callable[..., Appliance], tiny: Tiny, home: Home) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    appliance = make(offline=True)
    appliance.guard.raise_to("v0001", Raised(0.995, "3 of 9 disagreed", "2026-01-01T00:00:00+00:00"))
    assert "raised     answers from 0.99 on since 2026-01-01T00:00:00+00:00: 3 of 9 disagreed" in status_lines(appliance)
    assert json.loads((home.models / "guard.json").read_text())["v0001"]["threshold"] == 0.995
