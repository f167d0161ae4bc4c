"""A circuit breaker: after several failures in a row nothing is asked for a while, then one question tries it again.

Knows times and outcomes, not what is asked (M. Nygard, "Release It!", 2007).
"""

import threading
import time
from collections.abc import Callable

# How the reason begins why nothing is asked for a while.
LEFT_ALONE = "it failed "


class Breaker:
    """Opens after `most` failures in a row for `seconds`; then lets one through, whose outcome closes it or opens it again."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._last = ""
        self._opened: float | None = None
        self._trying = False

    def why_not(self) -> str | None:
        """Why nothing may be asked now, or None."""
        with self._lock:
            return self._why_not()

    def seconds(self) -> float:
        """How long nothing may be asked; 0 where something may be, or one question is trying it."""
        with self._lock:
            return 0.0 if self._opened is None else max(0.0, self._opened + self._seconds - self._clock())

    def enter(self) -> str | None:
        """The same for one who is about to ask, and tells by `worked`, `failed` or `left` what came of it."""
        with self._lock:
            reason = self._why_not()
            if reason is None and self._opened is not None:
                self._trying = True
            return reason

    def worked(self) -> None:
        """It answered."""
        with self._lock:
            self._failures, self._opened, self._trying = 0, None, False

    def failed(self, why: str) -> None:
        """It did not."""
        with self._lock:
            self._failures += 1
            self._last = why
            if self._trying or self._failures >= self._most:
                self._opened = self._clock()
            self._trying = False

    def left(self) -> None:
        """It was asked in vain, and that says nothing of the next question."""
        with self._lock:
            self._trying = False

    def _why_not(self) -> str | None:
        if self._opened is None:
            return None
        left = self._opened + self._seconds - self._clock()
        if left > 0.0:
            waits = f"is tried again in {left:.0f} s"
        elif self._trying:
            waits = "another question is trying it again"
        else:
            return None
        return f"{LEFT_ALONE}{self._failures} times in a row, and {waits}; the last time: {self._last}"
