"""Shares with their intervals, and what held-out answers say of a confidence. Pure numbers; knows no run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959964
BINS = 10

# How sure the model was of an answer, and whether it was right.
Sure = tuple[float, bool]


@dataclass(frozen=True)
class Share:
    """So many of so many; `total` is above zero."""

    part: int
    total: int

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.part / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% score interval of the proportion: Wilson, "Probable inference", 1927."""
        n, p, zz = self.total, self.value, _Z * _Z
        middle = (p + zz / (2 * n)) / (1 + zz / n)
        half = _Z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
        return (max(0.0, middle - half), min(1.0, middle + half))

    @property
    def percent(self) -> str:
        """Such as 72%."""
        return f"{self.value:.0%}"

    @property
    def range(self) -> str:
        """The interval, such as 59-82%."""
        low, high = self.interval
        return f"{low * 100:.0f}-{high * 100:.0f}%"


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies from `low` to `high`: their mean confidence, and how many of them are right."""

    low: float
    high: float
    mean: float
    right: Share


@dataclass(frozen=True)
class Risk:
    """Were every answer given whose confidence is at least `threshold`: the share answered, and the wrong ones of it."""

    threshold: float
    answered: Share
    wrong: Share


def reliability(answers: Sequence[Sure]) -> list[Bin]:
    """Equal widths of confidence from 0 to 1, without the empty ones."""
    bins = []
    for n in range(BINS):
        inside = [one for one in answers if min(BINS - 1, int(one[0] * BINS)) == n]
        if inside:
            mean = sum(sure for sure, _ in inside) / len(inside)
            right = Share(sum(is_right for _, is_right in inside), len(inside))
            bins.append(Bin(n / BINS, (n + 1) / BINS, mean, right))
    return bins


def calibration_error(answers: Sequence[Sure]) -> float:
    """The mean distance of confidence and share right over the bins, weighted by their counts.

    Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.
    """
    return sum(abs(each.mean - each.right.value) * each.right.total for each in reliability(answers)) / max(1, len(answers))


def risk_coverage(answers: Sequence[Sure]) -> list[Risk]:
    """What each threshold would bring, the surest answers first; answers that are equally sure come in together.

    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010.
    """
    ranked = sorted(answers, key=lambda one: -one[0])
    found = []
    wrong = 0
    for n, (sure, right) in enumerate(ranked, 1):
        wrong += not right
        if n == len(ranked) or ranked[n][0] != sure:
            found.append(Risk(sure, Share(n, len(ranked)), Share(wrong, n)))
    return found
