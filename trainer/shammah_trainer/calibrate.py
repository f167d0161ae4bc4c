"""From held-out answers to a calibrated confidence and a threshold. Pure numbers; knows no model.

Wrong answers come from all held-out queries: a phrasing answered wrongly, a group never trained on, and queries that no
model of this kind can answer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from shammah_data.binomial import most_accepted
from shammah_data.manifest import Calibration
from shammah_runtime.engine.confidence import LOWEST, NAMES, Features, confidence
from shammah_trainer.logistic import Prior, fit_logistic

# Accepts nothing: confidence never exceeds 1.
NOTHING = 2.0
# Few labels must not make the curve a step: weights are drawn towards what tuned small models show, per nat.
_PRIOR = Prior(
    weights={"mean": 6.0, "least": 0.5, "opening": 0.5, "support": 3.0},
    widths={"mean": 4.0, "least": 1.0, "opening": 1.0, "support": 3.0},
)
_FOLDS = 10
# How often a threshold may be worse than promised: certified, and while the labels are too few for that.
CERTAIN = 0.05
PROBABLE = 0.5

Label = tuple[Features, bool]


def calibrate(labels: Sequence[Label], target_precision: float, groups: Sequence[int] | None = None) -> Calibration:
    """Fit the confidence and choose the threshold from (features, right) of held-out answers.

    `groups` names the group of each label; answers of one group never judge the curve that they were fitted to. The
    threshold is chosen on the pooled out-of-fold confidences: it accepts the most answers whose precision is at least the
    target with 95% confidence (`certified`); failing that, the most that reach it as likely as not; failing that, the surer
    half of the answers surer than every wrong one.
    """
    weights, intercept = fit(labels)
    curve = Calibration(weights, intercept, NOTHING, target_precision, len(labels), 0, 0, certified=False)
    if not any(weights.values()):
        return curve
    scored = sorted(_out_of_fold(labels, groups or range(len(labels))), key=lambda pair: (-pair[0], pair[1]))
    accepted = most_accepted(scored, target_precision, CERTAIN)
    certified = bool(accepted)
    if not accepted:
        accepted = most_accepted(scored, target_precision, PROBABLE)
    if not accepted:
        faultless = next((count for count, (_, right) in enumerate(scored) if not right), len(scored))
        accepted = (faultless + 1) // 2
    if not accepted:
        return curve
    # The curve fitted to all labels has a scale of its own: on it, too, as large a share is accepted.
    surest = sorted((confidence(curve, found) for found, _ in labels), reverse=True)
    accepted_right = sum(right for _, right in scored[:accepted])
    return replace(curve, threshold=surest[accepted - 1], accepted=accepted, accepted_right=accepted_right, certified=certified)


def _out_of_fold(labels: Sequence[Label], groups: Sequence[int]) -> list[tuple[float, bool]]:
    """The confidence of each answer by a curve that was fitted without its group, and whether it is right."""
    fold_of = {group: n % _FOLDS for n, group in enumerate(sorted(set(groups), key=_order))}
    found = []
    for fold in sorted(set(fold_of.values())):
        rest = [label for label, group in zip(labels, groups, strict=True) if fold_of[group] != fold]
        weights, intercept = fit(rest)
        curve = Calibration(weights, intercept, NOTHING, 1.0, len(rest), 0, 0, certified=False)
        own = [label for label, group in zip(labels, groups, strict=True) if fold_of[group] == fold]
        found += [(confidence(curve, features), right) for features, right in own]
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
    return fit_logistic(rows, [right for _, right in labels], _PRIOR)
