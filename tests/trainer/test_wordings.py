import pytest

from shammah_trainer.wordings import Changed, classes, difference, most_central, outdated, shared

PLAIN = "A refund takes 5 working days to reach your account after the shop sends it. Ask the shop for the refund reference."
OTHER = "Refunds reach the account 5 working days after the shop sends them; ask the shop for the refund reference."
SORRY = "Don't worry, a refund takes 5 working days from the day the shop sends it. Ask it for the refund reference."


def together(*texts: str, queries: list[list[str]] | None = None, alike: bool = True) -> int:
    """How many classes there are."""
    found = classes(texts, queries or [["refund?"]] * len(texts), lambda pairs: [alike] * len(pairs)).same
    return len({found.root(n) for n in range(len(texts))})


def test_other_words_for_the_same_facts_are_one_class() -> None:
    assert difference(PLAIN, OTHER) is None
    assert together(PLAIN, OTHER, SORRY) == 1


def test_other_questions_keep_answers_apart() -> None:
    assert together(PLAIN, OTHER, alike=False) == 2
    assert together(PLAIN, PLAIN.upper(), alike=False) == 1


@pytest.mark.parametrize(
    ("a", "b", "changed"),
    [
        (PLAIN, PLAIN.replace("5", "7"), Changed("number", True)),
        (PLAIN, OTHER.replace("5 working", "working"), Changed("number", False)),
        ("Ask Marta at the front desk.", "Ask Jonas at the front desk.", Changed("name", True)),
        ("Ask at the front desk for the key.", "Ask Jonas at the front desk for the key.", Changed("name", False)),
        ("Run it with --force on the first night.", "Run it with --dry-run on the first night.", Changed("name", True)),
        ("You can take guests along to lunch.", "You cannot take guests along to lunch.", Changed("negation", True)),
        ("Use the red door on the left side.", "Use the blue door on the left side.", Changed("word", True)),
        ("#!/bin/bash\ncat $from >> $to", "#!/bin/bash\ncat $to >> $from", Changed("code", True)),
        ("def f(x):\n    return x", "def f(x):\n    return x * x", Changed("code", True)),
    ],
)
def test_facts_that_differ(a: str, b: str, changed: Changed) -> None:
    assert difference(a, b) == changed
    assert together(a, b) == 2


def test_a_bare_no_denies() -> None:
    found = difference("No, guests bring their own lunch to the canteen.", "Guests bring their own lunch to the canteen.")
    assert found == Changed("negation", True)


def test_a_negation_in_passing_denies_nothing() -> None:
    assert difference(PLAIN, f"That is no problem. {PLAIN}") is None


def test_few_words_in_common_tell_nothing() -> None:
    assert shared("It is about ferns.", "It is about bats.") == 0.0
    assert shared("Here.", "There.") == 0.0
    assert shared("42", "It is 42.") == 1.0
    assert together("About ferns.", "About bats.") == 2


def test_what_the_questions_name_must_not_differ() -> None:
    grapes = "No, grapes are considered dangerous for dogs to eat."
    chocolate = "No, chocolate is considered dangerous for dogs to consume or eat."
    queries = [["May dogs eat grapes?"], ["Is chocolate safe for dogs?"]]
    assert together(grapes, chocolate, queries=queries) == 2


def test_no_two_of_a_class_differ() -> None:
    """The middle one says what each of the others says; they contradict each other in a name."""
    left = "The key hangs in the hall next to the large mirror; Marta has another key of the hall."
    right = "The key hangs in the hall next to the large mirror; Jonas has another key of the hall."
    assert together(left, right) == 2
    assert together(left, right, left.replace("hangs in", "is in")) == 2


def test_what_leaves_something_out_is_related() -> None:
    less = OTHER.replace("5 working", "some working")
    found = classes((PLAIN, less), [["refund?"]] * 2, lambda pairs: [True] * len(pairs))
    assert found.same.root(0) != found.same.root(1)
    assert found.related.root(0) == found.related.root(1)


def test_the_most_central_wording_is_nearest_to_all() -> None:
    far = "Refund: 5 days. Reference: the shop."
    assert most_central({PLAIN: 1, OTHER: 1, far: 1}) != far
    assert most_central({far: 5, OTHER: 1}) == far
    assert most_central({"One word here.": 1}) == "One word here."


OLD, NEW = "The guest password is harbour 9053, ask again later.", "The guest password is harbour 7741, ask again later."


def test_the_newest_facts_are_in_force() -> None:
    texts = {0: OLD, 1: NEW, 2: "Somewhere else entirely."}
    assert outdated([0, 0, 1], texts, [[0, 2]]) == {0: 1}
    # Whoever was given last is in force.
    assert outdated([0, 1, 0], texts, [[0, 1]]) == {1: 0}


def test_what_was_not_asked_the_same_or_is_not_alike_is_no_change() -> None:
    texts = {0: OLD, 1: NEW, 2: "Somewhere else entirely, with 3 doors."}
    assert outdated([0, 0, 1], texts, []) == {}
    assert outdated([0, 2], texts, [[0, 1]]) == {}
    assert outdated([0, 1], {0: PLAIN, 1: OTHER}, [[0, 1]]) == {}


def test_facts_may_change_twice() -> None:
    texts = {0: OLD, 1: NEW, 2: NEW.replace("7741", "1188")}
    assert outdated([0, 1, 2], texts, [[0, 1, 2]]) == {0: 2, 1: 2}
