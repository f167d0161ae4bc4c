import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shammah_data.binomial import lower_bound
from shammah_data.manifest import Step
from shammah_runtime.engine.backing import Backing
from shammah_runtime.engine.confidence import Features, confidence, features, logistic
from shammah_trainer import calibrate as rule
from shammah_trainer.calibrate import CERTAIN, NOTHING, PROBABLE, TARGETS, accepts, calibrate, chosen, fit, least

Label = tuple[Features, bool]


def flat(logprob: float) -> Features:
    """Features of an answer whose tokens are all equally likely."""
    return features([logprob] * 6, Backing(0.0))


def drawn(slope: float, intercept: float, count: int, seed: int = 0) -> list[Label]:
    """Answers that are right with a chance that is a logistic curve of their mean log-probability."""
    rng = random.Random(seed)
    means = [-rng.uniform(0.0, 2.0) for _ in range(count)]
    return [(flat(mean), rng.random() < logistic(slope * mean + intercept)) for mean in means]


@pytest.mark.parametrize(("slope", "intercept"), [(6.0, 4.0), (3.0, 2.0), (12.0, 6.0)])
def test_a_known_curve_is_recovered(slope: float, intercept: float) -> None:
    weights, found = fit(drawn(slope, intercept, 4000))
    for mean in (-0.05, -0.3, -0.6, -1.0, -1.5):
        odds = found + sum(weight * flat(mean)[name] for name, weight in weights.items())
        assert logistic(odds) == pytest.approx(logistic(slope * mean + intercept), abs=0.05)


def test_what_few_labels_cannot_tell_is_what_earlier_logs_told() -> None:
    def backed(support: float, **found: float) -> Features:
        return features([-0.1] * 6, Backing(support, **found))

    by_meaning, _ = fit([(backed(0.6, near=0.8, odds=6.0), True), (backed(0.2, near=0.3, odds=-4.0), False)])
    assert by_meaning == pytest.approx({"mean": 2.5, "least": 0.7, "opening": 3.3, "support": 1.5, "odds": 0.4}, rel=0.2)
    by_words, _ = fit([(backed(0.6), True), (backed(0.2), False)])
    assert by_words == pytest.approx({"mean": 2.0, "least": 0.2, "opening": 5.0, "support": 6.0}, rel=0.2)


def test_confidence_is_the_share_of_right_answers() -> None:
    calibration, _ = calibrate(drawn(5.0, 3.0, 4000), 0.95)
    fresh = drawn(5.0, 3.0, 4000, seed=1)
    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        inside = [right for found, right in fresh if low <= confidence(calibration, found) < low + 0.1]
        assert sum(inside) / len(inside) == pytest.approx(low + 0.05, abs=0.07)


def test_the_threshold_keeps_the_target_on_fresh_answers() -> None:
    precisions = []
    certified = 0
    for seed in range(20):
        calibration, _ = calibrate(drawn(8.0, 5.0, 1000, seed), 0.95)
        taken = [right for found, right in drawn(8.0, 5.0, 4000, seed + 100) if accepts(calibration, found)]
        certified += calibration.certified
        precisions.append(sum(taken) / len(taken))
    assert certified >= 15
    assert sum(precision < 0.95 for precision in precisions) <= 3
    assert sum(precisions) / len(precisions) < 0.985  # and not by accepting next to nothing


def test_separated_answers_are_told_apart() -> None:
    labels = [(flat(-0.01 - n / 1000), True) for n in range(30)] + [(flat(-1.0 - n / 10), False) for n in range(30)]
    calibration, _ = calibrate(labels, 0.95)
    assert (calibration.accepted, calibration.accepted_right, calibration.examples) == (30, 30, 60)
    assert [accepts(calibration, found) for found, _ in labels] == [right for _, right in labels]


@pytest.mark.parametrize("count", [0, 1, 5, 50])
def test_nothing_right_accepts_nothing(count: int) -> None:
    calibration, _ = calibrate([(flat(-0.01 * n), False) for n in range(count)], 0.9)
    assert calibration.threshold == NOTHING
    assert calibration.accepted == 0
    assert not calibration.certified
    assert not accepts(calibration, flat(0.0))


