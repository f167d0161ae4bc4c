"""From held-out answers to a calibrated confidence and a threshold. Pure numbers; knows no model.

Wrong answers come from all held-out queries: a phrasing answered wrongly, a group never trained on, and queries that no
model of this kind can answer.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shammah_data.manifest import Calibration
from shammah_runtime.engine.confidence import LOWEST, NAMES, Features, confidence

# Accepts nothing: confidence never exceeds 1.
NOTHING = 2.0
# Few labels must not make the curve a step: weights are drawn towards what tuned small models show, per nat.
_PRIOR = {"mean": 6.0, "least": 0.5, "opening": 0.5, "support": 3.0}
_PRIOR_WIDTH = {"mean": 4.0, "least": 1.0, "opening": 1.0, "support": 3.0}
_WIDEST_MARGIN = 0.05

Floats = npt.NDArray[np.float64]
Label = tuple[Features, bool]


def calibrate(labels: Sequence[Label], target_precision: float) -> Calibration:
    """Fit the confidence and choose the threshold from (features, right) of held-out answers.

    The threshold accepts the most answers of which at least the target share is right; `certified` says whether they are
    enough to promise as much of answers to come.
    """
    weights, intercept = fit(labels)
    curve = Calibration(weights, intercept, NOTHING, target_precision, len(labels), 0, 0, certified=False)
    scored = sorted(((confidence(curve, found), right) for found, right in labels), key=lambda s: (-s[0], s[1]))
    accepted = right = 0
    for count, (_, is_right) in enumerate(scored, 1):
        right += is_right
        if is_right and right / count >= target_precision:
            accepted = count
    if not accepted or not any(weights.values()):
        return curve
    threshold = scored[accepted - 1][0]
    if accepted < len(scored):
        threshold -= min(_WIDEST_MARGIN, (threshold - scored[accepted][0]) / 2)
    taken = [is_right for sure, is_right in scored if sure >= threshold]
    certified = lower_bound(sum(taken), len(taken)) >= target_precision
    return replace(curve, threshold=threshold, accepted=len(taken), accepted_right=sum(taken), certified=certified)


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


def lower_bound(right: int, total: int, error: float = 0.05) -> float:
    """One-sided lower confidence bound of a proportion, by bisection on the exact binomial tail.

    Clopper and Pearson, "The use of confidence or fiducial limits", 1934.
    """
    if right == 0:
        return 0.0
    low, high = 0.0, right / total
    for _ in range(60):
        middle = (low + high) / 2
        if _upper_tail(right, total, middle) < error:
            low = middle
        else:
            high = middle
    return low


def _upper_tail(right: int, total: int, chance: float) -> float:
    """P(X >= right) for X ~ Binomial(total, chance)."""
    if chance <= 0.0:
        return 0.0
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(chance)
        + (total - k) * math.log1p(-chance)
        for k in range(right, total + 1)
    ]
    return min(1.0, sum(math.exp(value) for value in logs))
