"""One session: earlier turns, ratings, corrections, and a log that cannot be written."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from fakes.claude import GENERIC_ANSWER, FakeClaude
from fakes.versions import TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError
from shammah_data.exchange import Exchange, Feedback
from shammah_data.exclusions import left_out_of
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.conversation import Conversation, fill
from shammah_runtime.desk import Desk
from shammah_runtime.learned import LearnedIndex
from shammah_runtime.proposal import Proposal, Query

Make = Callable[..., Appliance]
FOLLOW_UP = "And what about that for my children?"
OFFLINE = Options(offline=True, watch=False)
NO_LOG = Options(no_log=True, watch=False)


def ask(appliance: Appliance, text: str) -> Reply:
    return appliance.conversation.ask(text, lambda _: None)


def rows(home: Home) -> list[dict[str, Any]]:
    return list(reversed(ExchangeLog(home).recent()))


def tier_of(reply: Reply) -> str:
    return reply.proposal.attempt.tier


# -- earlier turns ----------------------------------------------------------------------------------------------------


def test_earlier_turns_reach_the_teacher_and_the_log(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    ask(appliance, FOLLOW_UP)
    before = [{"role": "user", "content": TAUGHT}, {"role": "assistant", "content": TAUGHT_ANSWER}]
    assert claude.requests[1].body["messages"] == [*before, {"role": "user", "content": FOLLOW_UP}]
    first, second = rows(home)
    assert json.loads(first["context"]) == []
    assert json.loads(second["context"]) == before
    assert (first["turn"], second["turn"]) == (0, 1)
    assert first["session"] == second["session"]
    # What a follow-up was answered means nothing without what it follows.
    assert [match.known.query for match in [appliance.index.nearest(FOLLOW_UP)] if match] in ([], [TAUGHT])


def test_earlier_turns_reach_the_models_prompt(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, context_examples=1000)
    appliance = make_appliance(OFFLINE)
    ask(appliance, "When does it open?")
    first = ask(appliance, "And on Sunday?")
    (before, now) = rows(home)
    turns = json.loads(now["context"])
    assert [turn["content"] for turn in turns] == [before["query"], before["answer"]]
    alone = len(tiny.chat.prompt("And on Sunday?"))
    turn_tokens = len(tiny.chat.prompt(before["query"])) + len(tiny.chat.encode(before["answer"])) + 2
    assert first.proposal.prompt_tokens == alone + turn_tokens


def test_only_the_last_turns_are_kept(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance(context_turns=1)
    for text in (TAUGHT, "Which shop sells bread?", "Which shop sells milk?"):
        ask(appliance, text)
    sent = [turn["content"] for turn in claude.requests[2].body["messages"]]
    assert sent == ["Which shop sells bread?", GENERIC_ANSWER, "Which shop sells milk?"]


def test_without_context_turns_every_query_stands_alone(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance(context_turns=0)
    ask(appliance, TAUGHT)
    ask(appliance, FOLLOW_UP)
    assert len(claude.requests[1].body["messages"]) == 1


def test_a_failed_turn_is_no_context(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    claude.fault = "cut"
    ask(appliance, TAUGHT)
    claude.fault = "ok"
    ask(appliance, FOLLOW_UP)
    assert [turn["content"] for turn in claude.requests[1].body["messages"]] == [FOLLOW_UP]


@pytest.mark.parametrize(("text", "said"), [("", "empty"), (" \n\t", "empty"), ("x" * 100_001, "100001 characters")])
def test_a_question_that_is_none_is_refused_and_not_logged(make_appliance: Make, home: Home, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ask(make_appliance(OFFLINE), text)
    assert rows(home) == []


@pytest.mark.parametrize("text", ["caf\udce9 hours?", "nul\x00 byte?", "\ufeffmark?"])
def test_any_text_can_be_asked_and_logged(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude, warnings: list[str], text: str
) -> None:
    tiny.publish(home, threshold=2.0)
    appliance = make_appliance()
    assert ask(appliance, text).answered
    appliance.conversation.rate("bad", f"Nine {text}")
    (row,) = rows(home)
    assert row["query"] == text.replace("\udce9", "?")
    assert row["correction"] == f"Nine {row['query']}"
    assert warnings == []


# -- ratings ----------------------------------------------------------------------------------------------------------


def test_there_must_be_something_to_rate(make_appliance: Make) -> None:
    with pytest.raises(InputError, match="no answer to rate"):
        make_appliance(OFFLINE).conversation.rate("good")


def test_a_bad_answer_is_forgotten_at_once_and_never_trained_on(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance(context_turns=0)
    ask(appliance, TAUGHT)
    assert tier_of(ask(appliance, TAUGHT)) == "learned"
    appliance.conversation.rate("bad")
    assert tier_of(ask(appliance, TAUGHT)) == "teacher"
    assert claude.calls == 2


def test_a_good_correction_makes_no_good_answer_of_what_it_corrects(home: Home) -> None:
    """Live and after a restart: what was wrong was wrong."""
    log, heard = ExchangeLog(home), LearnedIndex()
    wrong = Exchange("Where is the stapler?", "In drawer 1.", "learned")
    desk = Desk(Cascade([], None), heard, log, pytest.fail)
    log.append(wrong)
    desk.rate(wrong, None, "bad", "In drawer 5.")
    desk.rate(wrong, None, "good", corrected=True)
    again = LearnedIndex()
    fill(again, log)
    for index in (heard, again):
        assert index.record(wrong.answer, "v0001").right == 0.0
        assert index.refused(wrong.query, wrong.answer)


def test_a_correction_that_was_called_bad_when_it_was_given_is_not_given_again(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    appliance = make_appliance(context_turns=0)
    ask(appliance, TAUGHT)
    appliance.conversation.rate("bad", "Bring nothing.")
    assert ask(appliance, TAUGHT).text == "Bring nothing."
    appliance.conversation.rate("bad")
    for each in (appliance, make_appliance(context_turns=0)):
        assert ask(each, TAUGHT).text != "Bring nothing."


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_correction_that_is_called_bad_itself_is_neither_given_nor_trained_on(
    make_appliance: Make, home: Home, claude: FakeClaude, elsewhere: bool
) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    appliance.conversation.rate("bad", "Bring nothing.")
    assert [row["target"] for row in ExchangeLog(home).learnable()] == ["Bring nothing."]
    if elsewhere:
        (row,) = rows(home)
        ExchangeLog(home).rate(Feedback(str(row["id"]), "bad"))
        appliance = make_appliance()
    else:
        appliance.conversation.rate("bad")
        assert appliance.index.all() == []
    assert ExchangeLog(home).learnable() == []
    assert left_out(home) == {"rated bad, no correction": 1}
    assert tier_of(ask(appliance, TAUGHT)) == "teacher"
    assert "Bring nothing." not in str(claude.requests[-1].body)
    # The question is answered anew, and what is said of that is a word of its own.
    assert [row["target"] for row in ExchangeLog(home).learnable()] == [TAUGHT_ANSWER]


def left_out(home: Home) -> dict[str, int]:
    return ExchangeLog(home).read(lambda session: left_out_of(session, datetime(2100, 1, 1)))


def test_a_bad_teachers_answer_is_no_target(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    assert len(ExchangeLog(home).learnable()) == 1
    appliance.conversation.rate("bad")
    assert ExchangeLog(home).learnable() == []
    assert len(appliance.index) == 0
    assert rows(home)[0]["rating"] == "bad"


def test_a_correction_replaces_the_answer_everywhere(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    appliance.conversation.rate("bad", "Bring nothing.")
    ask(appliance, FOLLOW_UP)
    assert [turn["content"] for turn in claude.requests[1].body["messages"]] == [TAUGHT, "Bring nothing.", FOLLOW_UP]
    again = ask(appliance, TAUGHT)
    assert (tier_of(again), again.text) == ("learned", "Bring nothing.")
    assert (TAUGHT, "Bring nothing.") in [(row["query"], row["target"]) for row in ExchangeLog(home).learnable()]
    again = ask(make_appliance(OFFLINE), TAUGHT)
    assert (tier_of(again), again.text) == ("learned", "Bring nothing.")


def test_a_question_that_nobody_answered_can_be_taught(make_appliance: Make, home: Home) -> None:
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").error
    appliance.conversation.rate("bad", "Ann.")
    assert ask(appliance, "who is the boss").text == "Ann."
    assert [row["target"] for row in ExchangeLog(home).learnable()] == ["Ann."]


def test_a_good_local_answer_may_be_trained_on(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    appliance = make_appliance(OFFLINE)
    ask(appliance, TAUGHT)
    assert ExchangeLog(home).learnable() == []
    appliance.conversation.rate("good")
    assert [row["query"] for row in ExchangeLog(home).learnable()] == [TAUGHT]


def test_the_corrected_answer_of_a_follow_up_is_not_repeated_elsewhere(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    ask(appliance, FOLLOW_UP)
    appliance.conversation.rate("bad", "Their birth certificates.")
    assert len(appliance.index) == 1
    assert tier_of(ask(make_appliance(OFFLINE), FOLLOW_UP)) == "teacher"


# -- a log that cannot be written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["damaged database", "folder in its place", "home is gone"])
def test_an_answer_is_shown_although_it_cannot_be_logged(
    make_appliance: Make, home: Home, warnings: list[str], broken: str
) -> None:
    appliance = make_appliance(OFFLINE)
    ask(appliance, "hi")
    home.log.unlink()
    if broken == "damaged database":
        home.log.write_bytes(b"no database" * 1000)
    elif broken == "folder in its place":
        home.log.mkdir()
    else:
        shutil.rmtree(home.root)
        home.root.write_text("a file", encoding="utf-8")
    reply = ask(appliance, "hello")
    assert reply.answered
    assert reply.text
    assert len(warnings) == 1
    assert "\n" not in warnings[0]


def test_while_the_database_is_taken_the_spool_keeps_it_without_a_word(
    make_appliance: Make, home: Home, warnings: list[str]
) -> None:
    import duckdb

    ExchangeLog(home).append(Exchange("Who is the boss?", "Ann.", "import"))
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "who is the boss").answered
    with duckdb.connect(str(home.log), config={"threads": 1}):
        assert ask(appliance, "thanks").answered
        assert home.spool.exists()
    assert [row["query"] for row in rows(home)] == ["Who is the boss?", "who is the boss", "thanks"]
    assert warnings == []


def test_without_a_log_nothing_is_written(make_appliance: Make, home: Home, claude: FakeClaude, warnings: list[str]) -> None:
    appliance = make_appliance(NO_LOG)
    ask(appliance, TAUGHT)
    appliance.conversation.rate("good")
    assert tier_of(ask(appliance, TAUGHT)) == "learned"
    assert not home.log.exists()
    assert not home.spool.exists()
    assert warnings == []


def test_a_stopped_query_is_not_the_last_answer() -> None:
    class Pressed:
        def propose(self, query: Query) -> Proposal:
            raise KeyboardInterrupt

    conversation = Conversation(Cascade([Pressed()], None), LearnedIndex(), None, 4, pytest.fail)
    with pytest.raises(KeyboardInterrupt):
        conversation.ask("Who?", pytest.fail)
    assert conversation.last is None


def test_a_repeated_answer_rated_bad_is_not_learned_again(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    first = make_appliance()
    ask(first, TAUGHT)
    assert tier_of(ask(first, TAUGHT)) == "learned"
    first.conversation.rate("bad")
    assert ExchangeLog(home).learnable() == []
    assert tier_of(ask(make_appliance(), TAUGHT)) == "teacher"


def test_the_correction_of_a_courtesy_is_learned(make_appliance: Make, home: Home) -> None:
    appliance = make_appliance(OFFLINE)
    assert tier_of(ask(appliance, "hello")) == "template"
    assert ExchangeLog(home).learnable() == []
    appliance.conversation.rate("bad", "Good day, madam.")
    assert [row["target"] for row in ExchangeLog(home).learnable()] == ["Good day, madam."]


def test_the_correction_of_an_answer_repeated_after_earlier_turns_is_given_from_then_on(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    for answer, correction in ((TAUGHT_ANSWER, "Bring nothing."), ("Bring nothing.", "Bring all.")):
        assert ask(appliance, TAUGHT).text == answer
        appliance.conversation.rate("bad", correction)
    assert ask(appliance, TAUGHT).text == "Bring all."
    assert (ask(make_appliance(OFFLINE), TAUGHT).text, claude.calls) == ("Bring all.", 1)


def test_what_is_said_while_the_log_is_read_is_not_undone_by_it(home: Home) -> None:
    log = ExchangeLog(home)
    log.append(Exchange("Where is the stapler?", "In drawer 1.", "teacher"))
    index = LearnedIndex()
    Desk(Cascade([], None), index, None, pytest.fail).rate(
        Exchange("Where is the stapler?", "In drawer 1.", "teacher"), None, "bad", "In drawer 3."
    )
    fill(index, log)
    assert [known.answer for known in index.all()] == ["In drawer 3."]


def test_the_last_correction_is_given_after_a_restart_whenever_its_exchange_was(home: Home) -> None:
    log = ExchangeLog(home)
    exchanges = [Exchange("Where is the stapler?", f"In drawer {n}.", "teacher") for n in (1, 2)]
    for exchange, correction in zip([*exchanges, exchanges[0]], "567", strict=True):
        log.append(exchange)
        log.rate(Feedback(exchange.id, "bad", correction=f"In drawer {correction}."))
    index = LearnedIndex()
    fill(index, log)
    assert [known.answer for known in index.all()] == ["In drawer 7."]


def test_a_correction_is_still_given_after_an_audit_and_a_restart(home: Home) -> None:
    log = ExchangeLog(home)
    wrong = Exchange("Where is the stapler?", "In drawer 1.", "neural", session="s", turn=1)
    log.append(wrong)
    log.rate(Feedback(wrong.id, "bad", correction="In drawer 3."))
    log.append(Exchange("Where is the stapler?", "I cannot know.", "teacher", session="s", turn=1, source="audit"))
    index = LearnedIndex()
    fill(index, log)
    found = index.nearest("Where is the stapler?")
    assert found is not None
    assert found.known.answer == "In drawer 3."