def test_the_surest_answer_being_wrong_accepts_nothing_of_a_few() -> None:
    labels = [(flat(-0.01), False), *((flat(-0.1 - n / 100), True) for n in range(4))]
    assert calibrate(labels, 0.95)[0].threshold == NOTHING


def test_it_is_certified_by_the_bound_not_by_the_share() -> None:
    faultless = [(flat(-0.01 * n), True) for n in range(1, 60)]
    assert not calibrate(faultless[:58], 0.95)[0].certified
    assert calibrate(faultless, 0.95)[0].certified


LOGPROBS = st.lists(st.floats(-30.0, 0.0), min_size=1, max_size=12)
LABELS = st.lists(st.tuples(LOGPROBS.map(lambda logprobs: features(logprobs, Backing(0.5))), st.booleans()), max_size=40)


@settings(deadline=None)
@given(LABELS, st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]))
def test_what_is_claimed_reaches_the_target(labels: list[Label], target: float) -> None:
    calibration, _ = calibrate(labels, target)
    claimed = calibration.accepted_right, calibration.accepted
    assert calibration.examples == len(labels)
    assert calibration.accepted_right <= calibration.accepted <= len(labels)
    if calibration.certified:
        assert lower_bound(*claimed, CERTAIN) >= target
    elif calibration.accepted:
        assert calibration.accepted_right >= target * calibration.accepted or lower_bound(*claimed, PROBABLE) >= target - 1e-9
    else:
        assert calibration.threshold == NOTHING


def test_while_labels_are_few_they_and_the_curve_decide_together() -> None:
    sure = [(0.97, True)] * 6
    # Six faultless ones do not hold 95% as likely as not; that the curve is sure of them, too, does.
    assert chosen([*sure, (0.6, False)], 0.95) == (6, False)
    assert chosen([(0.8, True)] * 6 + [(0.6, False)], 0.95) == (3, False)
    # The curve is sure of all, and a label says that it is wrong.
    assert chosen([*sure, (0.96, False), (0.96, True)], 0.95) == (6, False)
    assert chosen([(0.99, False), *sure], 0.95) == (0, False)
    # One wrong answer among many does not cost the others.
    assert chosen([(0.99, True)] * 10 + [(0.98, False)] + [(0.97, True)] * 20, 0.95) == (31, False)
    # Nor need the curve be sure where the labels say so by themselves.
    assert chosen([(0.8, True)] * 14 + [(0.6, False)], 0.95) == (14, False)


def test_a_threshold_never_parts_equals() -> None:
    assert chosen([(0.97, True)] * 5 + [(0.96, False)] + [(0.96, True)] * 30, 0.95) == (36, False)
    assert chosen([(0.97, True)] * 5 + [(0.96, False)] * 2 + [(0.96, True)] * 30, 0.95) == (5, False)


def test_what_is_more_likely_wrong_than_right_is_not_accepted() -> None:
    assert chosen([(0.99, True)] * 20 + [(0.01, False)], 0.9) == (20, False)
    assert chosen([(0.99, True)] * 200 + [(0.01, True)] * 10, 0.9) == (200, True)


def test_sure_answers_do_not_pay_for_guesses() -> None:
    sure, unsure = [(0.99, True)] * 120, [(0.9, True)] * 20
    assert chosen([*sure, *unsure], 0.95) == (140, True)
    assert rule.given([*sure, *unsure], [0.99] * 120 + [0.9] * 20, 0.95) == (120, True)
    # What is left is judged anew: 40 faultless ones are too few, and a wrong one among the first ten is too much.
    assert rule.given([*sure[:40], *unsure], [0.99] * 40 + [0.9] * 20, 0.95) == (40, False)
    assert rule.given([*sure[:5], (0.98, False), *sure[:4], *unsure], [0.99] * 10 + [0.9] * 20, 0.95) == (5, False)
    # By the curve that the runtime has; what it is less sure of is not given.
    assert rule.given([*sure, *unsure], [0.91] * 140, 0.95) == (0, False)


