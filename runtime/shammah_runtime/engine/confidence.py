"""How sure the model is of its own answer: pure functions of token log-probabilities and of what backs it.

The trainer fits the calibration with these functions and the runtime applies it with them.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

from shammah_data.errors import ArtifactError
from shammah_data.manifest import Calibration, Early
from shammah_runtime.engine.backing import FULL, Backing

_OPENING = 4
# Below this a token is as good as impossible, and no more can be learned from how impossible it is.
LOWEST = -20.0

Features = dict[str, float]
# Of the token log-probabilities, in nats: their mean, the most doubtful one, and the mean of the first ones, where a model
# decides which answer it gives.
# support, odds: see Backing. Versions made before there were odds rest on its near, gap and relevance.
OWN = ("mean", "least", "opening")
NAMES = (*OWN, "support", "odds")


def features(logprobs: Sequence[float], backed: Backing) -> Features:
    """What speaks for an answer, its end token included among the log-probabilities, or for its first tokens.

    An empty answer is impossible.
    """
    if not logprobs:
        return dict.fromkeys(OWN, -math.inf) | asdict(backed)
    opening = logprobs[:_OPENING]
    own = {"mean": sum(logprobs) / len(logprobs), "least": min(logprobs), "opening": sum(opening) / len(opening)}
    return own | asdict(backed)


def ceiling(logprobs: Sequence[float], budget: int, most: Backing = FULL) -> Features:
    """The best that `features` can still become when every further token up to `budget` is certain.

    `most`: what may back the answer at most.
    """
    own = {
        "mean": sum(logprobs) / budget,
        "least": min(logprobs, default=0.0),
        "opening": sum(logprobs[:_OPENING]) / _OPENING,
    }
    return own | asdict(most)


def confidence(calibration: Calibration | Early, found: Features) -> float:
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
