"""Where a query is answered and kept: the cascade, the log, and what is learned at once. Any number of threads may ask.

Knows no session: who asks brings the earlier turns along.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from shammah_data.announced import Announced
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Exchange, Feedback, Rating
from shammah_data.settings import LONGEST_QUERY
from shammah_data.standing import CORRECTED, GIVEN
from shammah_data.untold import UNTOLD, names, tells
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.learned import Known, LearnedIndex
from shammah_runtime.proposal import OnText, Query

if TYPE_CHECKING:
    from shammah_runtime.audits import Auditor

# A template is a fixed sentence: there is nothing to measure.
AUDITED = frozenset({"neural", "learned"})
# Exchanges that are held for their ratings while nothing can be written.
_MOST_LOST = 1000


class Keeper(Protocol):
    """What keeps exchanges and ratings: the log itself, or what writes for many threads."""

    def append(self, exchange: Exchange) -> bool:
        """Make one exchange durable before returning. Raises LogError."""
        ...

    def rate(self, feedback: Feedback) -> bool:
        """Make one rating durable before returning. Raises LogError."""
        ...

    def clean(self, text: str) -> str:
        """A text as the log keeps it."""
        ...


class Desk:
    """Answers, logs and rates.

    `log` None keeps nothing on disk. `warn` gets one line when something could not be written, and no second one until
    something could: the answer is given all the same. `forgotten` tells which exchanges another process forgot;
    `auditor` has answers put to the teacher.
    """

    def __init__(
        self,
        cascade: Cascade,
        index: LearnedIndex,
        log: Keeper | None,
        warn: Callable[[str], None],
        forgotten: Announced | None = None,
        auditor: "Auditor | None" = None,
    ) -> None:
        self._cascade = cascade
        self._index = index
        self._log = log
        self._warn = warn
        self._warned = False
        self._forgotten = forgotten
        self._auditor = auditor
        self._looking = threading.Lock()
        # Of all that other processes ever forgot, and what reasons call the questions of it that were known.
        self._gone: set[str] = set()
        self._names: set[str] = set()
        # What could not be stored, by its id; None where it must not be any more.
        self._lost: dict[str, Exchange | None] = {}

    def answer(
        self, query: Query, on_text: OnText, session: str, turn: int, private: bool = False, **given: str
    ) -> tuple[Exchange, Reply]:
        """Answer a query that `asked` made, and make the exchange durable before returning; a private one is not kept.

        `given`: what the exchange says of itself otherwise, such as `id` and `source`.

        Raises KeyboardInterrupt or InterruptedError when stopped before anything was shown.
        """
        self._drop_forgotten()
        query = query if query.session else replace(query, session=session)
        reply = self._cascade.answer(query, on_text)
        self._drop_forgotten()
        reply = self.untold(reply)
        audited = 0.0 if private else self._audit_probability(query, reply)
        current = query.current
        exchange = replace(reply.exchange(current, session, turn, audited), **given)  # type: ignore[arg-type]
        unseen = exchange.tier == "teacher" and len(self._cascade.routing.may_leave(current.context)) < len(current.context)
        if query.system or current.context != query.context or unseen:
            # What was said under other orders, or after what is forgotten by now, is no answer to the question alone; and what
            # the teacher said without the turns that stay here, none after them.
            exchange = replace(exchange, trainable=False)
        self._keep(lambda log: self._append(log, exchange), private)
        if audited and self._auditor is not None:
            self._auditor.nudge()
        # An answer to a follow-up means nothing without what it follows.
        if reply.answered and exchange.tier == "teacher" and exchange.trainable and not query.context and not private:
            self._index.add(self._known(exchange, exchange.answer, GIVEN, exchange.created_at))
        return exchange, reply

    def rate(
        self,
        exchange: Exchange,
        reply: Reply | None,
        rating: Rating,
        correction: str | None = None,
        weight: float = 1.0,
        private: bool = False,
        corrected: bool = False,
    ) -> None:
        """Rate an answer, with what it should have been where that is given; `reply` as far as it is still known.

        `corrected`: what it should have been was said before, and is what a good rating is about.

        Raises LogError for an answer that could not be stored, and still cannot be.
        """
        if not private:
            self._store_lost(exchange.id)
        feedback = Feedback(exchange.id, rating, weight, correction)
        self._keep(lambda log: log.rate(feedback), private)
        repeated = reply.proposal.repeats if reply is not None and reply.proposal.same_query else None
        if rating == "bad" and repeated is not None:
            # Else the answer would be learned again from where it came.
            self._keep(lambda log: self._rate_repeated(log, Feedback(repeated, "bad", weight, correction)), private)
        if exchange.tier in AUDITED:
            right = rating == "good" and not corrected
            self._index.observe(exchange.query, exchange.answer, right, exchange.model_version, exchange.id)
        if correction is not None:
            source = None if repeated is None else self._index.get(repeated)
            # An answer after earlier turns is given nowhere else, but what it repeated is.
            about = source if exchange.context else exchange
            if about is not None and exchange.trainable and not private:
                self._index.add(self._known(about, correction, CORRECTED, feedback.created_at))
        elif rating == "bad":
            self._index.forget_answer(exchange.query, exchange.answer)
            # It may have been corrected before: then the correction is what is wrong.
            for about_id in filter(None, (exchange.id, repeated)):
                self._index.withdraw(about_id)

    def _audit_probability(self, query: Query, reply: Reply) -> float:
        """With which probability an answer is put to the teacher as well.

        What is not kept never is, and neither is what the teacher was not to be asked, nor what a user has said, since the
        teacher may not know better.
        """
        tier = reply.proposal.attempt.tier
        if self._auditor is None or self._log is None or query.system or query.asked == "local":
            return 0.0
        if not reply.answered or tier not in AUDITED or self._cascade.routing.keeps(query.text, query.context):
            return 0.0
        if not query.context and self._index.settled(query.text, reply.proposal.text):
            return 0.0
        return self._auditor.probability(reply.proposal.model_version or tier)

    def forgot(self, exchange_id: str) -> bool:
        """Whether an exchange was forgotten elsewhere: the log takes no rating of it, and it is no earlier turn any more."""
        with self._looking:
            self._look()
        return exchange_id in self._gone

    def forget(self, ids: Collection[str]) -> list[str]:
        """Drop what is forgotten: what processes of this home announced, and these, of which the new ones are returned."""
        with self._looking:
            self._look()
            return self._drop(ids)

    def untold(self, reply: Reply) -> Reply:
        """A reply whose reasons name no question that is forgotten by now."""
        if not any(tells(one.reason, self._names) for one in reply.attempts):
            return reply
        told = (replace(one, reason=UNTOLD) if tells(one.reason, self._names) else one for one in reply.attempts)
        return replace(reply, attempts=tuple(told))

    def _drop_forgotten(self) -> None:
        # Who looks at this moment looks for all.
        if self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        self._drop(self._forgotten.fresh() if self._forgotten is not None else ())

    def _drop(self, ids: Collection[str]) -> list[str]:
        new = [one for one in ids if one not in self._gone]
        for exchange_id in new:
            self._gone.add(exchange_id)
            if (known := self._index.get(exchange_id)) is not None:
                self._names |= names([known.query])
            self._index.remove(exchange_id)
        if new:
            # What they quote may be what was forgotten.
            self._lost.update((one, None) for one, lost in list(self._lost.items()) if lost is not None and lost.context)
        return new

    def _append(self, log: Keeper, exchange: Exchange) -> bool:
        try:
            return log.append(exchange)
        except LogError as error:
            if error.lost:
                self._lost[exchange.id] = exchange
                for oldest in list(self._lost)[:-_MOST_LOST]:
                    self._lost[oldest] = None
            raise

    def _store_lost(self, exchange_id: str) -> None:
        """Store what could not be stored when it was said, for a rating of what is not in the log would be nobody's."""
        if self._log is None or exchange_id not in self._lost:
            return
        exchange = self._lost[exchange_id]
        refused = "this answer could not be stored when it was given, and without it no rating can be"
        if exchange is None:
            raise LogError(refused)
        try:
            self._log.append(exchange)
        except LogError as error:
            if error.lost:
                raise LogError(f"{refused}: {error}", lost=True) from error
        self._lost.pop(exchange_id, None)

    def _rate_repeated(self, log: Keeper, feedback: Feedback) -> bool:
        self._store_lost(feedback.exchange_id)
        return log.rate(feedback)

    def _keep(self, write: Callable[[Keeper], bool], private: bool) -> None:
        if self._log is None or private:
            return
        try:
            write(self._log)
            self._warned = False
        except LogError as error:
            if not self._warned:
                self._warn(str(error))
            self._warned = True

    def _known(self, exchange: Exchange | Known, answer: str, stands: int, said_at: datetime) -> Known:
        """As the log has it: what a secret was told for is repeated without it, now and after a restart."""
        query = exchange.query
        if self._log is not None:
            query, answer = self._log.clean(query), self._log.clean(answer)
        return Known(exchange.id, query, answer, stands, said_at)


def asked(text: str) -> str:
    """A query as it can be asked. Raises InputError for an empty or oversized one."""
    text = encodable(text).strip()
    if not text:
        raise InputError("the question is empty")
    if len(text) > LONGEST_QUERY:
        raise InputError(f"the question has {len(text)} characters; the most is {LONGEST_QUERY}")
    return text


def encodable(text: str) -> str:
    """A text that can be written as UTF-8."""
    # Bytes that are no UTF-8 come from a command line as lone surrogates, which no file and no request can hold.
    return text.encode("utf-8", "replace").decode("utf-8")
