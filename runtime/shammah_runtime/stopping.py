"""Asked for by whoever no longer wants an answer, seen by whoever makes it. Knows threads, no answers."""

import threading
import time
from collections.abc import Callable


class Stop:
    """A wish that may be told from any thread, once; what is under way looks for it."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Say that the answer is no longer wanted; a second time is no error."""
        self._asked.set()

    def asked(self) -> bool:
        """Whether it is."""
        return self._asked.is_set()

    def heed(self) -> None:
        """Raise InterruptedError where it is: between two steps of which none takes long."""
        if self.asked():
            raise InterruptedError("no longer wanted")


class Deadline(Stop):
    """A wish that is also told by the clock, `seconds` from now; `passed` says which of the two it was."""

    def __init__(self, stop: Stop, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._stop = stop
        self._clock = clock
        self._until = clock() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._until

    def asked(self) -> bool:
        """Whether the answer is no longer wanted, or no longer waited for."""
        return super().asked() or self._stop.asked() or self.passed


NEVER = Stop()
