"""How far a confidence can be believed, and what it costs to answer more. Pure numbers; knows no model and no file."""

import math
import random
from collections.abc import Sequence

from night_figures import Asked

_BINS = 15


def calibration_error(judged: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """`plain`: the mean distance of confidence and share right over bins of equal mass; `debiased`: its root mean square.

    `judged`: (confidence, right). Few answers in a bin make the plain figure too large: the other one takes the noise of the
    shares off (Kumar, Liang, Ma, "Verified uncertainty calibration", 2019).
    """
    plain = squared = 0.0
    for part in equal_bins(judged):
        share = sum(right for _, right in part) / len(part)
        apart = sum(sure for sure, _ in part) / len(part) - share
        noise = share * (1 - share) / (len(part) - 1) if len(part) > 1 else 0.0
        plain += len(part) / len(judged) * abs(apart)
        squared += len(part) / len(judged) * (apart**2 - noise)
    return {"questions": len(judged), "plain": plain, "debiased": math.sqrt(max(0.0, squared))}


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
    the smallest share wrong of all of them is theirs.
    """
    ranked = sorted(asked, key=lambda one: -one.confidence)
    points, wrong, area = [], 0, 0.0
    for at, one in enumerate(ranked, 1):
        wrong += not one.right
        area += wrong / at / len(ranked)
        if at == len(ranked) or ranked[at].confidence < one.confidence:
            points.append((at / len(ranked), wrong / at))
    return points, area
