"""Ratings on a log server: what other machines wrote since the last look. Knows ids and the log, no text.

The processes of one home tell each other in a file (`shammah_data.announced`); of other homes only the server knows.
"""

import time
from collections.abc import Callable

from shammah_data import queries
from shammah_data.announced import Announced
from shammah_data.log import ExchangeLog
from shammah_data.session import Session

# For all of what is asked at once: a server may be far away, and nobody waits for this.
WAIT = 1.5
_EVERY_SECONDS = 5.0
# A server that is away need not be called all the time.
_AWAY_SECONDS = 30.0


class Polled:
    """Asks the server every five seconds, and at once when a process of this home says that it has rated something.

    `clock`: seconds that only grow.
    """

    def __init__(self, log: ExchangeLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._announced = Announced(log.home.ratings, anew=True)
        self._known: set[str] = set()
        self._mark: object = None
        self._next = 0.0

    def begin(self) -> None:
        """What is there now is not told. Raises LogError."""
        self._look()

    def fresh(self) -> list[str]:
        """Ids of ratings that were not there at the last call. Raises LogError."""
        if not self._announced.fresh() and self._clock() < self._next:
            return []
        return sorted(self._look())

    def _look(self) -> set[str]:
        self._next = self._clock() + _AWAY_SECONDS
        mark, ids = self._log.read(self._changed, WAIT)
        self._next = self._clock() + _EVERY_SECONDS
        if ids is None:
            return set()
        # When they were made, by the clocks of others and perhaps while the server was away, says nothing of when they came.
        new = ids - self._known
        self._known, self._mark = ids, mark
        return new

    def _changed(self, session: Session) -> tuple[object, set[str] | None]:
        mark = queries.ratings_mark(session)
        return mark, None if mark == self._mark else queries.rating_ids(session)
