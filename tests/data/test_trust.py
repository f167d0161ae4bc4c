import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.trust import CAUTIOUS, Record, expected, fit_prior, shift


def outcomes(*right: bool) -> Record:
    record = Record()
    for one in right:
        record = record.plus(one)
    return record


def test_an_answer_that_was_never_seen_is_as_good_as_the_others() -> None:
    assert shift((9.0, 1.0), Record()) == 0.0
    assert expected((9.0, 1.0), Record()) == pytest.approx(0.9)


def test_one_bad_outcome_takes_more_than_two_good_ones_give() -> None:
    prior = CAUTIOUS
    assert 0 < shift(prior, outcomes(True)) < shift(prior, outcomes(True, True)) <= 0.5
    assert shift(prior, outcomes(False)) < -1.0
    assert shift(prior, outcomes(True, True, False)) < 0
    assert shift(prior, outcomes(False, False)) < shift(prior, outcomes(False))


def test_good_outcomes_of_another_version_count_less_and_bad_ones_in_full() -> None:
    assert Record().plus(True, same_version=False).right < Record().plus(True).right
    assert Record().plus(False, same_version=False) == Record().plus(False)


def test_the_prior_follows_what_was_seen() -> None:
    assert fit_prior([]) == CAUTIOUS
    good, mixed = fit_prior([Record(5, 0)] * 40), fit_prior([Record(3, 2)] * 40)
    assert good[0] / sum(good) > 0.95
    assert 0.5 <= mixed[0] / sum(mixed) < 0.7
    # Where some answers are always wrong and the others never, one outcome says more.
    divided = fit_prior([Record(5, 0)] * 30 + [Record(0, 5)] * 10)
    assert sum(divided) < sum(mixed)
    assert shift(divided, outcomes(False)) < shift(mixed, outcomes(False))


@given(st.lists(st.booleans(), max_size=30), st.floats(0.6, 0.99), st.floats(2, 10))
def test_the_expectation_is_a_chance_and_moves_with_each_outcome(seen: list[bool], mean: float, strength: float) -> None:
    prior = mean * strength, (1 - mean) * strength
    record = outcomes(*seen)
    now = expected(prior, record)
    assert 0.0 < now < 1.0
    assert expected(prior, record.plus(True)) > now > expected(prior, record.plus(False))
