import pytest

from shammah_data.shares import Share, calibration_error, reliability, risk_coverage


@pytest.mark.parametrize(
    ("part", "total", "low", "high"),
    # The examples of Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(part: int, total: int, low: float, high: float) -> None:
    assert Share(part, total).interval == pytest.approx((low, high), abs=5e-5)


def test_an_interval_stays_within_bounds() -> None:
    assert Share(20, 20).interval[1] == 1.0
    assert (Share(41, 57).percent, Share(41, 57).range) == ("72%", "59-82%")


def test_every_answer_is_in_one_bin() -> None:
    answers = [(0.0, False), (0.05, True), (0.1, False), (0.95, True), (1.0, True)]
    bins = reliability(answers)
    assert [(each.low, each.right.part, each.right.total) for each in bins] == [(0.0, 1, 2), (0.1, 0, 1), (0.9, 2, 2)]
    assert bins[-1].mean == pytest.approx(0.975)


def test_a_confidence_that_means_what_it_says_has_no_error() -> None:
    honest = [(0.75, True)] * 3 + [(0.75, False)] + [(0.25, False)] * 3 + [(0.25, True)]
    assert calibration_error(honest) == pytest.approx(0.0)
    assert calibration_error([(0.95, False)] * 4) == pytest.approx(0.95)
    assert calibration_error([]) == 0.0


def test_risk_grows_with_the_share_answered_and_equals_come_together() -> None:
    curve = risk_coverage([(0.2, False), (0.9, True), (0.9, False), (0.95, True)])
    assert [(one.threshold, one.answered.part, one.wrong.part) for one in curve] == [(0.95, 1, 0), (0.9, 3, 1), (0.2, 4, 2)]
    assert risk_coverage([]) == []
