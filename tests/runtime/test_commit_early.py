"""An answer that is shown before it has ended: held back until one commits to it, and visibly cut where it goes wrong."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import openai
import pytest

from fakes.claude import FakeClaude
from fakes.listening import TOKEN, Listening
from fakes.screen import Screen
from fakes.versions import ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.exchange import Attempt
from shammah_data.guard import Raised
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Early, EarlyStep
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Cascade
from shammah_runtime.committing import Commitment
from shammah_runtime.engine.backing import Backing, followed
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.proposal import Proposal, Query, declined
from shammah_runtime.stopping import Stop
from shammah_runtime.why import why

Make = Callable[..., Appliance]
Serving = Callable[..., Listening]
OFFLINE = Options(offline=True, watch=False)
# Commits to anything after two tokens.
EARLY = Early(2, 24, {"mean": 1.0}, 0.0, 40, (EarlyStep(0.95, 0.1, 40, 40, 40),))
GIVEN = Calibration({"mean": 1.0}, 0.0, 0.0, 0.95, 20, 10, 10, False, early=EARLY)
# An earlier exchange might bear the answer out until the end, and none does.
WRONG = Calibration({"support": 4.0}, -2.0, 0.8, 0.95, 20, 10, 10, False, early=EARLY)
CUT = "cut here: v0001 is no longer sure of this answer"


def ask(appliance: Appliance, text: str, **more: Any) -> tuple[list[str], Any]:
    """What was shown, notices of a cut in brackets, and the reply."""
    shown: list[str] = []
    reply = appliance.conversation.ask(text, shown.append, cut=lambda notice: shown.append(f"[{notice}]"), **more)
    return shown, reply


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set, no answer gets further than its second token."""
    gate, drawn = threading.Event(), Decoder.tokens

    def slow(decoder: Decoder, *given: Any, **more: Any) -> Iterator[tuple[int, float]]:
        steps = drawn(decoder, *given, **more)
        try:
            for place, step in enumerate(steps):
                if place == 2 and threading.current_thread().name == "neural":
                    assert gate.wait(60.0), "nothing was shown before the end"
                yield step
        finally:
            steps.close()  # type: ignore[attr-defined]  # it is a generator

    monkeypatch.setattr(Decoder, "tokens", slow)
    return gate


def test_a_committed_answer_is_shown_while_it_is_made(
    make_appliance: Make, tiny: Tiny, home: Home, held: threading.Event
) -> None:
    tiny.publish(home, graphs=({"calibration": GIVEN},))
    shown: list[str] = []

    def on_text(piece: str) -> None:
        shown.append(piece)
        held.set()

    reply = make_appliance(OFFLINE).conversation.ask(QUESTION, on_text, cut=pytest.fail)
    assert len(shown) > 1
    assert "".join(shown) == reply.text == ANSWER
    assert ANSWER.startswith(shown[0])
    assert reply.answered
    told = "\n".join(why(home, ExchangeLog(home), None))
    assert "; shown from token 2 on, 0.50 sure then" in told


def test_an_answer_that_goes_wrong_is_cut_and_the_next_one_follows(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home, graphs=({"calibration": WRONG},))
    shown, reply = ask(make_appliance(), TAUGHT)
    at = shown.index(f"[{CUT}]")
    assert "".join(shown[:at]) == ANSWER
    assert "".join(shown[at + 1 :]) == reply.text == TAUGHT_ANSWER
    assert (reply.proposal.attempt.tier, reply.answered) == ("teacher", True)
    log = ExchangeLog(home)
    (row,) = log.recent()
    assert (row["tier"], row["answer"], row["complete"], row["model_version"]) == ("teacher", TAUGHT_ANSWER, True, None)
    first = log.find(str(row["id"]))[1][0]
    assert (first["tier"], first["outcome"]) == ("neural", "declined")
    assert first["reason"].endswith(", below 0.80; shown from token 2 on, 0.50 sure then, and cut")
    # What was cut is no answer, and nothing to learn.
    assert [one["target"] for one in log.learnable()] == [TAUGHT_ANSWER]
    assert ANSWER not in str(log.read(lambda session: list(session.execute("SELECT * FROM exchanges").fetchall())))


