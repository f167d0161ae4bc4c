"""What the teacher may cost in a day. Knows dollars and days; what was spent, the log says."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from shammah_data.errors import LogError

# Two looks for one question are one.
_FRESH_SECONDS = 2.0


class Budget:
    """`most_usd` from one local midnight to the next. `spent(since)` sums up the log; what that cannot tell is added here."""

    def __init__(
        self,
        most_usd: float,
        spent: Callable[[datetime], float],
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most_usd
        self._spent = spent
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._day: datetime | None = None
        self._logged = 0.0
        self._first = 0.0
        self._own = 0.0
        self._read_at = -_FRESH_SECONDS

    def why_not(self) -> str | None:
        """Why the teacher may not be asked any more today, or None."""
        with self._lock:
            spent = self._today()
            if spent < self._most:
                return None
            return f"the day's budget is spent: ${spent:.2f} of ${self._most:.2f} (teacher.daily_usd)"

    def note(self, usd: float | None) -> None:
        """An answer of this process cost so much; what is private, no log tells."""
        with self._lock:
            self._own += usd or 0.0

    def _today(self) -> float:
        day = self._now().replace(hour=0, minute=0, second=0, microsecond=0)
        new = day != self._day
        if new or self._clock() - self._read_at >= _FRESH_SECONDS:
            try:
                self._logged = self._spent(day)
            except LogError:
                # Another process has it: what is known must do, and what is spent here is known.
                self._logged = 0.0 if new else self._logged
            self._read_at = self._clock()
        if new:
            self._day, self._first, self._own = day, self._logged, 0.0
        return max(self._logged, self._first + self._own)
