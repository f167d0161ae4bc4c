"""Logistic regression with a prior on each weight, and no weight below zero. Pure numbers; knows no answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_INTERCEPT_PENALTY = 1e-3


@dataclass(frozen=True)
class Prior:
    """Where weights are drawn to, by feature, and how wide: few labels must not make the curve a step."""

    weights: Mapping[str, float]
    widths: Mapping[str, float]
    intercept: float = 0.0

    def of(self, names: Sequence[str]) -> "Prior":
        """The same of some of the weights."""
        return Prior({n: self.weights[n] for n in names}, {n: self.widths[n] for n in names}, self.intercept)


def fit_logistic(rows: Sequence[Mapping[str, float]], right: Sequence[bool], prior: Prior) -> tuple[dict[str, float], float]:
    """Weights and intercept of P(right) = 1 / (1 + exp(-(w . features + intercept))), by Newton's method.

    A feature whose weight comes out negative is left out: confidence must not fall when more speaks for an answer. Labels
    are smoothed as in Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    names = list(prior.weights)
    while names:
        found = _newton(rows, right, names, prior)
        negative = [name for name, weight in zip(names, found[:-1], strict=True) if weight < 0]
        if not negative:
            return {name: float(weight) for name, weight in zip(names, found, strict=False)}, float(found[-1])
        names.remove(negative[0])
    return {}, 0.0


def _newton(rows: Sequence[Mapping[str, float]], right: Sequence[bool], names: Sequence[str], prior: Prior) -> Floats:
    start = np.array([*(prior.weights[name] for name in names), prior.intercept])
    if not rows:
        return start
    design = np.array([[*(row[name] for name in names), 1.0] for row in rows])
    is_right = np.array(right, dtype=bool)
    targets = np.where(is_right, (is_right.sum() + 1) / (is_right.sum() + 2), 1 / ((~is_right).sum() + 2))
    penalty = np.diag([*(1 / prior.widths[name] ** 2 for name in names), _INTERCEPT_PENALTY])
    weights = start.copy()
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -50, 50)))
        gradient = design.T @ (chance - targets) + penalty @ (weights - start)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        # Newton overshoots where the curve is flat.
        weights -= step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return weights
