"""When more training no longer helps: the held-out loss a few times per run, and the weights that are worth keeping.

Knows losses and steps, not how a loss is measured.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

EVALUATIONS = 8
# A forward pass takes a third of a training step: the evaluations cost a twentieth of the training, more only in a short one.
_MOST_OF_TRAINING = 0.15
_FEWEST, _MOST = 16, 64
# With fewer, their loss is written down and decides nothing: one odd question would.
DECISIVE = 8
# Surer answers, right or wrong, raise the loss a little before they are worse: later weights win a draw.
_TOLERANCE = 0.02
_PATIENCE = 3


@dataclass(frozen=True)
class Best:
    """The step whose weights to keep, the least held-out loss, and how many measurements in a row were clearly above it."""

    step: int = 0
    least: float = math.inf
    worse: int = 0

    def after(self, step: int, loss: float) -> "Best":
        """With one more measurement: its step is kept unless its loss is clearly above the least."""
        # No number is no good one.
        if not loss <= self.least * (1 + _TOLERANCE):
            return replace(self, worse=self.worse + 1)
        return Best(step, min(loss, self.least))

    @property
    def hopeless(self) -> bool:
        """Whether to stop."""
        return self.worse >= _PATIENCE


def evaluation_steps(steps: int) -> frozenset[int]:
    """After which steps to measure, evenly spread; the last is among them."""
    return frozenset(math.ceil(steps * n / EVALUATIONS) for n in range(1, EVALUATIONS + 1))


def sample(items: Sequence[T], trained: float, seed: int) -> list[T]:
    """The held-out items to measure on, so few that it costs little beside training on `trained` items."""
    most = min(_MOST, max(_FEWEST, int(_MOST_OF_TRAINING * trained / EVALUATIONS)))
    return random.Random(seed).sample(list(items), min(most, len(items)))
