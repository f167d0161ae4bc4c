import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.binomial import lower_bound, most_accepted, upper_bound


def test_the_most_that_pass_are_found_more_often_than_the_error_of_one_bound() -> None:
    """All 150 answers equally sure and at the target: some number of the surest passes in about ten of a hundred draws."""
    rng = random.Random(0)
    found = sum(most_accepted([(1.0 - n / 150, rng.random() < 0.95) for n in range(150)], 0.95, 0.05) > 0 for _ in range(400))
    assert 24 <= found <= 56


@pytest.mark.parametrize(
    ("right", "total", "bound"),
    [
        # Where all are right the bound is the root 0.05 ** (1 / n); the others are tabled one-sided 95% limits.
        (1, 1, 0.05),
        (10, 10, 0.741134),
        (59, 59, 0.950493),
        (9, 10, 0.605836),
        (8, 10, 0.493099),
        (5, 10, 0.222441),
        (1, 10, 0.005116),
        (19, 20, 0.783894),
        (18, 20, 0.717382),
        (0, 10, 0.0),
    ],
)
def test_the_lower_bound_is_that_of_clopper_and_pearson(right: int, total: int, bound: float) -> None:
    assert lower_bound(right, total) == pytest.approx(bound, abs=1e-4)


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_bound_holds_its_level(total: int, right: int) -> None:
    """At the bound, as many right answers or more have a chance of 5%: counted directly."""
    right = min(right, total)
    chance = lower_bound(right, total)
    tail = sum(math.comb(total, k) * chance**k * (1 - chance) ** (total - k) for k in range(right, total + 1))
    assert tail == pytest.approx(0.05 if right else 1.0, abs=1e-6)
    assert chance <= right / total


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_upper_bound_is_the_lower_one_of_what_is_wrong(total: int, right: int) -> None:
    right = min(right, total)
    assert upper_bound(right, total) == pytest.approx(1.0 - lower_bound(total - right, total))
    assert upper_bound(right, total) >= right / total


def test_as_many_of_the_surest_are_accepted_as_the_bound_bears() -> None:
    scored = [(1.0 - n / 1000, n != 70) for n in range(100)]
    assert most_accepted(scored, 0.95, 0.05) == 100
    assert most_accepted(scored[:92], 0.95, 0.05) == 70
    assert most_accepted(scored[:58], 0.95, 0.05) == 0


def test_answers_of_one_confidence_are_not_parted() -> None:
    assert most_accepted([(0.9, True)] * 70 + [(0.8, True)] * 30 + [(0.8, False)] * 9, 0.95, 0.05) == 70
