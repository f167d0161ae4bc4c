"""How fast a training learns, and when its time is up. Knows steps and seconds, not tensors."""

from dataclasses import dataclass

_WARM_UP = 0.05


@dataclass(frozen=True)
class Pace:
    """Linear warm-up, then linear decay to nothing, over `steps` or over `most_seconds`, whichever ends first.

    `first`: the step at which this process took the training up; its time begins there. Without `most_seconds` the clock
    changes nothing.
    """

    steps: int
    most_seconds: float | None = None
    first: int = 0

    def rate(self, step: int, seconds: float) -> float:
        """The share of the peak learning rate for the step after `step` steps, `seconds` after this process began."""
        warm = max(1, round(_WARM_UP * self.steps))
        done = float(step)
        if self.most_seconds is not None:
            # What is left after the first step, passed by steps or by time.
            left = self.steps - self.first
            done = max(done, self.first + left * min(1.0, seconds / self.most_seconds))
        return min((step + 1) / warm, (self.steps - done) / max(1, self.steps - warm))

    def over(self, seconds: float) -> bool:
        """Whether the time is up."""
        return self.most_seconds is not None and seconds >= self.most_seconds
