"""What users of other processes say of exchanges, heeded while this one runs. Knows the log and the index, no tiers.

A process that rates or corrects announces it in a file of the home; only then is the log read, and never by a query. A log
server is asked for what came from other homes; what one of them forgot is announced here, as by a process of this home.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from shammah_data import queries
from shammah_data.announced import Announced, announce
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog, context_of
from shammah_data.polled import WAIT, Polled
from shammah_data.session import LogTakenError
from shammah_runtime.desk import AUDITED
from shammah_runtime.learned import Known, LearnedIndex, repeatable

_WAIT = 0.25


class Heeding:
    """Brings ratings and corrections that came since it was made, or has begun, into an index.

    `forget(ids)` is told at each look of what other homes forgot, perhaps of nothing, and returns what was not known to be
    forgotten; `clock`: seconds that only grow.
    """

    def __init__(
        self,
        log: ExchangeLog,
        index: LearnedIndex,
        forget: Callable[[Collection[str]], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._index = index
        self._forget = forget
        self._server = Polled(log, clock) if log.file is None else None
        self._announced = self._server or Announced(log.home.ratings, anew=True)
        self._wait = _WAIT if self._server is None else WAIT
        self._waiting: set[str] = set()

    def begin(self) -> None:
        """To be called before the index is filled: of a log server, what is there now is not new. Raises LogError."""
        if self._server is not None:
            self._server.begin()
        self._drop()

    def look(self) -> None:
        """Take in what is new; a look that finds nothing costs microseconds. Raises LogError.

        What cannot be read because another process holds the log is taken in by a later look.
        """
        try:
            self._waiting.update(self._announced.fresh())
        except LogTakenError:
            return
        finally:
            self._drop()
        if not self._waiting:
            return
        # What is neither there nor in the spool before the log is read was forgotten meanwhile.
        spooled = self._log.spooled()
        try:
            found = self._log.read(lambda session: queries.rated_by(session, sorted(self._waiting)), self._wait)
            # Read before anything is taken in: who fails here comes again, and no answer is to count twice.
            others = self._others([row for row in found if row["target"] is None and not context_of(row)])
        except LogTakenError:
            return
        for row in found:
            identity = str(row["id"])
            # What was rated here is known here.
            elsewhere = [one for one in row["feedback_ids"] if not self._log.rated_here(one)]
            if elsewhere and row["tier"] in AUDITED:
                right = row["rating"] == "good" and row["correction"] is None
                self._index.observe(row["query"], row["answer"], right, row["model_version"], identity)
            # An answer after earlier turns is given nowhere else.
            if context_of(row):
                continue
            if row["target"] is None:
                self._index.withdraw(identity)
            else:
                self._index.add(*repeatable([row]))
        for known in others:
            self._index.add(known)
        self._waiting = self._waiting - {one for row in found for one in row["feedback_ids"]} if spooled else set()

    def _drop(self) -> None:
        """What is forgotten is used no more, by other processes of this home either, nor after a start without the server."""
        new = self._forget(self._server.forgotten() if self._server is not None else ())
        if new:
            # What cannot be written down is told by the server again.
            with contextlib.suppress(OSError):
                announce(self._log.home.tombstones, sorted(new))

    def _others(self, called_bad: list[Mapping[str, Any]]) -> list[Known]:
        """What stands in the place of exchanges that may be given no more, where the log has the same question elsewhere."""
        wrong: dict[str, set[str]] = {}
        for row in called_bad:
            said = {normalize(text) for text in (row["answer"], row["correction"]) if text}
            wrong.setdefault(normalize(row["query"]), set()).update(said)
        if not wrong:
            return []
        # As text and not in SQL, and with the log let go of: there may be a hundred thousand.
        asked = self._log.read(queries.questions, self._wait)
        if not (ids := [str(row["id"]) for row in asked if normalize(row["query"]) in wrong]):
            return []
        standing = repeatable(self._log.read(lambda session: queries.learnable(session, ids), self._wait))
        return [known for known in standing if normalize(known.answer) not in wrong[normalize(known.query)]]
