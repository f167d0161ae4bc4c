"""Tiers in order: who answers, why the others did not, and what is logged of every kind of failure."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from fakes.claude import FakeClaude, Fault
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError
from shammah_data.exchange import Attempt, Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.savings import savings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.prices import PRICES, cost_usd
from shammah_runtime.proposal import Proposal, Query, declined
from shammah_runtime.stopping import Stop
from shammah_runtime.teacher import Teacher, TeacherSettings

Make = Callable[..., Appliance]
OFFLINE = Options(offline=True, watch=False)


class Asked:
    """What a query came to: the reply, and what was shown of it."""

    def __init__(self, appliance: Appliance, text: str) -> None:
        self.shown: list[str] = []
        self.reply: Reply = appliance.conversation.ask(text, self.shown.append)

    @property
    def tiers(self) -> list[tuple[str, str]]:
        return [(attempt.tier, attempt.outcome) for attempt in self.reply.attempts]

    def reason(self, tier: str) -> str:
        (found,) = [attempt.reason for attempt in self.reply.attempts if attempt.tier == tier]
        return found


def rows(home: Home) -> list[dict[str, Any]]:
    return ExchangeLog(home).recent()


def attempts(home: Home) -> list[dict[str, Any]]:
    return ExchangeLog(home).find(str(rows(home)[0]["id"]))[1]


# -- order ------------------------------------------------------------------------------------------------------------


class Fixed:
    """A tier that always says the same, and counts how often it was asked."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.asked = 0

    def propose(self, query: Query) -> Proposal:
        self.asked += 1
        return self.proposal


def test_the_first_accepted_answer_wins_and_later_tiers_are_not_asked() -> None:
    tiers = [
        Fixed(declined("neural", "not sure", 0.3, 0.8)),
        Fixed(Proposal(Attempt("learned", "accepted", "near"), text="Ann\x1b[31m.\u202e")),
        Fixed(Proposal(Attempt("template", "accepted", "a courtesy"), text="Hello.")),
    ]
    shown: list[str] = []
    ticks = iter(range(100))
    reply = Cascade(tiers, None, clock=lambda: float(next(ticks))).answer(Query("Who?"), shown.append)
    assert [tier.asked for tier in tiers] == [1, 1, 0]
    assert reply.text == "".join(shown) == "Ann."
    assert reply.answered
    assert reply.attempts == (
        Attempt("neural", "declined", "not sure", 0.3, 0.8, 1000.0),
        Attempt("learned", "accepted", "near", latency_ms=1000.0),
    )
    assert reply.latency_ms == 5000.0
    exchange = reply.exchange(Query("Who?"), "s", 3)
    assert (exchange.answer, exchange.tier, exchange.session, exchange.turn) == ("Ann.", "learned", "s", 3)
    assert (exchange.complete, exchange.trainable, exchange.teacher_probability) == (True, True, 0.0)


def test_without_any_answer_there_is_an_error_and_no_answer() -> None:
    cascade = Cascade([Fixed(declined("neural", "no"))], None, "offline")
    reply = cascade.answer(Query("Who?"), pytest.fail)
    assert reply.error == "no local answer is sure enough, and Claude was not asked: offline"
    assert not reply.answered
    exchange = reply.exchange(Query("Who?"), "s", 0)
    assert (exchange.answer, exchange.complete) == ("", False)
    assert [attempt.reason for attempt in exchange.attempts] == ["no", "offline"]


def test_a_teacher_without_a_key_is_not_asked() -> None:
    cascade = Cascade([], Teacher(TeacherSettings("claude"), None))
    reply = cascade.answer(Query("Who?"), pytest.fail)
    assert reply.error is not None
    assert reply.error.endswith("Claude was not asked: no ANTHROPIC_API_KEY in the environment")


def test_ctrl_c_in_a_local_tier_passes_through() -> None:
    class Pressed:
        def propose(self, query: Query) -> Proposal:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cascade([Pressed()], None).answer(Query("Who?"), pytest.fail)


# -- with real parts --------------------------------------------------------------------------------------------------


