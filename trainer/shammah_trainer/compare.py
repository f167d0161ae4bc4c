"""Two versions on the same questions, and shares with their intervals. Pure numbers; knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shammah_data.binomial import lower_bound, upper_bound, upper_tail

_RESAMPLES = 4000
# Two-sided 95%.
_ERROR = 0.05


@dataclass(frozen=True)
class Share:
    """So many of so many, from 0 to 1, with the exact 95% interval (Clopper and Pearson, 1934)."""

    count: int
    total: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> "Share":
        """NaN with the widest interval where there is nothing to count."""
        if not total:
            return cls(0, 0, float("nan"), 0.0, 1.0)
        return cls(count, total, count / total, lower_bound(count, total, _ERROR / 2), upper_bound(count, total, _ERROR / 2))


@dataclass(frozen=True)
class Paired:
    """Right answers of a new version and of the one before it to the same questions.

    `gained`: right only now, `lost`: right only before. `low` and `high`: 95% interval of the difference of the shares by the
    paired bootstrap. `p_worse`, `p_better`: of the exact one-sided test of McNemar, "Note on the sampling error of the
    difference between correlated proportions", 1947.
    """

    asked: int
    right: int
    before: int
    gained: int
    lost: int
    low: float
    high: float
    p_worse: float
    p_better: float

    @property
    def difference(self) -> float:
        """Of the shares, above zero where the new version is better; 0 without questions."""
        return (self.right - self.before) / self.asked if self.asked else 0.0


def paired(now: Sequence[bool], before: Sequence[bool], seed: int) -> Paired:
    """Compare two versions question by question."""
    both = list(zip(now, before, strict=True))
    gained = sum(new and not old for new, old in both)
    lost = sum(old and not new for new, old in both)
    asked = len(both)
    low = high = 0.0
    if asked:
        # To draw questions again is to draw how many of them were gained and lost.
        shares = [gained / asked, lost / asked, 1.0 - (gained + lost) / asked]
        drawn_R3 = np.random.default_rng(seed).multinomial(asked, shares, size=_RESAMPLES)
        low, high = np.quantile((drawn_R3[:, 0] - drawn_R3[:, 1]) / asked, [_ERROR / 2, 1 - _ERROR / 2]).tolist()
    return Paired(
        asked,
        sum(now),
        sum(before),
        gained,
        lost,
        low,
        high,
        upper_tail(lost, gained + lost, 0.5),
        upper_tail(gained, gained + lost, 0.5),
    )


@dataclass(frozen=True)
class LossDifference:
    """Mean negative log-likelihoods per response token, in nats, over the same answers; `low` and `high` as for Paired."""

    answers: int
    now: float
    before: float
    low: float
    high: float


def loss_difference(now: Sequence[tuple[float, int]], before: Sequence[tuple[float, int]], seed: int) -> LossDifference:
    """From (nats, tokens) of each answer under both versions; both are divided by the tokens that the new one counts."""
    if not now:
        return LossDifference(0, float("nan"), float("nan"), float("-inf"), float("inf"))
    nats_N2 = np.array([[new[0], old[0]] for new, old in zip(now, before, strict=True)])
    tokens_N = np.array([new[1] for new in now], dtype=float)
    means_2 = nats_N2.sum(axis=0) / tokens_N.sum()
    counts_RN = np.random.default_rng(seed).multinomial(len(now), np.full(len(now), 1 / len(now)), size=_RESAMPLES // 4)
    differences_R = (counts_RN @ (nats_N2[:, 0] - nats_N2[:, 1])) / (counts_RN @ tokens_N)
    low, high = np.quantile(differences_R, [_ERROR / 2, 1 - _ERROR / 2]).tolist()
    return LossDifference(len(now), float(means_2[0]), float(means_2[1]), low, high)