def test_where_nobody_else_answers_what_was_shown_is_cut_all_the_same(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": WRONG},))
    shown, reply = ask(make_appliance(OFFLINE), QUESTION)
    assert "".join(shown) == f"{ANSWER}[{CUT}]"
    assert reply.error is not None
    assert [row["answer"] for row in ExchangeLog(home).recent()] == [""]


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"early": None}, {}),
        ({"early": replace(EARLY, steps=())}, {}),
        ({"early": replace(EARLY, steps=(EarlyStep(0.95, 0.6, 40, 40, 40),))}, {}),
        ({"early": replace(EARLY, steps=(EarlyStep(0.9, 0.1, 40, 40, 40),))}, {}),
        ({"early": replace(EARLY, tokens=50)}, {}),
        # The budget is smaller than the one that was measured with.
        ({"early": replace(EARLY, most_tokens=25)}, {}),
        ({}, {"commit_early": False}),
        ({}, {"temperature": 0.01}),
        ({}, {"beams": 2}),
        ({}, {"repetition_penalty": 1.1}),
    ],
)
def test_nothing_is_shown_before_it_is_decided(
    make_appliance: Make, tiny: Tiny, home: Home, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    tiny.publish(home, graphs=({"calibration": replace(WRONG, **changes)},))
    shown, reply = ask(make_appliance(OFFLINE, **settings), QUESTION)
    assert shown == []
    assert "shown" not in reply.attempts[0].reason
    tiny.publish(home, graphs=({"calibration": replace(GIVEN, **changes)},))
    shown, reply = ask(make_appliance(OFFLINE, **settings), QUESTION)
    assert shown == [reply.text]
    assert reply.text


def test_whoever_cannot_be_told_of_a_cut_gets_whole_answers(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": WRONG},))
    shown: list[str] = []
    make_appliance(OFFLINE).conversation.ask(QUESTION, shown.append)
    assert shown == []


def test_while_audits_have_raised_the_threshold_nothing_is_shown_early(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": GIVEN},))
    appliance = make_appliance(OFFLINE)
    appliance.guard.raise_to("v0001", Raised(0.2, "some disagreed", "2026-01-01T00:00:00+00:00"))
    assert ask(appliance, QUESTION)[0] == [ANSWER]


def test_what_was_shown_before_ctrl_c_is_kept_as_incomplete(
    make_appliance: Make, tiny: Tiny, home: Home, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home, graphs=({"calibration": GIVEN},))
    cancel = Decoder.cancel

    def cancelled(decoder: Decoder) -> None:
        cancel(decoder)
        held.set()

    monkeypatch.setattr(Decoder, "cancel", cancelled)
    stop = Stop()
    shown: list[str] = []

    def on_text(piece: str) -> None:
        shown.append(piece)
        stop.ask()

    reply = make_appliance(OFFLINE).conversation.ask(QUESTION, on_text, stop=stop, cut=pytest.fail)
    assert (reply.interrupted, reply.answered) == (True, False)
    assert reply.text == "".join(shown)
    assert ANSWER.startswith(reply.text)
    assert reply.text != ANSWER
    log = ExchangeLog(home)
    (row,) = log.recent()
    assert (row["tier"], row["answer"], row["complete"], row["model_version"]) == ("neural", reply.text, False, "v0001")
    assert log.learnable() == []
    attempt = log.find(str(row["id"]))[1][0]
    assert (attempt["outcome"], attempt["reason"]) == ("failed", "stopped by the user; shown from token 2 on, 0.50 sure then")


def test_in_a_session_the_cut_is_a_line_of_its_own(tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home, graphs=({"calibration": WRONG},))
    home.settings.write_text(
        "[serve]\ncommit_early = true\n[teacher]\nfirst_token_seconds = 60.0\ntotal_seconds = 90.0\n", encoding="utf-8"
    )
    screen = Screen()
    try:
        screen.until_prompt()
        screen.ask(TAUGHT)
        screen.until(lambda: "teacher · " in screen.text, 120.0)
        lines = screen.lines
        at = lines.index(CUT)
        assert lines[at - 1] == ANSWER
        assert lines[at + 1] == TAUGHT_ANSWER[: len(lines[at + 1])]
        assert lines[at + 1]
    finally:
        screen.close()


@pytest.fixture
def both(tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving) -> Iterator[tuple[openai.OpenAI, anthropic.Anthropic]]:
    """Clients of a server whose version commits to what goes wrong, before a Claude."""
    tiny.publish(home, graphs=({"calibration": WRONG},))
    url = serving().url
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0) as one,
        anthropic.Anthropic(base_url=url, api_key=TOKEN, max_retries=0) as other,
    ):
        yield one, other


def test_a_stream_says_where_it_was_cut(both: tuple[openai.OpenAI, anthropic.Anthropic], home: Home) -> None:
    one, other = both
    asked: list[Any] = [{"role": "user", "content": TAUGHT}]
    chunks = list(one.chat.completions.create(model="shammah", messages=asked, stream=True))
    told = f"{ANSWER}\n\n[{CUT}]\n\n{TAUGHT_ANSWER}"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == told
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["shammah"]["tier"] == "teacher"
    with other.messages.stream(model="x", max_tokens=100, messages=asked) as stream:
        assert "".join(stream.text_stream) == told
    assert {row["answer"] for row in ExchangeLog(home).recent()} == {TAUGHT_ANSWER}


def test_a_whole_answer_has_nothing_of_what_was_cut(both: tuple[openai.OpenAI, anthropic.Anthropic]) -> None:
    one, other = both
    asked: list[Any] = [{"role": "user", "content": TAUGHT}]
    whole = one.chat.completions.create(model="shammah", messages=asked)
    assert whole.choices[0].message.content == TAUGHT_ANSWER
    block: Any = other.messages.create(model="x", max_tokens=100, messages=asked).content[0]
    assert block.text == TAUGHT_ANSWER
    # Log-probabilities come with the whole text only.
    chunks = one.chat.completions.create(model="shammah", messages=asked, stream=True, logprobs=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TAUGHT_ANSWER


# -- the parts --------------------------------------------------------------------------------------------------------


class Speaking:
    """A tier that shows these pieces, then says this."""

    def __init__(self, pieces: list[str], proposal: Proposal) -> None:
        self._pieces = pieces
        self._proposal = proposal

    def propose(self, query: Query) -> Proposal:
        assert query.show is not None
        for piece in self._pieces:
            query.show(piece)
        return replace(self._proposal, committed=2)


def test_nothing_that_is_shown_early_can_drive_the_terminal() -> None:
    said = Proposal(Attempt("neural", "accepted", "sure"), text="Red\x1b[31m and\ud83d\ude00 \u202eblue\ud83d")
    shown: list[str] = []
    tier = Speaking(["Red\x1b[3", "1m and\ud83d", "\ude00 \u202eblue\ud83d"], said)
    reply = Cascade([tier], None).answer(Query("q", cut=pytest.fail), shown.append)
    assert "".join(shown) == reply.text == "Red and\U0001f600 blue\ufffd"


def test_a_cut_closes_what_was_left_open_before_it_is_told() -> None:
    told: list[str] = []
    tier = Speaking(["Red\ud83d"], declined("neural", "no"))
    Cascade([tier], None, "offline").answer(Query("q", cut=lambda notice: told.append(notice)), told.append)
    assert told == ["Red", "\ufffd", "cut here: None is no longer sure of this answer"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InterruptedError])
def test_who_stops_after_a_cut_is_told_so_and_what_came_of_it_is_kept(stop: type[BaseException]) -> None:
    class Pressed:
        def propose(self, query: Query) -> Proposal:
            raise stop

    told: list[str] = []
    query = Query("q", cut=told.append)
    cut = replace(declined("neural", "no"), model_version="v0001")
    reply = Cascade([Speaking(["Red"], cut), Pressed()], None, "offline").answer(query, told.append)
    assert told == ["Red", "cut here: v0001 is no longer sure of this answer"]
    assert reply.interrupted
    assert (reply.answered, reply.text) == (False, "")
    assert [(one.outcome, one.reason) for one in reply.attempts] == [
        ("declined", "no"),
        ("failed", "stopped by the user after it was cut"),
    ]
    exchange = reply.exchange(query, "s", 1)
    assert (exchange.tier, exchange.answer, exchange.complete, exchange.model_version) == ("neural", "", False, "v0001")


def commitment(show: Callable[[str], None], drafts: list[tuple[str, list[int]]], **more: Any) -> Commitment:
    made = Commitment(show)
    early = replace(EARLY, weights={"near": 4.0}, intercept=-2.0, steps=(EarlyStep(0.95, 0.8, 40, 40, 40),))
    near = {"against": lambda _: None, "backing": lambda _: Backing(1.0, 1.0, 1.0)} | more
    made.begin(replace(GIVEN, early=early), drafts, near["backing"], near["against"])
    return made


def said(made: Commitment, *tokens: tuple[int, str]) -> None:
    for token, piece in tokens:
        made.token(token, -0.1)
        made.text(piece)
        made.pass_on()


def test_the_draft_that_is_followed_speaks_for_the_answer_so_far() -> None:
    for drafts, shows in (
        ([("other", [1, 3]), ("this", [1, 2, 9])], True),
        ([("other", [1, 3]), ("short", [1])], False),
        ([], False),
    ):
        shown: list[str] = []
        said(commitment(shown.append, drafts), (1, "So "), (2, "it "), (3, "is."))
        assert ("".join(shown) == "So it is.") is shows
        assert bool(shown) is shows
    assert followed([1, 2], [("a", [1, 2]), ("b", [1, 2, 3])]) == "a"


def test_what_speaks_against_the_draft_speaks_against_committing_to_it() -> None:
    shown: list[str] = []
    said(commitment(shown.append, [("this", [1, 2])], against=lambda text: f"no {text}"), (1, "So "), (2, "it "), (3, "is."))
    assert shown == []


def test_blanks_around_an_answer_are_not_shown_and_those_within_are() -> None:
    shown: list[str] = []
    made = commitment(shown.append, [("this", [1, 2])])
    said(made, (1, "\n "), (2, " So"), (3, " "), (4, "\n"), (5, "it is."), (6, " \n"))
    assert shown == ["So", " \nit is."]
    accepted = made.told(Proposal(Attempt("neural", "accepted", "sure"), text="So \nit is."))
    assert (accepted.committed, accepted.attempt.reason) == (2, "sure; shown from token 2 on, 0.88 sure then")


def test_an_answer_is_decided_once(tiny: Tiny) -> None:
    asked: list[str] = []

    def backing(text: str) -> Backing:
        asked.append(text)
        return Backing()

    shown: list[str] = []
    said(commitment(shown.append, [("this", [1, 2, 3])], backing=backing), (1, "a"), (2, "b"), (3, "c"), (4, "d"))
    assert (asked, shown) == (["this"], [])
    answer = tiny.decoder().generate(tiny.chat.prompt(QUESTION), Decoding(max_tokens=24))
    assert answer.text == ANSWER
