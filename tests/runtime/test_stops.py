"""Stop strings and the token limit: no part of a stop string is shown, whatever way the text comes and whoever answers."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.claude import FakeClaude
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.exchange import Attempt
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Early, EarlyStep
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Cascade
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.learned import Known
from shammah_runtime.proposal import Proposal, Query
from shammah_runtime.stops import StopStrings

Make = Callable[..., Appliance]
OFFLINE = Options(offline=True, watch=False)


class Fixed:
    """A tier that always says the same."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal

    def propose(self, query: Query) -> Proposal:
        return self.proposal


LETTERS = st.text("abé", max_size=30)


def shown(text: str, stops: list[str], cuts: list[int]) -> tuple[list[str], bool]:
    """The pieces shown when the text comes divided at the cuts."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    through = StopStrings(stops)
    pieces = [through.push(text[start:end]) for start, end in itertools.pairwise(edges)]
    return [*pieces, through.close()], through.stopped


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """What is to be shown, by trying every end."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(LETTERS, st.lists(st.text("abé", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 100), max_size=8))
def test_the_text_is_cut_at_the_first_complete_stop_string(text: str, stops: list[str], cuts: list[int]) -> None:
    pieces, stopped = shown(text, stops, cuts)
    assert ("".join(pieces), stopped) == cut(text, stops)


@given(LETTERS, st.text("abé", min_size=1, max_size=4))
def test_what_may_become_a_stop_string_is_held_back(text: str, stop: str) -> None:
    through = StopStrings([stop])
    so_far = "".join(through.push(character) for character in text)
    if not through.stopped:
        assert stop not in so_far
        open_end = text[len(so_far) :]
        assert stop.startswith(open_end)
        assert len(open_end) < len(stop)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_an_answer_is_judged_and_logged_whole_and_given_up_to_a_stop_string(
    make_appliance: Make, tiny: Tiny, home: Home, size: int
) -> None:
    # The earlier exchange backs the whole answer, and no part of it.
    tiny.publish(home, graphs=({"calibration": Calibration({"support": 4.0}, -2.0, 0.8, 0.95, 20, 10, 10, False)},))
    stop = ANSWER[len(ANSWER) // 2 :][:size]
    appliance = make_appliance(replace(OFFLINE, decoding={"stop": (stop, "never said")}))
    appliance.index.add(Known("an earlier one", QUESTION, ANSWER))
    shown: list[str] = []
    reply = appliance.conversation.ask(QUESTION, shown.append)
    assert "".join(shown) == reply.text == ANSWER[: ANSWER.index(stop)]
    assert (reply.proposal.attempt.tier, reply.stopped_at, reply.answered) == ("neural", stop, True)
    assert [(row["answer"], row["complete"]) for row in ExchangeLog(home).recent()] == [(ANSWER, True)]


def test_no_tier_shows_a_stop_string(make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    appliance = make_appliance(Options(watch=False, decoding={"stop": (" recent",)}))
    for tier in ("teacher", "learned"):
        shown: list[str] = []
        reply = appliance.conversation.ask(TAUGHT, shown.append)
        assert reply.proposal.attempt.tier == tier
        assert "".join(shown) == reply.text == "Bring your passport and a"
        assert reply.answered
    # What is learned is the whole answer, as is what follow-up questions follow.
    assert [known.answer for known in appliance.index.all()] == [TAUGHT_ANSWER]
    appliance.decoding = Decoding(max_tokens=24)
    assert appliance.conversation.ask(TAUGHT, lambda _: None).text == TAUGHT_ANSWER
    assert claude.calls == 1


def test_an_answer_that_begins_with_a_stop_string_shows_nothing(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    appliance = make_appliance(replace(OFFLINE, decoding={"stop": (ANSWER[:2],)}))
    reply = appliance.conversation.ask(QUESTION, pytest.fail)
    assert (reply.text, reply.answered) == ("", True)


def test_what_is_shown_before_its_end_shows_no_stop_string(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    early = Early(2, 24, {"mean": 1.0}, 0.0, 40, (EarlyStep(0.95, 0.1, 40, 40, 40),))
    calibration = Calibration({"mean": 1.0}, 0.0, 0.0, 0.95, 20, 10, 10, False, early=early)
    tiny.publish(home, graphs=({"calibration": calibration},))
    shown: list[str] = []
    appliance = make_appliance(replace(OFFLINE, decoding={"stop": ("at",)}))
    reply = appliance.conversation.ask(QUESTION, shown.append, cut=pytest.fail)
    assert reply.proposal.committed == 2
    assert "".join(shown) == reply.text == "It opens "


def test_an_earlier_answer_is_no_longer_than_what_is_asked_for(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    make_appliance(max_tokens=5).conversation.ask(TAUGHT, lambda _: None)
    # What the settings say is of the model's own answers.
    assert make_appliance(OFFLINE, max_tokens=5).conversation.ask(TAUGHT, lambda _: None).text == TAUGHT_ANSWER
    tokens = len(tiny.chat.answer(TAUGHT_ANSWER, tiny.stop_ids))
    for most, fits in ((tokens, True), (tokens - 1, False)):
        appliance = make_appliance(replace(OFFLINE, decoding={"max_tokens": most}), max_tokens=256)
        reply = appliance.conversation.ask(TAUGHT, lambda _: None)
        assert reply.answered == fits
    learned = [one.reason for one in reply.attempts if one.tier == "learned"]
    assert learned[-1].endswith(f", but the answer does not end within {most} tokens")
    assert not make_appliance(replace(OFFLINE, decoding={"max_tokens": 1})).conversation.ask("Hello", pytest.fail).answered
    # Whoever is asked then is told so.
    make_appliance(Options(watch=False, decoding={"max_tokens": 3})).conversation.ask("Hello", lambda _: None)
    assert claude.requests[-1].body["max_tokens"] == 3


def test_other_answers_are_cut_too_and_told_once(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    said = Proposal(Attempt("neural", "accepted", "sure"), text="Ann.", others=("Ann!", "Ben.", "Ben!", ".", "Cid"))
    query = Query("Who?", decoding=Decoding(stop=(".", "!")))
    assert Cascade([Fixed(said)], None).answer(query, lambda _: None).others == ("Ben", "Cid")
    # What did not end within the tokens that it may have is no answer.
    tiny.publish(home)
    drawn = Decoding(beams=8, answers=8, max_tokens=len(tiny.chat.answer(ANSWER, tiny.stop_ids)))
    others = tiny.decoder("int8").generate(tiny.chat.prompt(QUESTION), drawn).others
    assert not all(one.finished for one in others)
    appliance = make_appliance(OFFLINE)
    appliance.decoding = drawn
    reply = appliance.conversation.ask(QUESTION, lambda _: None)
    assert reply.text == ANSWER
    assert set(reply.others) == {one.text for one in others if one.finished} - {"", ANSWER}
