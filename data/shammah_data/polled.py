"""A log server: what other machines rated and forgot since the last look. Knows ids and the log, no text.

The processes of one home tell each other in a file (`shammah_data.announced`); of other homes only the server knows.
"""

import time
from collections.abc import Callable

from shammah_data import queries
from shammah_data.announced import Announced
from shammah_data.log import ExchangeLog
from shammah_data.session import Session

# A mark, and the ids that it stands for where it is another one than at the last look.
_Found = tuple[object, set[str] | None]
# For all of what is asked at once: a server may be far away, and nobody waits for this.
WAIT = 1.5
_EVERY_SECONDS = 5.0
# A server that is away need not be called all the time.
_AWAY_SECONDS = 30.0


class _Ids:
    """All ids of one kind as they were at the last look, and of the new ones those that were not told yet."""

    def __init__(self) -> None:
        self.mark: object = None
        self._known: set[str] = set()
        self._new: set[str] = set()

    def take(self, mark: object, ids: set[str] | None) -> None:
        if ids is None:
            return
        # When they were made, by the clocks of others and perhaps while the server was away, says nothing of when they came.
        self._new |= ids - self._known
        self._known, self.mark = ids, mark

    def new(self) -> list[str]:
        found, self._new = sorted(self._new), set()
        return found


class Polled:
    """Asks the server every five seconds, and at once when a process of this home says that it has rated something.

    `clock`: seconds that only grow.
    """

    def __init__(self, log: ExchangeLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._announced = Announced(log.home.ratings, anew=True)
        self._ratings = _Ids()
        self._forgotten = _Ids()
        self._next = 0.0

    def begin(self) -> None:
        """The ratings that are there now are not told; what was forgotten is, whenever that was. Raises LogError."""
        self._look()
        self._ratings.new()

    def fresh(self) -> list[str]:
        """Ids of ratings that were not there at the last call. Raises LogError."""
        if self._announced.fresh() or self._clock() >= self._next:
            self._look()
        return self._ratings.new()

    def forgotten(self) -> list[str]:
        """Ids of exchanges that were forgotten, as the looks until now found them; each is told once."""
        return self._forgotten.new()

    def _look(self) -> None:
        self._next = self._clock() + _AWAY_SECONDS
        # Taken in here and not where it is read: that thread may end after nobody waits for it any more.
        rated, forgotten = self._log.read(self._changed, WAIT)
        self._next = self._clock() + _EVERY_SECONDS
        self._ratings.take(*rated)
        self._forgotten.take(*forgotten)

    def _changed(self, session: Session) -> tuple[_Found, _Found]:
        rated, forgotten = queries.marks(session)
        return (
            (rated, None if rated == self._ratings.mark else queries.rating_ids(session)),
            (forgotten, None if forgotten == self._forgotten.mark else queries.forgotten_ids(session)),
        )
