"""What the teacher may cost in a day. Knows dollars and days; what was spent, the log says, and a file beside it."""

import json
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, atomic_write
from shammah_data.errors import LogError

# Two looks at the log for one question are one.
_FRESH_SECONDS = 2.0
_LOCK_SECONDS = 1.0
_OTHER_DAYS = 2
# A budget of less is told to the hundredth of a cent.
_FEW_CENTS = 0.1


def midnight(now: datetime) -> datetime:
    """The last midnight by the clock that shows `now`.

    Of local time without a zone: reckoned with the present's offset a day on which the clocks change would begin an hour off.
    """
    return now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


class Ledger:
    """What was spent here on a day, over all processes of a home: {"days": {"2026-01-02": 0.25}} in one file, in dollars.

    Around midnight and in different time zones processes have different days, of which the file holds a few.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # What could not be written down, of this process.
        self._day, self._unwritten = "", 0.0

    def add(self, day: str, usd: float) -> None:
        """So much more was spent on that day; what cannot be written is remembered."""
        if day != self._day:
            self._day, self._unwritten = day, 0.0
        self._unwritten += usd
        try:
            with FileLock(self._path.with_name(f"{self._path.name}.lock"), mode=PRIVATE_FILE, timeout=_LOCK_SECONDS):
                days = self._days()
                total = days.pop(day, 0.0) + self._unwritten
                others = dict(sorted(days.items())[-_OTHER_DAYS:])
                atomic_write(self._path, json.dumps({"days": {**others, day: total}}).encode())
        except (OSError, Timeout):
            return
        self._unwritten = 0.0

    def total(self, day: str) -> float:
        """What was spent on that day, in dollars."""
        return self._days().get(day, 0.0) + (self._unwritten if day == self._day else 0.0)

    def _days(self) -> dict[str, float]:
        try:
            found = json.loads(self._path.read_bytes())
            # An earlier release wrote down one day only.
            days = found["days"] if "days" in found else {found["day"]: found["usd"]}
            return {str(day): float(usd) for day, usd in days.items() if math.isfinite(usd)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return {}


class Budget:
    """`most_usd` from one local midnight to the next.

    `logged(since)` sums up the log, which several machines may share; it knows nothing of what is private, and cannot always be
    read. The ledger knows all that was spent here. `now()` without a zone, and so `since`, is local time.
    """

    def __init__(
        self,
        most_usd: float,
        logged: Callable[[datetime], float],
        ledger: Ledger,
        now: Callable[[], datetime] = lambda: datetime.now(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most_usd
        self._spent = logged
        self._ledger = ledger
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._day: datetime | None = None
        self._logged = 0.0
        self._read_at = -_FRESH_SECONDS

    def why_not(self) -> str | None:
        """Why the teacher may not be asked any more today, or None."""
        with self._lock:
            day = self._today()
            spent = max(self._from_log(day), self._ledger.total(f"{day:%Y-%m-%d}"))
            if spent < self._most:
                return None
            digits = 2 if self._most >= _FEW_CENTS else 4
            return f"the day's budget is spent: ${spent:.{digits}f} of ${self._most:.{digits}f} (teacher.daily_usd)"

    def note(self, usd: float | None) -> None:
        """An answer of this process cost so much."""
        if usd:
            with self._lock:
                self._ledger.add(f"{self._today():%Y-%m-%d}", usd)

    def _today(self) -> datetime:
        return midnight(self._now())

    def _from_log(self, day: datetime) -> float:
        new = day != self._day
        if new or self._clock() - self._read_at >= _FRESH_SECONDS:
            self._day = day
            try:
                self._logged = self._spent(day)
            except LogError:
                # Another process has it.
                self._logged = 0.0 if new else self._logged
            self._read_at = self._clock()
        return self._logged
