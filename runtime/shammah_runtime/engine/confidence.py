"""How sure the model is of its own answer: pure functions of token log-probabilities.

The trainer fits the calibration with these functions and the runtime applies it with them.
"""

import math
from collections.abc import Sequence

from shammah_data.errors import ArtifactError
from shammah_data.manifest import Calibration

_OPENING = 4
# Below this a token is as good as impossible, and no more can be learned from how impossible it is.
LOWEST = -20.0

Features = dict[str, float]
# Of the token log-probabilities, in nats: their mean, the most doubtful one, and the mean of the first ones, where a model
# decides which answer it gives.
# support: how alike the nearest known query with the very same answer is, from 0 to 1 (shammah_data.similarity).
NAMES = ("mean", "least", "opening", "support")


def features(logprobs: Sequence[float], support: float) -> Features:
    """What speaks for an answer, its end token included among the log-probabilities; an empty answer is impossible."""
    if not logprobs:
        return {**dict.fromkeys(NAMES, -math.inf), "support": support}
    opening = logprobs[:_OPENING]
    return {
        "mean": sum(logprobs) / len(logprobs),
        "least": min(logprobs),
        "opening": sum(opening) / len(opening),
        "support": support,
    }


def ceiling(logprobs: Sequence[float], budget: int) -> Features:
    """The best that `features` can still become when every further token up to `budget` is certain."""
    return {**features(logprobs, 1.0), "mean": sum(logprobs) / budget, "opening": sum(logprobs[:_OPENING]) / _OPENING}


def confidence(calibration: Calibration, found: Features) -> float:
    """Calibrated probability, from 0 to 1, that an answer is right.

    Never falls when a feature rises: weights are not negative. Raises ArtifactError for a feature unknown here.
    """
    total = calibration.intercept
    for name, weight in calibration.weights.items():
        if name not in found:
            raise ArtifactError(f"the calibration uses {name!r}, which this runtime does not know: upgrade Shammah")
        total += weight * max(found[name], LOWEST)
    return logistic(total)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
