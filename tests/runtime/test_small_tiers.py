"""The tiers without a model: follow-ups, templates, learned answers."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.exchange import Message
from shammah_runtime.followup import depends_on_context
from shammah_runtime.learned import Known, LearnedIndex, LearnedTier
from shammah_runtime.proposal import Proposal, Query
from shammah_runtime.template import TemplateTier

BEFORE = (Message("user", "When does the library open?"), Message("assistant", "It opens at nine."))

# -- follow-ups -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "and on Sunday?",
        "Why?",
        "why not in the morning then",
        "What about the museum in town?",
        "How about tomorrow morning at eight",
        "Is it open on Sunday?",
        "Does that one have a café?",
        "Tell me more about the library",
        "What did you say above?",
        "Sunday?",
        "on Sundays",
        "But the door was closed",
        "It’s closed on which days?",
        "那个呢？",
    ],
)
def test_a_turn_that_may_point_back_depends_on_earlier_ones(text: str) -> None:
    assert depends_on_context(Query(text, BEFORE))
    assert not depends_on_context(Query(text))


@pytest.mark.parametrize("text", ["When does the museum open?", "How do I reset my PIN?", "Android phones lose Wi-Fi at home"])
def test_a_whole_question_stands_for_itself(text: str) -> None:
    assert not depends_on_context(Query(text, BEFORE))


# -- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["hello", "Hello!", "  HI  ", "Good morning.", "Thank you!!", "thanks…", "great, thanks", "bye", "Help?", "hi,"]
)
def test_a_courtesy_gets_a_complete_sentence(text: str) -> None:
    proposal = TemplateTier().propose(Query(text))
    assert proposal.accepted
    assert proposal.attempt.tier == "template"
    assert proposal.text[0].isupper()
    assert proposal.text[-1] in ".!"
    assert not set(proposal.text) & set("{}[]<>$%_…")
    assert "  " not in proposal.text


@pytest.mark.parametrize(
    "text",
    ["hello world", "thank you, but why?", "help me with my PIN", "good", "hell", "hi 5", "bye bye birdie", "¡hola!", "?"],
)
def test_anything_else_is_declined_with_a_reason(text: str) -> None:
    proposal = TemplateTier().propose(Query(text))
    assert (proposal.attempt.outcome, proposal.text) == ("declined", "")
    assert proposal.attempt.reason


@given(st.text(string.printable, min_size=30))
def test_a_long_text_is_never_a_courtesy(text: str) -> None:
    assert not TemplateTier().propose(Query("x" + text)).accepted


# -- learned answers --------------------------------------------------------------------------------------------------

LONG = "Which steps do I follow to connect my new work laptop to the {} of the office in {} when I arrive there on a morning?"


def tier(*known: tuple[str, str], threshold: float = 0.9) -> LearnedTier:
    index = LearnedIndex()
    for number, (query, answer) in enumerate(known):
        index.add(Known(str(number), query, answer))
    return LearnedTier(index, threshold)


def ask(learned: LearnedTier, text: str) -> Proposal:
    return learned.propose(Query(text))


@pytest.mark.parametrize(
    "text", ["How do I reset my PIN?", "how do i  reset my pin", "HOW DO I RESET MY PIN!!", "How do I reset my PIN…"]
)
def test_the_same_question_gets_the_same_answer(text: str) -> None:
    proposal = ask(tier(("How do I reset my PIN?", "In the app."), ("How do I reset my password?", "By mail.")), text)
    assert (proposal.text, proposal.attempt.outcome, proposal.attempt.threshold) == ("In the app.", "accepted", 0.9)
    assert "similarity 1.00 to 'How do I reset my PIN?'" in proposal.attempt.reason


def test_a_near_question_gets_the_answer_above_the_threshold_only() -> None:
    known = ("How do I reset the PIN of my card?", "In the app."), ("Who is the boss?", "Ann.")
    near = "How do I reset the PIN of my card please?"
    accepted = ask(tier(*known, threshold=0.7), near)
    assert accepted.text == "In the app."
    declined = ask(tier(*known, threshold=0.99), near)
    assert (declined.text, declined.attempt.outcome) == ("", "declined")
    assert declined.attempt.reason.endswith("below 0.99")


def test_nothing_similar_is_declined() -> None:
    for learned in (tier(), tier(("Who is the boss?", "Ann."))):
        assert ask(learned, "Weather tomorrow").attempt.reason == "nothing similar was asked before"


@pytest.mark.parametrize(("known", "asked"), [("???", "!!!"), ("?", "..."), ("?", "")])
def test_marks_alone_are_nothing_that_was_asked_before(known: str, asked: str) -> None:
    assert not ask(tier((known, "What?"), threshold=0.0), asked).accepted


@pytest.mark.parametrize(
    ("known", "asked", "reason"),
    [
        ("What is 15 + 27?", "What is 15 + 28?", "the numbers differ"),
        ("What is 15 + 27?", "What is 15 + 27 + 27?", "the numbers differ"),
        ("What are three and four in total?", "What are three and five in total?", "the numbers differ"),
        ("Which version is 3.1 of the tool?", "Which version is 3.2 of the tool?", "the numbers differ"),
        ("Can I take the card abroad?", "Can I not take the card abroad?", "negated"),
        ("Why does the printer work?", "Why doesn't the printer work?", "negated"),
        (LONG.format("printer", "Paris"), LONG.format("printer", "London"), "only one of the two names"),
        (LONG.format("/dev/lp0", "Paris"), LONG.format("/dev/lp", "Paris"), "only one of the two names"),
    ],
)
def test_what_differs_in_a_fact_is_another_question(known: str, asked: str, reason: str) -> None:
    proposal = ask(tier((known, "42"), threshold=0.1), asked)
    assert not proposal.accepted
    assert reason in proposal.attempt.reason
    assert ask(tier((known, "42"), threshold=0.1), known).text == "42"


def test_the_same_number_in_words_is_the_same() -> None:
    assert ask(tier(("What is 2 plus 3?", "5"), threshold=0.1), "What is two plus three?").text == "5"


def test_a_name_may_be_spelled_small() -> None:
    assert ask(tier((LONG.format("printer", "Paris"), "Ask Ann.")), LONG.format("printer", "paris")).text == "Ask Ann."


def test_a_follow_up_is_declined() -> None:
    learned = tier(("Is it open on Sunday?", "No."))
    proposal = learned.propose(Query("Is it open on Sunday?", BEFORE))
    assert proposal.attempt.reason == "the question depends on earlier turns"
    assert learned.propose(Query("Is it open on Sunday?")).text == "No."


def test_the_same_query_or_id_replaces() -> None:
    index = LearnedIndex()
    learned = LearnedTier(index, 0.9)
    index.add(Known("a", "Who is the boss?", "Ann."))
    index.add(Known("b", "who is the boss", "Bob."))
    assert len(index) == 1
    assert ask(learned, "Who is the boss?").text == "Bob."
    index.add(Known("b", "Who cooks?", "Cy."))
    assert len(index) == 1
    assert ask(learned, "Who cooks?").text == "Cy."
    assert not ask(learned, "Who is the boss?").accepted


def test_what_is_removed_is_gone() -> None:
    index = LearnedIndex()
    learned = LearnedTier(index, 0.9)
    index.add(Known("a", "Who is the boss?", "Ann."))
    index.remove("b")
    assert ask(learned, "Who is the boss?").accepted
    index.remove("a")
    assert not ask(learned, "Who is the boss?").accepted
    assert len(index) == 0


def test_forgetting_an_answer_takes_only_the_exchange_that_gave_it() -> None:
    index = LearnedIndex()
    index.add(Known("a", "Who is the boss?", "Ann."))
    index.add(Known("b", "Who cooks on Monday?", "Ann."))
    index.forget_answer("Who is the boss?", "Bob.")
    assert len(index) == 2
    index.forget_answer("who is the boss", "Ann.")
    assert len(index) == 1
    assert ask(LearnedTier(index, 0.9), "Who cooks on Monday?").accepted


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=4)), max_size=8), st.text(max_size=8))
def test_similarity_is_between_nothing_and_one(known: list[tuple[str, str]], asked: str) -> None:
    index = LearnedIndex()
    for number, (query, answer) in enumerate(known):
        index.add(Known(str(number), query, answer))
    match = index.nearest(asked)
    assert match is None or 0.0 <= match.similarity <= 1.0 + 1e-9
