"""An answer that was shown a few times is mostly trained on by its beginning, and never loses its end for good."""

import random

from shammah_trainer.openings import Openings

ANSWER, OTHER = tuple(range(10)), tuple(range(20, 23))


def test_the_first_showings_are_whole_and_every_fourth_later_on() -> None:
    openings = Openings(4)
    lengths = [len(openings.of("a", ANSWER)) for _ in range(12)]
    assert lengths == [10, 10, 10, 10, 4, 4, 4, 10, 4, 4, 4, 10]
    assert openings.of("a", ANSWER) == ANSWER[:4]


def test_answers_are_counted_apart_and_short_ones_are_always_whole() -> None:
    openings = Openings(4)
    for _ in range(6):
        assert openings.of("b", OTHER) == OTHER
    assert openings.of("a", ANSWER) == ANSWER
    assert openings.shown == {"b": 6, "a": 1}


def test_none_is_cut_where_nothing_is_to_be() -> None:
    whole = Openings(0)
    assert all(whole.of("a", ANSWER) == ANSWER for _ in range(12))


def test_what_was_counted_before_goes_on() -> None:
    rng, straight, first = random.Random(0), Openings(2), Openings(2)
    names = [rng.choice("abc") for _ in range(60)]
    expected = [straight.of(name, ANSWER) for name in names]
    found = [first.of(name, ANSWER) for name in names[:25]]
    kept = first.shown
    second = Openings(2, kept)
    assert found + [second.of(name, ANSWER) for name in names[25:]] == expected
    # What was handed on is nobody's to change.
    assert sum(kept.values()) == 25
