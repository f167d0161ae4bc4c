"""One session: earlier turns, the log, ratings. Knows the cascade and the log, no terminal."""

import uuid
from collections.abc import Callable

from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Exchange, Feedback, Message, Rating
from shammah_data.log import ExchangeLog, context_of
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.learned import Known, LearnedIndex
from shammah_runtime.proposal import OnText, Query

_LONGEST_QUERY = 100_000


class Conversation:
    """Asks, logs and rates.

    `log` None keeps nothing on disk. `warn` gets one line when something could not be written: the answer is shown all
    the same.
    """

    def __init__(
        self,
        cascade: Cascade,
        index: LearnedIndex,
        log: ExchangeLog | None,
        context_turns: int,
        warn: Callable[[str], None],
    ) -> None:
        self._cascade = cascade
        self._index = index
        self._log = log
        self._context_turns = context_turns
        self._warn = warn
        self._session = str(uuid.uuid4())
        self._turns: list[Message] = []
        self._count = 0
        self.last: tuple[Exchange, Reply] | None = None

    def ask(self, text: str, on_text: OnText) -> Reply:
        """Answer one query and make the exchange durable before returning.

        Raises InputError for an empty or oversized query, KeyboardInterrupt when stopped before anything was shown.
        """
        text = _encodable(text).strip()
        if not text:
            raise InputError("the question is empty")
        if len(text) > _LONGEST_QUERY:
            raise InputError(f"the question has {len(text)} characters; the most is {_LONGEST_QUERY}")
        kept = self._turns[-2 * self._context_turns :] if self._context_turns else []
        query = Query(text, tuple(kept))
        reply = self._cascade.answer(query, on_text)
        exchange = reply.exchange(query, self._session, self._count)
        self._count += 1
        self._keep(lambda log: log.append(exchange))
        self.last = (exchange, reply)
        if reply.answered:
            self._turns += [Message("user", text), Message("assistant", reply.text)]
            # An answer to a follow-up means nothing without what it follows.
            if exchange.tier == "teacher" and not query.context:
                self._index.add(Known(exchange.id, exchange.query, exchange.answer))
        return reply

    def rate(self, rating: Rating, correction: str | None = None) -> Exchange:
        """Rate the last answer, with what it should have been where that is given. Raises InputError without one."""
        correction = None if correction is None else _encodable(correction)
        if self.last is None:
            raise InputError("there is no answer to rate yet")
        exchange, reply = self.last
        self._keep(lambda log: log.rate(Feedback(exchange.id, rating, correction=correction)))
        repeated = reply.proposal.repeats
        if rating == "bad" and repeated is not None and reply.proposal.same_query:
            # Else the answer would be learned again from where it came.
            self._keep(lambda log: log.rate(Feedback(repeated, "bad")))
        if correction is not None:
            if not exchange.context:
                self._index.add(Known(exchange.id, exchange.query, correction))
            if self._turns and self._turns[-1].content == exchange.answer:
                self._turns[-1] = Message("assistant", correction)
        elif rating == "bad":
            self._index.forget_answer(exchange.query, exchange.answer)
        return exchange

    def _keep(self, write: Callable[[ExchangeLog], bool]) -> None:
        if self._log is None:
            return
        try:
            write(self._log)
        except LogError as error:
            self._warn(str(error))


def _encodable(text: str) -> str:
    # Bytes that are no UTF-8 come from a command line as lone surrogates, which no file and no request can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def fill(index: LearnedIndex, log: ExchangeLog) -> None:
    """Load what may be repeated from the log. Raises LogError."""
    for row in log.learnable():
        if not context_of(row):
            index.add(Known(str(row["id"]), row["query"], row["target"]))
