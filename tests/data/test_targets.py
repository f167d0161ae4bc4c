"""Which threshold holds for which target precision: pure values."""

from dataclasses import replace

import pytest

from shammah_data.manifest import Calibration, Step
from shammah_data.targets import behind, beyond, held_to, percent, steps, told

LADDER = (Step(0.8, 0.5, 60, 52, True), Step(0.95, 0.9, 20, 20, False), Step(0.99, 0.97, 9, 9, False))
OLD = Calibration({"mean": 1.0}, 0.0, 0.9, 0.95, 100, 20, 20, False)
CURVE = replace(OLD, ladder=LADDER)


@pytest.mark.parametrize(
    ("wanted", "target", "threshold", "certified"),
    [
        (0.0, 0.95, 0.9, False),
        (0.3, 0.8, 0.5, True),
        (0.8, 0.8, 0.5, True),
        (0.1 + 0.7, 0.8, 0.5, True),
        (0.81, 0.95, 0.9, False),
        (0.96, 0.99, 0.97, False),
        (0.995, 0.995, 2.0, False),
    ],
)
def test_the_lowest_target_that_is_at_least_the_wanted_one_holds(
    wanted: float, target: float, threshold: float, certified: bool
) -> None:
    held = held_to(CURVE, wanted)
    assert (held.target_precision, held.threshold, held.certified) == (target, threshold, certified)
    assert (held.weights, held.intercept, held.ladder) == (CURVE.weights, CURVE.intercept, LADDER)
    assert (beyond(CURVE, wanted) is None) == (threshold <= 1.0)


def test_a_version_without_a_ladder_is_held_to_its_own_target_or_answers_nothing() -> None:
    assert steps(OLD) == (Step(0.95, 0.9, 20, 20, False),)
    assert held_to(OLD, 0.0) == held_to(OLD, 0.8) == OLD
    assert held_to(OLD, 0.96).threshold > 1.0
    assert beyond(OLD, 0.96) == "routing.target_precision is 96%, and the version was measured up to 95% only"


def test_the_targets_own_figures_come_with_it() -> None:
    assert told(held_to(CURVE, 0.8)) == (
        "answers from 0.50 on for 80% precision: 52 of 60 accepted held-out answers were right (certified)"
    )
    assert told(CURVE).endswith("(not yet certified)")
    assert told(held_to(CURVE, 0.995)) == "no answers: no threshold reached 99.5% precision"


def test_the_target_behind_a_threshold_is_found() -> None:
    assert behind(CURVE, 0.5) == LADDER[0]
    assert behind(CURVE, 0.9) == LADDER[1]
    # As one that audits have raised.
    assert behind(CURVE, 0.93) == LADDER[1]
    # Of two targets with one threshold the version's own, else the lower one.
    assert behind(replace(CURVE, ladder=(replace(LADDER[0], threshold=0.9), *LADDER[1:])), 0.9) == LADDER[1]
    assert behind(replace(CURVE, ladder=(LADDER[0], Step(0.9, 0.5, 60, 52, True), *LADDER[1:])), 0.5) == LADDER[0]


@pytest.mark.parametrize(("share", "says"), [(0.95, "95%"), (0.995, "99.5%"), (1.0, "100%"), (0.07, "7%")])
def test_a_share_has_no_digit_more_than_it_needs(share: float, says: str) -> None:
    assert percent(share) == says
