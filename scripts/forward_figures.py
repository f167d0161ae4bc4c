"""How far a confidence can be believed, and what it costs to answer more. Pure numbers; knows no model and no file."""

import math
import random
from collections.abc import Iterable, Sequence
from statistics import fmean as mean

from night_figures import Asked

_BINS = 15
_DRAWS = 1000


def calibration_error(judged: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """How far confidence and share right are apart over bins of equal mass. `judged`: (confidence, right).

    `plain`: the mean distance. Few answers in a bin make it too large: `debiased` is what is left when as much is taken off
    as it grows by when the shares are drawn once more, from normal distributions with their own noise; of what is noise
    alone, that takes off a third or so. `rms`: the root mean square, from which the noise is taken off, too (Kumar, Liang, Ma,
    "Verified uncertainty calibration", 2019).
    """
    bins = [(mean(sure for sure, _ in part), mean(right for _, right in part), len(part)) for part in equal_bins(judged)]
    total = len(judged)

    def distance(shares: Iterable[float]) -> float:
        return sum(count / total * abs(sure - share) for (sure, _, count), share in zip(bins, shares, strict=True))

    rng = random.Random(0)
    noises = [math.sqrt(share * (1 - share) / count) for _, share, count in bins]
    plain = distance(share for _, share, _ in bins)
    drawn = mean(
        distance(rng.gauss(share, noise) for (_, share, _), noise in zip(bins, noises, strict=True)) for _ in range(_DRAWS)
    )
    squared = sum(
        count / total * ((sure - share) ** 2 - (noise**2 * count / (count - 1) if count > 1 else 0.0))
        for (sure, share, count), noise in zip(bins, noises, strict=True)
    )
    return {
        "questions": total,
        "plain": plain,
        "debiased": max(0.0, 2 * plain - drawn),
        "rms": math.sqrt(max(0.0, squared)),
    }


def equal_bins(judged: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    """The same from the least to the surest in bins of as many; equals, which a bin may part, in random order."""
    ranked = list(judged)
    random.Random(0).shuffle(ranked)
    ranked.sort(key=lambda pair: pair[0])
    bins = min(_BINS, max(1, len(ranked) // 2))
    return [ranked[n * len(ranked) // bins : (n + 1) * len(ranked) // bins] for n in range(bins) if ranked]


def risk_coverage(asked: Sequence[Asked]) -> tuple[list[tuple[float, float]], float]:
    """The share wrong of the surest answers by the share of all questions that they are, and the area below.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017. Questions that nobody can answer count:
    the smallest share wrong of all of them is theirs. Of answers that are equally sure as many are wrong from the first to the
    last: the area is what it would be on average over their orders.
    """
    ranked = sorted(asked, key=lambda one: -one.confidence)
    points, wrong, area, start = [], 0, 0.0, 0
    for at, one in enumerate(ranked, 1):
        if at == len(ranked) or ranked[at].confidence < one.confidence:
            missed = sum(not each.right for each in ranked[start:at])
            area += sum((wrong + missed * n / (at - start)) / (start + n) for n in range(1, at - start + 1)) / len(ranked)
            wrong += missed
            start = at
            points.append((at / len(ranked), wrong / at))
    return points, area
