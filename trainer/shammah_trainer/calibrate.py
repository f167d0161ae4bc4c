"""From held-out answers to a calibrated confidence and a threshold. Pure numbers; knows no model.

Wrong answers come from all held-out queries: a phrasing answered wrongly, a group never trained on, and queries that no
model of this kind can answer.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from shammah_data.binomial import lower_bound, most_accepted
from shammah_data.manifest import Calibration, Step
from shammah_runtime.engine.confidence import LOWEST, NAMES, OWN, Features, confidence
from shammah_trainer.logistic import Prior, fit_logistic

# Accepts nothing: confidence never exceeds 1.
NOTHING = 2.0
# Few labels must not make the curve a step: weights are drawn towards what tuned small models show, per nat: where earlier
# exchanges are found by meaning (docs/decisions/0022-by-heart.md), and where they are found by their words alone.
_BY_MEANING = Prior(
    weights={"mean": 2.5, "least": 0.7, "opening": 3.3, "support": 1.5, "odds": 0.4},
    widths={"mean": 1.0, "least": 0.3, "opening": 1.0, "support": 1.0, "odds": 0.1},
)
_BY_WORDS = Prior(
    weights={"mean": 2.0, "least": 0.2, "opening": 5.0, "support": 6.0},
    widths={"mean": 2.0, "least": 0.3, "opening": 2.0, "support": 3.0},
)
# What a user may want instead of the target of the night.
TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
_FOLDS = 10
# However well it did on what was held out, an answer that is more likely wrong than right is not given.
GUESS = 0.5
# Each may be so many times as likely to be wrong as all may be on average, and none need be surer than this; see `least`.
# A curve fitted to few labels is less sure than it might be, so a little less than the target is asked.
_DOUBT = 1.6
_SURE = 0.92
# The error of one bound: of a certified threshold, and while the labels are too few for that.
CERTAIN = 0.05
PROBABLE = 0.5

Label = tuple[Features, bool]


def calibrate(
    labels: Sequence[Label], target_precision: float, groups: Sequence[int] | None = None
) -> tuple[Calibration, list[int]]:
    """Fit the confidence and choose the threshold from (features, right) of held-out answers.

    `groups` names the group of each label; answers of one group never judge the curve that they were fitted to. The
    threshold is chosen on the pooled out-of-fold confidences: it accepts the most answers for which the lower 95% bound of the
    precision is at least the target (`certified`; less sure than 95%, see `most_accepted`); failing that, the most that reach
    it as likely as not, or hold it both by their labels and by the mean of these and of the confidences, for few labels alone
    say little; failing that, the surer half of the answers surer than every wrong one. None below `least` is accepted. The
    other TARGETS get a threshold each by the same rule.
    Beside the calibration it returns the place of each answer, the surest first, by the curves that were fitted without their
    groups: those whose place is below `accepted` are accepted.
    """
    weights, intercept = fit(labels)
    curve = Calibration(weights, intercept, NOTHING, target_precision, len(labels), 0, 0, certified=False)
    if not any(weights.values()):
        return curve, list(range(len(labels)))
    apart = out_of_fold(labels, groups or range(len(labels)))
    order = sorted(range(len(labels)), key=lambda n: (-apart[n], labels[n][1]))
    scored = [(apart[n], labels[n][1]) for n in order]
    # The curve fitted to all labels has a scale of its own: on it, too, as large a share is accepted.
    surest = sorted((confidence(curve, found) for found, _ in labels), reverse=True)

    def step(target: float, accepted: int, certified: bool) -> Step:
        threshold = surest[accepted - 1] if accepted else NOTHING
        return Step(target, threshold, accepted, sum(right for _, right in scored[:accepted]), certified and accepted > 0)

    ladder = tuple(
        step(target, *found)
        for target, found in climbed(lambda target: given(scored, surest, target), target_precision).items()
    )
    own = next(one for one in ladder if one.target_precision == target_precision)
    found = replace(
        curve,
        threshold=own.threshold,
        accepted=own.accepted,
        accepted_right=own.accepted_right,
        certified=own.certified,
        ladder=ladder,
    )
    place = {n: at for at, n in enumerate(order)}
    return found, [place[n] for n in range(len(labels))]


def least(target_precision: float) -> float:
    """The confidence below which no answer is given, however well the others do; 0.92 from a target of 95% on.

    Where only the average counts, sure answers pay for guesses, and a guess is what a question gets of which nothing is known
    (docs/decisions/0018-no-answer-on-credit.md).
    """
    return min(_SURE, max(GUESS, 1.0 - _DOUBT * (1.0 - target_precision)))


def given(scored: Sequence[tuple[float, bool]], surest: Sequence[float], target_precision: float) -> tuple[int, bool]:
    """How many of the surest answers are given, and whether that is certified: what is `chosen`, less those below `least`.

    `surest`: the confidences that the runtime will see, the surest first. What is left holds the target by its labels.
    """
    accepted, certified = chosen(scored, target_precision)
    left = sum(sure >= least(target_precision) for sure in surest[:accepted])
    if left == accepted:
        return accepted, certified
    right = [sum(label for _, label in scored[:count]) for count in range(left + 1)]
    left = max(count for count in range(left + 1) if right[count] >= target_precision * count)
    return left, certified and left > 0 and lower_bound(right[left], left, CERTAIN) >= target_precision


def climbed(choose: Callable[[float], tuple[int, bool]], target_precision: float) -> dict[float, tuple[int, bool]]:
    """What `choose` accepts, and whether that is certified, for TARGETS and the night's own, the lowest first.

    A higher target never accepts more than a lower one, as may come out where the lower one is certified and the higher one
    only likely: the night's own stands, those above it accept no more and those below no less.
    """
    found = {target: choose(target) for target in sorted({*TARGETS, target_precision})}
    accepted, _ = found[target_precision]
    for target in [target for target in found if target > target_precision]:
        accepted = min(accepted, found[target][0])
        found[target] = accepted, found[target][1] and found[target][0] == accepted
    accepted, _ = found[target_precision]
    for target in sorted((target for target in found if target < target_precision), reverse=True):
        accepted = max(accepted, found[target][0])
        found[target] = accepted, found[target][1] and found[target][0] == accepted
    return found


def chosen(scored: Sequence[tuple[float, bool]], target_precision: float) -> tuple[int, bool]:
    """How many of the surest answers are accepted, and whether that is certified; see `calibrate`.

    `scored`: (confidence, right), the surest first and of equals the wrong ones first.
    """
    scored = [one for one in scored if one[0] >= GUESS]
    if accepted := most_accepted(scored, target_precision, CERTAIN):
        return accepted, True
    if accepted := max(most_accepted(scored, target_precision, PROBABLE), _promised(scored, target_precision)):
        return accepted, False
    faultless = next((count for count, (_, right) in enumerate(scored) if not right), len(scored))
    return (faultless + 1) // 2, False


def _promised(scored: Sequence[tuple[float, bool]], target_precision: float) -> int:
    """How many of the surest hold the target by their labels, and by the mean of these and of the confidences."""
    accepted = right = 0
    promised = 0.0
    for count, (sure, is_right) in enumerate(scored, 1):
        right += is_right
        promised += sure
        # A threshold cannot part answers of the same confidence.
        parted = count == len(scored) or scored[count][0] < sure
        if parted and right >= target_precision * count and (right + promised) / 2.0 >= target_precision * count:
            accepted = count
    return accepted


def out_of_fold(labels: Sequence[Label], groups: Sequence[int]) -> list[float]:
    """The confidence of each answer by a curve that was fitted without its group."""
    fold_of = {group: n % _FOLDS for n, group in enumerate(sorted(set(groups), key=_order))}
    found = [0.0] * len(labels)
    for fold in sorted(set(fold_of.values())):
        rest = [label for label, group in zip(labels, groups, strict=True) if fold_of[group] != fold]
        weights, intercept = fit(rest)
        curve = Calibration(weights, intercept, NOTHING, 1.0, len(rest), 0, 0, certified=False)
        for n, group in enumerate(groups):
            if fold_of[group] == fold:
                found[n] = confidence(curve, labels[n][0])
    return found


def _order(group: int) -> bytes:
    """A place that does not follow the order in which groups are numbered, the same in every process."""
    return hashlib.sha256(str(group).encode()).digest()


def accepts(calibration: Calibration, found: Features) -> bool:
    """Whether the runtime would give this answer."""
    return confidence(calibration, found) >= calibration.threshold


def fit(labels: Sequence[Label]) -> tuple[dict[str, float], float]:
    """Weights and intercept of the confidence; see `fit_logistic`."""
    rows = [{name: max(found[name], LOWEST) for name in NAMES} for found, _ in labels]
    told = [name for name in NAMES if name in OWN or len({row[name] for row in rows}) > 1]
    prior = _BY_MEANING if "odds" in told else _BY_WORDS
    return fit_logistic(rows, [right for _, right in labels], prior.of(told))
