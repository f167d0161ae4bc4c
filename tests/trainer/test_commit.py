"""When an answer may be shown before it has ended, from held-out answers."""

import random
from collections.abc import Sequence

import pytest

from shammah_data.manifest import Calibration, Early, EarlyStep
from shammah_data.targets import held_to, shown_early
from shammah_runtime.engine.backing import Backing
from shammah_runtime.engine.confidence import confidence, features, logistic
from shammah_trainer.calibrate import NOTHING
from shammah_trainer.commit import KEPT, fit_early
from shammah_trainer.dataset import Example
from shammah_trainer.evaluate import COMMITTED_AFTER, Outcome


def outcome(mean: float, right: bool, finished: bool = True, longer: bool = True) -> Outcome:
    """An answer whose tokens are all equally likely."""
    found = features([mean] * COMMITTED_AFTER, Backing())
    early = found if longer else None
    return Outcome(Example("a", "q", "t"), "phrasing", "t", found, finished, right, "", 1.0, 20, early)


def drawn(count: int, seed: int = 0) -> list[Outcome]:
    rng = random.Random(seed)
    means = [-rng.uniform(0.0, 1.5) for _ in range(count)]
    return [outcome(mean, rng.random() < logistic(10.0 * mean + 6.0)) for mean in means]


def fitted(outcomes: Sequence[Outcome], given: Sequence[bool]) -> tuple[Early, EarlyStep]:
    found = fit_early(outcomes, {0.9: given}, range(len(outcomes)), 160)
    assert found is not None
    return found, found.steps[0]


def given_above(outcomes: Sequence[Outcome], mean: float) -> list[bool]:
    return [one.features["mean"] >= mean for one in outcomes]


def test_what_would_be_taken_back_is_not_shown() -> None:
    outcomes = drawn(600)
    wide, narrow = given_above(outcomes, -0.3), given_above(outcomes, -0.1)
    for given in (wide, narrow):
        curve, step = fitted(outcomes, given)
        shown = [n for n, one in enumerate(outcomes) if one.early and confidence(curve, one.early) >= step.threshold]
        assert 30 < len(shown) <= sum(given) / KEPT
        assert sum(given[n] for n in shown) >= KEPT * len(shown)
        assert (step.committed, step.kept) == (len(shown), sum(given[n] for n in shown))
    assert fitted(outcomes, wide)[1].committed > fitted(outcomes, narrow)[1].committed


def test_what_is_shown_reaches_the_target_even_where_all_of_it_is_given() -> None:
    outcomes = drawn(600)
    _, step = fitted(outcomes, [True] * len(outcomes))
    assert 0.9 * step.committed <= step.right < step.committed < 500


def test_with_few_answers_nothing_is_shown_early() -> None:
    for few in (6, 20):
        given = [n < few for n in range(60)]
        outcomes = [outcome(-0.01 * n, right) for n, right in enumerate(given)]
        found = fit_early(outcomes, {0.9: given}, range(60), 160)
        assert (found is None) is (few < 7)
    assert found is not None
    assert 7 <= found.steps[0].committed <= 20


def test_a_target_that_lets_nothing_through_shows_nothing_early() -> None:
    outcomes = drawn(600)
    found = fit_early(outcomes, {0.9: given_above(outcomes, -0.3), 0.99: [False] * 600}, range(600), 160)
    assert found is not None
    assert (found.steps[1].committed, found.steps[1].threshold) == (0, NOTHING)


def test_an_answer_that_does_not_end_is_not_kept() -> None:
    outcomes = drawn(600)
    given = given_above(outcomes, -0.3)
    endless = [
        outcome(one.features["mean"], one.right, finished=n % 10 > 0) if given[n] else one for n, one in enumerate(outcomes)
    ]
    assert fitted(outcomes, given)[1].committed > 0
    assert fit_early(endless, {0.9: given}, range(600), 160) is None


@pytest.mark.parametrize("outcomes", [[], [outcome(-0.1, True, longer=False)] * 80, [outcome(-0.1, False)] * 80])
def test_where_there_is_nothing_to_show_there_is_no_curve(outcomes: list[Outcome]) -> None:
    assert fit_early(outcomes, {0.9: [True] * len(outcomes)}, range(len(outcomes)), 160) is None


def test_the_target_in_force_decides_from_where_on_it_is_shown() -> None:
    steps = (EarlyStep(0.8, 0.6, 50, 50, 45), EarlyStep(0.95, 0.9, 40, 40, 40), EarlyStep(0.99, NOTHING, 0, 0, 0))
    curve = Calibration({"mean": 1.0}, 0.0, 0.9, 0.95, 100, 20, 20, False, early=Early(8, 160, {"mean": 1.0}, 0.0, 90, steps))
    assert shown_early(held_to(curve, 0.0)) == steps[1]
    assert shown_early(held_to(curve, 0.999)) is None
    assert shown_early(Calibration({"mean": 1.0}, 0.0, 0.9, 0.95, 100, 20, 20, False)) is None
