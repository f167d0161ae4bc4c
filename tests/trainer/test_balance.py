import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.exchange import Message
from shammah_trainer.balance import Answer, balanced, rooms
from shammah_trainer.dataset import Example


def examples(*sizes: int, group: int = 0) -> list[Example]:
    """So many examples of each answer."""
    return [
        Example(f"{group}-{answer}-{n}", f"q{n}", f"Answer {group} {answer}", group=group + answer)
        for answer, size in enumerate(sizes)
        for n in range(size)
    ]


def shown(drawn: list[Example]) -> Counter[str]:
    return Counter(example.target for example in drawn)


def test_rare_answers_are_shown_more_often_than_their_share() -> None:
    many = examples(64, 4, 4, 2, 2)
    seen: Counter[str] = Counter()
    for seed in range(40):
        seen += shown(balanced(many, random.Random(seed), 0.5))
    assert sum(seen.values()) == 40 * len(many)
    often, rare = seen["Answer 0 0"] / 40, seen["Answer 0 1"] / 40
    assert 3.0 < often / rare < 5.0
    assert rare > 2 * 4
    assert often < 64


def test_all_of_an_answer_are_drawn_before_one_comes_again() -> None:
    drawn = Counter(example.id for example in balanced(examples(30, 3), random.Random(0), 0.0))
    assert {drawn[f"0-1-{n}"] for n in range(3)} <= {5, 6}
    assert max(drawn[f"0-0-{n}"] for n in range(30)) == 1


def test_with_a_share_of_one_all_are_shown_once() -> None:
    some = examples(5, 1)
    assert balanced(some, random.Random(0), 1.0) == some


def test_one_off_questions_do_not_crowd_out_the_others() -> None:
    # A hundred questions asked once, none twice: hardly one will come again.
    assert rooms([Answer(1, 9, True)] * 100 + [Answer(4, 9)], 104, 0.5)[-1] == pytest.approx(104 * 2 / (100 * 0.15 + 2))
    # As many were asked twice as once: they may well.
    assert rooms([Answer(1, 9, True)] * 10 + [Answer(2, 9)] * 10, 30, 1.0) == pytest.approx([1.0] * 10 + [2.0] * 10)
    # A sum asked once is like the other sums.
    assert rooms([Answer(1, 9)] * 100 + [Answer(4, 9)], 104, 0.5)[-1] == pytest.approx(104 * 2 / (100 * 0.15**0.5 + 2))
    assert rooms([], 5, 0.5) == []


def test_a_long_answer_is_shown_less_often() -> None:
    answers = [Answer(3, length) for length in (10, 40, 10, 5)]
    assert rooms(answers, 7, 0.5) == pytest.approx([2.0, 1.0, 2.0, 2.0])


def test_everyday_exchanges_take_a_fifth_at_most() -> None:
    everyday = [Example(f"r{n}", "q", f"Everyday {n}", group=-1 - n) for n in range(60)]
    drawn = balanced([*examples(20, 20), *everyday], random.Random(0), 0.5)
    assert len(drawn) == 100
    assert sum(example.group < 0 for example in drawn) == 20
    assert len(balanced(everyday, random.Random(0), 0.5)) == 60


def test_a_turn_in_a_conversation_counts_by_itself() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello."))
    some = [*examples(9), *(Example(f"turn {n}", f"and then {n}?", "Answer 0 0", turns) for n in range(2))]
    drawn = balanced(some, random.Random(0), 0.0)
    assert sum(bool(example.context) for example in drawn) in (5, 6)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0.0, 1.0), st.integers(0, 100))
def test_an_epoch_has_as_many_as_there_are(sizes: list[int], share: float, seed: int) -> None:
    some = examples(*sizes)
    drawn = balanced(some, random.Random(seed), share)
    assert len(drawn) == len(some)
    assert {example.id for example in drawn} <= {example.id for example in some}
    assert drawn == balanced(some, random.Random(seed), share)