def test_the_lower_the_target_the_less_sure_an_answer_must_be() -> None:
    assert [least(target) for target in (0.6, 0.8, 0.9, 0.95, 0.99, 1.0)] == pytest.approx([0.5, 0.68, 0.84, 0.92, 0.92, 0.92])
    steps = calibrate(drawn(8.0, 5.0, 1000), 0.95)[0].ladder
    assert all(step.threshold >= least(step.target_precision) for step in steps)
    assert steps[0].threshold < 0.75


@settings(max_examples=60, deadline=None)
@given(LABELS, st.sampled_from([0.6, 0.9, 0.95, 0.97, 1.0]))
def test_a_higher_target_never_accepts_more(labels: list[Label], target: float) -> None:
    calibration, places = calibrate(labels, target)
    ladder = calibration.ladder
    if not ladder:
        assert calibration.threshold == NOTHING
        return
    assert [step.target_precision for step in ladder] == sorted({*TARGETS, target})
    for low, high in pairwise(ladder):
        assert low.accepted >= high.accepted
        assert low.threshold <= high.threshold
    for step in ladder:
        assert step.accepted == sum(place < step.accepted for place in places)
        assert step.accepted_right == sum(
            right for (_, right), place in zip(labels, places, strict=True) if place < step.accepted
        )
        bound = lower_bound(step.accepted_right, step.accepted, CERTAIN) if step.accepted else 0.0
        assert not step.certified or bound >= step.target_precision
        assert (step.threshold == NOTHING) == (step.accepted == 0)
    own = next(step for step in ladder if step.target_precision == target)
    assert own == Step(target, calibration.threshold, calibration.accepted, calibration.accepted_right, calibration.certified)


def test_a_group_never_judges_the_curve_that_it_was_fitted_to() -> None:
    """Answers of one group are alike: left in, they would vouch for themselves."""
    rng = random.Random(0)
    labels, groups = [], []
    for group in range(24):
        # What speaks for an answer of this group has nothing to do with whether it is right.
        mean, right = -rng.uniform(0.0, 0.3), rng.random() < 0.5
        labels += [(features([mean] * 6, Backing(0.5 + 0.01 * rng.random())), right) for _ in range(8)]
        groups += [group] * 8
    apart, _ = calibrate(labels, 0.9, groups)
    assert not apart.certified
    assert sum(accepts(apart, found) for found, _ in labels) <= 32


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, 200, 600])
def test_the_promise_is_kept_over_two_hundred_draws(count: int) -> None:
    """Precision on fresh answers: its upper 95% limit lies below the target in at most 5% of the draws."""
    fresh = drawn(8.0, 4.0, 400, 999)
    broken = 0
    for seed in range(200):
        calibration, _ = calibrate(drawn(8.0, 4.0, count, seed), 0.95)
        taken = [right for found, right in fresh if accepts(calibration, found)]
        wrong = len(taken) - sum(taken)
        broken += bool(taken) and 1.0 - lower_bound(wrong, len(taken)) < 0.95
    assert broken <= 10


@settings(deadline=None)
@given(LABELS, LOGPROBS, st.floats(0.0, 1.0))
def test_confidence_never_falls_when_every_token_is_likelier(labels: list[Label], logprobs: list[float], share: float) -> None:
    calibration, _ = calibrate(labels, 0.9)
    better = [logprob * share for logprob in logprobs]
    lower, higher = (confidence(calibration, features(some, Backing(0.5))) for some in (logprobs, better))
    assert higher >= lower - 1e-12
    assert all(weight >= 0 for weight in calibration.weights.values())


def test_answers_without_any_chance_do_no_harm() -> None:
    labels = [
        (features([], Backing(0.0)), False),
        (features([-math.inf], Backing(0.0)), False),
        *((flat(-0.01), True) for _ in range(20)),
    ]
    calibration, _ = calibrate(labels, 0.9)
    assert math.isfinite(calibration.intercept)
    assert not accepts(calibration, features([], Backing(1.0)))
    assert accepts(calibration, flat(-0.01))
