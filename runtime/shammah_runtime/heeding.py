"""What users of other processes say of exchanges, heeded while this one runs. Knows the log and the index, no tiers.

A process that rates or corrects announces it in a file of the home; only then is the log read, and never by a query.
"""

from shammah_data import queries
from shammah_data.announced import Announced
from shammah_data.log import ExchangeLog, context_of
from shammah_data.session import LogTakenError
from shammah_runtime.desk import AUDITED
from shammah_runtime.learned import LearnedIndex, repeatable

_WAIT = 0.25


class Heeding:
    """Brings ratings and corrections that came since it was made into an index."""

    def __init__(self, log: ExchangeLog, index: LearnedIndex) -> None:
        self._log = log
        self._index = index
        self._announced = Announced(log.home.ratings, anew=True)
        self._waiting: set[str] = set()

    def look(self) -> None:
        """Take in what is new; a look that finds nothing costs microseconds. Raises LogError.

        What cannot be read because another process holds the log is taken in by a later look.
        """
        self._waiting.update(self._announced.fresh())
        if not self._waiting:
            return
        # What is neither there nor in the spool before the log is read was forgotten meanwhile.
        spooled = self._log.spooled()
        try:
            found = self._log.read(lambda session: queries.rated_by(session, sorted(self._waiting)), _WAIT)
        except LogTakenError:
            return
        for row in found:
            identity = str(row["id"])
            # What was rated here is known here.
            elsewhere = [one for one in row["feedback_ids"] if not self._log.rated_here(one)]
            if elsewhere and row["tier"] in AUDITED:
                right = row["rating"] == "good" and row["correction"] is None
                self._index.observe(row["query"], row["answer"], right, row["model_version"])
            # An answer after earlier turns is given nowhere else.
            if context_of(row):
                continue
            if row["target"] is None:
                self._index.withdraw(identity)
            else:
                self._index.add(*repeatable([row]))
        self._waiting = self._waiting - {one for row in found for one in row["feedback_ids"]} if spooled else set()
