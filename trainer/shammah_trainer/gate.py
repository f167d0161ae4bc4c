"""May a version be published? Pure numbers in, reasons out. Knows no model.

The loss of a model that has learned only the tone of the answers falls too; so each held-out answer must also be more
likely under its own query than other groups' answers are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_MEAN_WINS = 0.75
LEAST_QUERIES = 4


@dataclass(frozen=True)
class Figures:
    """What the gate looks at; losses are mean negative log-likelihoods per response token, in nats."""

    loss_before: float
    loss_after: float
    wins: Sequence[float]
    parity_reasons: Sequence[str] = ()


def refusals(figures: Figures) -> list[str]:
    """Why a version must not be published; empty when it may."""
    reasons = [f"parity: {reason}" for reason in figures.parity_reasons]
    if not figures.loss_after < figures.loss_before:
        reasons.append(f"held-out loss did not fall: {figures.loss_before:.3f} before, {figures.loss_after:.3f} after")
    if len(figures.wins) < LEAST_QUERIES:
        reasons.append(f"only {len(figures.wins)} held-out exchanges to judge by, at least {LEAST_QUERIES} are needed")
        return reasons
    mean, low = mean_and_bound(figures.wins)
    if mean < LEAST_MEAN_WINS or low <= 0.5:
        reasons.append(
            f"held-out answers outscore other groups' answers in only {mean:.0%} of comparisons (at least "
            f"{LEAST_MEAN_WINS:.0%} are needed, style alone gives 50%): the answers do not follow from the questions"
        )
    return reasons


def mean_and_bound(shares: Sequence[float]) -> tuple[float, float]:
    """The mean of per-query shares and its one-sided 95% lower bound (normal approximation)."""
    mean = sum(shares) / len(shares)
    variance = sum((share - mean) ** 2 for share in shares) / max(1, len(shares) - 1)
    return mean, mean - 1.645 * math.sqrt(variance / len(shares))