def test_a_sure_model_answers_and_nobody_else_is_asked(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    asked = Asked(make_appliance(), QUESTION)
    assert asked.reply.text == "".join(asked.shown) == ANSWER
    assert asked.tiers == [("neural", "accepted")]
    assert claude.calls == 0
    (row,) = rows(home)
    assert (row["query"], row["answer"], row["tier"], row["model_version"]) == (QUESTION, ANSWER, "neural", "v0001")
    assert (row["complete"], row["teacher_model"], row["teacher_probability"]) == (True, None, 0.3)
    assert row["confidence"] == asked.reply.attempts[0].confidence
    assert row["answer_tokens"] == len(tiny.chat.encode(ANSWER)) + 1
    assert row["prompt_tokens"] == len(tiny.chat.prompt(QUESTION))
    # Nobody has vouched for it.
    assert ExchangeLog(home).learnable() == []


def test_an_unsure_model_passes_the_question_on(make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    asked = Asked(make_appliance(), TAUGHT)
    assert asked.tiers == [("neural", "declined"), ("learned", "declined"), ("template", "declined"), ("teacher", "accepted")]
    assert asked.reply.text == "".join(asked.shown) == TAUGHT_ANSWER
    assert len(asked.shown) > 1
    assert "v0001 may not answer" in asked.reason("neural")
    found = attempts(home)
    assert [(one["tier"], one["outcome"], one["reason"]) for one in found] == [
        (one.tier, one.outcome, one.reason) for one in asked.reply.attempts
    ]
    assert found[0]["threshold"] == ACCEPT_NOTHING
    (row,) = rows(home)
    assert (row["tier"], row["answer"], row["complete"], row["teacher_probability"]) == ("teacher", TAUGHT_ANSWER, True, 1.0)
    assert row["teacher_model"] == "claude-sonnet-5-5"
    assert row["model_version"] is None
    assert row["cost_usd"] > 0
    assert [one["target"] for one in ExchangeLog(home).learnable()] == [TAUGHT_ANSWER]


@pytest.mark.parametrize("how", ["Ctrl-C", "a client that left"])
def test_what_is_known_of_the_cost_of_an_answer_that_was_stopped_is_in_its_row(
    make_appliance: Make, home: Home, claude: FakeClaude, how: str
) -> None:
    appliance, stop = make_appliance(), Stop()
    shown: list[str] = []

    def stopped(piece: str) -> None:
        shown.append(piece)
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        stop.ask()

    reply = appliance.conversation.ask(TAUGHT, stopped, "all", stop)
    assert reply.interrupted
    (row,) = rows(home)
    known = cost_usd(PRICES, row["teacher_model"], len(TAUGHT.split()), len(shown))
    assert known is not None
    assert row["cost_usd"] == pytest.approx(known)
    assert ExchangeLog(home).read(savings).spent_usd == pytest.approx(known)


def test_an_answer_that_never_ends_is_declined(make_appliance: Make, random_tiny: Tiny, home: Home) -> None:
    random_tiny.publish(home, precision="fp32", stop_ids=(383,))
    asked = Asked(make_appliance(OFFLINE), QUESTION)
    assert "did not end within 24 tokens" in asked.reason("neural")


def test_a_question_too_long_for_the_model_goes_on_to_the_others(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    asked = Asked(make_appliance(), "wide " * 2000)
    assert "tokens; the context of v0001 has room for 232, and 24 for the answer" in asked.reason("neural")
    assert asked.reply.answered


@pytest.mark.parametrize(
    ("broken", "reason"),
    [("no version", "no model has been trained yet"), ("damaged", "v0001 is refused"), ("cuda", "v0001 is refused")],
)
def test_without_a_usable_model_the_others_answer(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude, broken: str, reason: str
) -> None:
    if broken != "no version":
        tiny.publish(home)
    if broken == "damaged":
        (home.models / "v0001" / "tokenizer.json").unlink()
    appliance = make_appliance(Options(provider="cuda" if broken == "cuda" else None, watch=False))
    for text, tier in ((TAUGHT, "teacher"), (TAUGHT, "learned"), ("hello", "template")):
        asked = Asked(appliance, text)
        assert asked.reply.proposal.attempt.tier == tier
        assert asked.reason("neural").startswith(reason)
    assert claude.calls == 1


def test_offline_nobody_else_is_asked(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    asked = Asked(make_appliance(OFFLINE), TAUGHT)
    assert asked.reply.error == "no local answer is sure enough, and Claude was not asked: offline"
    assert (claude.calls, asked.shown) == (0, [])


FAULTS: list[tuple[Fault, str]] = [
    ("unauthorized", ""),
    ("overloaded", ""),
    ("empty", ""),
    ("cut", "Bring your passport and "),
    ("error_event", "Bring your passport and "),
]


@pytest.mark.parametrize(("fault", "partial"), FAULTS)
def test_a_failing_teacher_is_an_error_and_teaches_nothing(
    make_appliance: Make, home: Home, claude: FakeClaude, fault: Fault, partial: str
) -> None:
    claude.fault = fault
    appliance = make_appliance()
    asked = Asked(appliance, TAUGHT)
    assert asked.reply.error is not None
    assert asked.reply.error.isprintable()
    assert not asked.reply.answered
    assert asked.tiers[-1] == ("teacher", "failed")
    assert asked.reason("teacher") == asked.reply.error
    assert TAUGHT_ANSWER.startswith(asked.reply.text)
    assert bool(asked.reply.text) == bool(partial)
    (row,) = rows(home)
    assert (row["answer"], row["complete"], row["tier"]) == (asked.reply.text, False, "teacher")
    assert asked.reply.error not in row["answer"]
    assert ExchangeLog(home).learnable() == []
    # Not even when a user calls it right, and not within this session either.
    with contextlib.nullcontext() if partial else pytest.raises(InputError, match="nobody answered"):
        appliance.conversation.rate("good")
    assert ExchangeLog(home).learnable() == []
    assert len(appliance.index) == 0


@pytest.mark.parametrize("fault", ["max_tokens", "refusal"])
def test_an_answer_cut_short_is_shown_and_teaches_nothing(
    make_appliance: Make, home: Home, claude: FakeClaude, fault: Fault
) -> None:
    claude.fault = fault
    appliance = make_appliance()
    asked = Asked(appliance, TAUGHT)
    assert (asked.reply.text, asked.reply.error, asked.reply.answered) == (TAUGHT_ANSWER, None, False)
    assert asked.reason("teacher") == f"cut short: {fault}"
    assert [(row["answer"], row["complete"]) for row in rows(home)] == [(TAUGHT_ANSWER, False)]
    assert ExchangeLog(home).learnable() == []
    assert len(appliance.index) == 0


def test_an_interrupted_teacher_leaves_what_had_arrived(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()

    def press(piece: str) -> None:
        raise KeyboardInterrupt

    reply = appliance.conversation.ask(TAUGHT, press)
    assert reply.interrupted
    assert not reply.answered
    assert reply.text
    assert TAUGHT_ANSWER.startswith(reply.text)
    assert reply.attempts[-1].reason == "stopped by the user"
    assert [(row["answer"], row["complete"]) for row in rows(home)] == [(reply.text, False)]
    assert ExchangeLog(home).learnable() == []


def test_what_could_drive_a_terminal_is_neither_shown_nor_logged(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    claude.answers = {TAUGHT: "Bring \x1b]0;title\x07 your\x9b31m passport.\u202e Now."}
    asked = Asked(make_appliance(), TAUGHT)
    assert "".join(asked.shown) == asked.reply.text == "Bring  your passport. Now."
    assert rows(home)[0]["answer"] == asked.reply.text


def test_a_teachers_answer_is_at_once_learned(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    assert Asked(appliance, TAUGHT).tiers[-1] == ("teacher", "accepted")
    asked = Asked(appliance, TAUGHT.upper())
    assert asked.tiers[-1] == ("learned", "accepted")
    assert asked.reply.text == TAUGHT_ANSWER
    assert claude.calls == 1
    # And after a restart.
    asked = Asked(make_appliance(OFFLINE), TAUGHT)
    assert (asked.tiers[-1], asked.reply.text) == (("learned", "accepted"), TAUGHT_ANSWER)


def test_an_exchange_can_be_told_as_json(make_appliance: Make, home: Home) -> None:
    Asked(make_appliance(OFFLINE), "hello")
    (row,) = rows(home)
    assert json.loads(row["context"]) == []
    assert ExchangeLog(home).learnable() == []


def test_the_first_query_waits_until_the_log_has_been_read(home: Home, make_appliance: Make) -> None:
    ExchangeLog(home).append(Exchange("Who is the boss?", "Ann.", "import"))
    asked = Asked(make_appliance(OFFLINE), "Who is the boss?")
    assert (asked.tiers[-1], asked.reply.text) == (("learned", "accepted"), "Ann.")
