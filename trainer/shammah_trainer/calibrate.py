"""From held-out answers to a calibrated confidence and a threshold. Pure numbers; knows no model.

Held-out answers that are wrong come from both sets: a phrasing answered wrongly, and a group never trained on.
"""

import math
from collections.abc import Sequence

import numpy as np

from shammah_data.manifest import Calibration
from shammah_runtime.engine.confidence import logistic

# Accepts nothing: confidence never exceeds 1.
NOTHING = 2.0
# Few labels must not make the curve a step: its slope is drawn towards what tuned small models show.
_PRIOR_SLOPE, _PRIOR_WIDTH = 8.0, 4.0
_WIDEST_MARGIN = 0.1


def calibrate(scores: Sequence[tuple[float, bool]], target_precision: float) -> Calibration:
    """Fit the confidence and choose the threshold from (mean log-probability, right) of held-out answers.

    The threshold accepts the most answers such that the target would still be held with one more wrong answer among
    them; where no cut is that long, the most answers without a single wrong one.
    """
    slope, intercept = fit(scores)
    ordered = sorted(scores, key=lambda item: (-item[0], item[1]))
    best = right = faultless = 0
    for count, (_, is_right) in enumerate(ordered, 1):
        right += is_right
        if is_right and right / (count + 1) >= target_precision:
            best = count
        if right == count:
            faultless = count
    accepted = best or faultless
    threshold = NOTHING
    accepted_right = sum(is_right for _, is_right in ordered[:accepted])
    if accepted and slope > 0:
        cut = ordered[accepted - 1][0]
        if accepted < len(ordered):
            cut -= min(_WIDEST_MARGIN, (cut - ordered[accepted][0]) / 2)
        threshold = logistic(slope * cut + intercept)
    return Calibration(
        slope=slope,
        intercept=intercept,
        threshold=threshold,
        target_precision=target_precision,
        examples=len(scores),
        accepted=accepted,
        accepted_right=accepted_right,
        certified=accepted > 0 and lower_bound(accepted_right, accepted) >= target_precision,
    )


def fit(scores: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Slope and intercept of the logistic curve, by Newton's method on the penalized likelihood.

    Labels are smoothed as in Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    if not scores:
        return _PRIOR_SLOPE, 0.0
    x = np.array([max(mean, -20.0) for mean, _ in scores])
    y = np.array([right for _, right in scores], dtype=bool)
    high, low = (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2)
    labels = np.where(y, high, low)
    design = np.stack([x, np.ones_like(x)], axis=1)
    penalty = np.diag([1 / _PRIOR_WIDTH**2, 1e-3])
    prior = np.array([_PRIOR_SLOPE, 0.0])
    weights = prior.copy()
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -50, 50)))
        gradient = design.T @ (chance - labels) + penalty @ (weights - prior)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        # Newton overshoots where the curve is flat.
        weights -= step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def lower_bound(right: int, total: int, error: float = 0.05) -> float:
    """One-sided lower confidence bound of a proportion (Clopper and Pearson, "The use of confidence or fiducial limits",
    1934), by bisection on the exact binomial tail."""
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
