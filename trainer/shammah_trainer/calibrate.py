"""From held-out answers to a calibrated confidence and a threshold. Pure numbers; knows no model.

Wrong answers come from all held-out queries: a phrasing answered wrongly, a group never trained on, and queries that no
model of this kind can answer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shammah_data.binomial import most_accepted
from shammah_data.manifest import Calibration
from shammah_runtime.engine.confidence import LOWEST, NAMES, Features, confidence

# Accepts nothing: confidence never exceeds 1.
NOTHING = 2.0
# Few labels must not make the curve a step: weights are drawn towards what tuned small models show, per nat.
_PRIOR = {"mean": 6.0, "least": 0.5, "opening": 0.5, "support": 3.0}
_PRIOR_WIDTH = {"mean": 4.0, "least": 1.0, "opening": 1.0, "support": 3.0}
_FOLDS = 10
# How often a threshold may be worse than promised: certified, and while the labels are too few for that.
CERTAIN = 0.05
PROBABLE = 0.25

Floats = npt.NDArray[np.float64]
Label = tuple[Features, bool]


def calibrate(labels: Sequence[Label], target_precision: float, groups: Sequence[int] | None = None) -> Calibration:
    """Fit the confidence and choose the threshold from (features, right) of held-out answers.

    `groups` names the group of each label; answers of one group never judge the curve that they were fitted to. The
    threshold is chosen on the pooled out-of-fold confidences: it accepts the most answers whose precision is at least the
    target with 95% confidence (`certified`); failing that, the most that reach it with 75%; failing that, the surer
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
    """Weights and intercept of a logistic curve, by Newton's method on the penalized likelihood.

    A feature whose weight comes out negative is left out: confidence must not fall when the model is surer. Labels are
    smoothed as in Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    names = list(NAMES)
    while names:
        found = _newton(labels, names)
        negative = [name for name, weight in zip(names, found[:-1], strict=True) if weight < 0]
        if not negative:
            return {name: float(weight) for name, weight in zip(names, found, strict=False)}, float(found[-1])
        names.remove(negative[0])
    return {}, 0.0


def _newton(labels: Sequence[Label], names: Sequence[str]) -> Floats:
    prior = np.array([*(_PRIOR[name] for name in names), 0.0])
    if not labels:
        return prior
    design = np.array([[*(max(found[name], LOWEST) for name in names), 1.0] for found, _ in labels])
    right = np.array([is_right for _, is_right in labels], dtype=bool)
    high, low = (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2)
    targets = np.where(right, high, low)
    penalty = np.diag([*(1 / _PRIOR_WIDTH[name] ** 2 for name in names), 1e-3])
    weights = prior.copy()
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -50, 50)))
        gradient = design.T @ (chance - targets) + penalty @ (weights - prior)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        # Newton overshoots where the curve is flat.
        weights -= step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return weights
