import pytest

from shammah_trainer.pace import Pace


def test_it_warms_up_and_decays_to_nothing() -> None:
    pace = Pace(100)
    assert [pace.rate(step, 0.0) for step in (0, 1, 4)] == pytest.approx([0.2, 0.4, 1.0])
    rates = [pace.rate(step, 0.0) for step in range(5, 101)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] == 0.0


def test_without_a_limit_the_clock_changes_nothing() -> None:
    assert [Pace(50).rate(step, 1e6) for step in range(50)] == [Pace(50).rate(step, 0.0) for step in range(50)]
    assert not Pace(50).over(1e9)


def test_with_too_little_time_the_rate_reaches_nothing_when_it_is_up() -> None:
    """Ten seconds, one step a second, of a hundred steps."""
    pace = Pace(100, most_seconds=10.0)
    rates = [pace.rate(second, float(second)) for second in range(11)]
    assert rates[-1] == 0.0
    assert rates[9] < 0.2
    assert not pace.over(9.9)
    assert pace.over(10.0)


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    pace = Pace(100, most_seconds=1000.0)
    assert [pace.rate(step, float(step)) for step in range(100)] == [Pace(100).rate(step, 0.0) for step in range(100)]


def test_a_training_that_is_taken_up_spreads_what_is_left_over_its_own_time() -> None:
    pace = Pace(100, most_seconds=10.0, first=50)
    assert pace.rate(50, 0.0) == Pace(100).rate(50, 0.0)
    assert pace.rate(51, 5.0) == pytest.approx(Pace(100).rate(75, 0.0))
    assert pace.rate(55, 10.0) == 0.0
