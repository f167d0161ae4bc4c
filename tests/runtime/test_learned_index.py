"""What a learned index holds when a version and a log both bring exchanges along."""

from datetime import UTC, datetime, timedelta

import pytest

from shammah_data.standing import CORRECTED, GIVEN
from shammah_data.trust import Record
from shammah_runtime.learned import Known, LearnedIndex

A, B, C = Known("a", "Who is the boss?", "Ann."), Known("b", "Who cooks?", "Bob."), Known("c", "Who sings?", "Cy.")

NOON, HOUR = datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(hours=1)


def held(index: LearnedIndex) -> set[str]:
    return {known.id for known in index.all()}


@pytest.mark.parametrize("log_first", [True, False])
def test_the_log_that_a_version_was_made_from_has_the_last_word(log_first: bool) -> None:
    index = LearnedIndex()

    def read_log() -> None:
        index.add(B)
        index.logged(["b"])

    if log_first:
        read_log()
    index.seed([A, B])
    if not log_first:
        read_log()
    assert held(index) == {"b"}


@pytest.mark.parametrize("log_first", [True, False])
def test_another_log_adds_to_what_a_version_brings(log_first: bool) -> None:
    index = LearnedIndex()
    if log_first:
        index.add(C)
        index.logged(["c"])
    index.seed([A, B])
    if not log_first:
        index.add(C)
        index.logged(["c"])
    assert held(index) == {"a", "b", "c"}


def test_what_was_asked_since_the_log_was_read_stays_when_a_version_brings_it_along() -> None:
    index = LearnedIndex()
    index.add(B)
    index.logged(["b"])
    index.add(C)
    index.seed([A, B, C])
    assert held(index) == {"b", "c"}


def test_what_others_logged_stays_when_the_log_is_read_again() -> None:
    index = LearnedIndex()
    index.add(B)
    index.logged(["b"])
    index.add(C)
    # Logged by another process; what this one just learned is not in the database yet.
    index.logged(["a", "b"])
    index.seed([A, B, C])
    assert held(index) == {"a", "b", "c"}


def test_what_was_withdrawn_is_not_brought_back_but_said_anew_it_is() -> None:
    index = LearnedIndex()
    for known in (A, B):
        index.add(known)
    index.logged(["a", "b"])
    index.withdraw("a")
    index.withdraw("unknown")
    index.seed([A, B])
    assert held(index) == {"b"}
    index.add(A)
    assert held(index) == {"a", "b"}


def test_what_was_forgotten_is_not_brought_back() -> None:
    index = LearnedIndex()
    index.remove("a")
    index.seed([A, B])
    assert held(index) == {"b"}
    index.remove("b")
    index.seed([B])
    assert held(index) == set()


def test_what_was_forgotten_while_the_log_was_read_is_not_remembered() -> None:
    index = LearnedIndex()
    index.remove("a")
    index.add(A)
    index.observe(A.query, A.answer, False, "v1", "a")
    assert held(index) == set()
    assert not index.refused(A.query, A.answer)


def test_what_was_said_of_an_answer_goes_with_its_exchange() -> None:
    index = LearnedIndex()
    index.observe("Who is the boss?", "Ann.", True, "v1", "a")
    index.observe("Who is the boss?", "Ann.", False, "v1", "b")
    index.observe("Who is the boss?", "Ann.", False, "v1", "c")
    index.remove("b")
    assert index.refused("Who is the boss?", "Ann.")
    assert index.record("Ann.", "v1") == Record(1, 1)
    index.remove("c")
    assert not index.refused("Who is the boss?", "Ann.")
    assert index.record("Ann.", "v1") == Record(1, 0)


def test_what_was_asked_since_is_not_overwritten() -> None:
    index = LearnedIndex()
    newer = Known("n", "who is the boss", "Zoe.")
    index.add(newer)
    index.seed([A])
    assert index.all() == [newer]


@pytest.mark.parametrize(
    ("second", "given"),
    [
        (Known("o", "who is the boss", "Old.", CORRECTED, NOON - HOUR), {"Ann."}),
        (Known("o", "who is the boss", "New.", GIVEN, NOON + HOUR), {"Ann."}),
        (Known("o", "who is the boss", "New.", CORRECTED, NOON + HOUR), {"New."}),
        (Known("c", "who is the boss", "Before.", GIVEN, NOON - HOUR), {"Ann."}),
        (Known("o", "who was the boss", "Another.", GIVEN, NOON - HOUR), {"Ann.", "Another."}),
    ],
)
def test_a_correction_stands_until_a_later_one_in_whatever_order_they_come(second: Known, given: set[str]) -> None:
    corrected = Known("c", "Who is the boss?", "Ann.", CORRECTED, NOON)
    for order in ((corrected, second), (second, corrected)):
        index = LearnedIndex()
        for known in order:
            index.add(known)
        assert {known.answer for known in index.all()} == given


@pytest.mark.parametrize("older_last", [True, False])
def test_of_two_answers_the_newer_one_is_given_in_whatever_order_they_come(older_last: bool) -> None:
    older, newer = (Known(name, "Who is the boss?", name, GIVEN, NOON + n * HOUR) for n, name in enumerate("on"))
    index = LearnedIndex()
    # What a version brings along was said before either of them.
    index.seed([A])
    for known in (newer, older) if older_last else (older, newer):
        index.add(known)
    assert index.all() == [newer]


def test_followers_are_told_of_all_that_comes_and_goes() -> None:
    index = LearnedIndex()
    told: list[str] = []
    index.follow(lambda known: told.append(f"+{known.id}"), lambda identity: told.append(f"-{identity}"))
    index.add(A)
    index.add(Known("n", "who is the boss", "Zoe."))
    index.seed([B])
    index.remove("b")
    index.forget_answer("Who is the boss?", "Zoe.")
    assert told == ["+a", "-a", "+n", "+b", "-b", "-n"]
    index.remove("nobody")
    assert len(told) == 6


def test_outcomes_of_an_answer() -> None:
    index = LearnedIndex()
    index.observe("Who is the boss?", "Ann.", False, "v1", "a")
    assert index.refused("who is the boss", "ann")
    assert not index.refused("who was the boss", "Ann.")
    assert index.record("Ann.", "v1") == Record(0, 1)
    index.observe("Who is the boss?", "Ann.", True, "v1", "b")
    assert not index.refused("who is the boss", "ann")
    assert index.record("Ann.", "v1", Record(2, 0)) == Record(3, 1)
    # Another version retrieves anew: what went well before says less.
    assert index.record("Ann.", "v2") == Record(0.5, 1)
    assert index.record("Bob.", "v1") == Record()


def test_a_version_gives_answers_its_words_where_their_facts_are_the_same() -> None:
    index = LearnedIndex()
    paid = Known("p", "When is rent due?", "Rent is due on the 3rd of each month, by bank transfer.")
    moved = Known("m", "When is it cold?", "The heating is off from May to September.")
    index.add(paid)
    index.add(moved)
    words = "By bank transfer, rent is due on the 3rd of each month."
    index.reword({"p": words, "m": "The heating is off from June to August.", "gone": "Nothing."})
    assert index.get("p") == Known("p", "When is rent due?", words)
    assert index.get("m") == moved
    # What backs an answer knows it in these words now.
    assert index.support("when is rent due", words) == pytest.approx(1.0)
    assert index.support("when is rent due", paid.answer) == 0.0
    match = index.nearest("when is rent due")
    assert match is not None
    assert match.known.answer == words
