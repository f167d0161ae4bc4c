"""How sure the model is of its own answer: pure functions of token log-probabilities.

The trainer fits the calibration with these functions and the runtime applies it with them.
"""

import math
from collections.abc import Sequence

from shammah_data.manifest import Calibration


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean log-probability of an answer's tokens, its end token included, in nats; an empty answer is impossible."""
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def confidence(calibration: Calibration, logprobs: Sequence[float]) -> float:
    """Calibrated probability, from 0 to 1, that the answer is right (Platt scaling of the mean log-probability)."""
    mean = mean_logprob(logprobs)
    if mean == -math.inf:
        return 0.0
    return logistic(calibration.slope * mean + calibration.intercept)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
