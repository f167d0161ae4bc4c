"""One session: earlier turns, the log, ratings. Knows the cascade and the log, no terminal."""

import uuid
from collections.abc import Callable

from shammah_data import queries
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Exchange, Feedback, Message, Rating
from shammah_data.log import ExchangeLog, context_of
from shammah_data.tombstones import Announced, tombstones
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.learned import Known, LearnedIndex
from shammah_runtime.proposal import OnText, Query

_LONGEST_QUERY = 100_000
_FILL_WAIT = 0.25


class Conversation:
    """Asks, logs and rates.

    `log` None keeps nothing on disk. `warn` gets one line when something could not be written, and no second one until
    something could: the answer is shown all the same. `forgotten` tells which exchanges another process forgot.
    """

    def __init__(
        self,
        cascade: Cascade,
        index: LearnedIndex,
        log: ExchangeLog | None,
        context_turns: int,
        warn: Callable[[str], None],
        forgotten: Announced | None = None,
    ) -> None:
        self._cascade = cascade
        self._index = index
        self._log = log
        self._context_turns = context_turns
        self._warn = warn
        self._warned = False
        self._forgotten = forgotten
        self._private_since: int | None = None
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
        for exchange_id in self._forgotten.fresh() if self._forgotten else ():
            self._index.remove(exchange_id)
        kept = self._turns[-2 * self._context_turns :] if self._context_turns else []
        query = Query(text, tuple(kept))
        reply = self._cascade.answer(query, on_text)
        exchange = reply.exchange(query, self._session, self._count)
        self._count += 1
        self._keep(lambda log: log.append(exchange))
        self.last = (exchange, reply)
        if reply.answered:
            self._turns += [Message("user", text), Message("assistant", reply.text)]
            self._drop_old_turns()
            # An answer to a follow-up means nothing without what it follows.
            if exchange.tier == "teacher" and not query.context and not self.private:
                self._index.add(self._known(exchange.id, exchange.query, exchange.answer))
        return reply

    def _drop_old_turns(self) -> None:
        """A session that goes on for weeks holds no more than what a query may see."""
        excess = max(0, len(self._turns) - 2 * max(1, self._context_turns))
        del self._turns[:excess]
        if self._private_since is not None:
            self._private_since = max(0, self._private_since - excess)

    @property
    def private(self) -> bool:
        """Whether nothing of what is asked now is kept."""
        return self._private_since is not None

    def set_private(self, private: bool) -> None:
        """Keep nothing from now on, or go on keeping; what was said in private is no context of what is kept."""
        if private and self._private_since is None:
            self._private_since = len(self._turns)
        elif not private and self._private_since is not None:
            del self._turns[self._private_since :]
            self._private_since = None
            self.last = None

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
        if reply.proposal.attempt.tier in ("learned", "neural"):
            self._index.observe(exchange.query, exchange.answer, rating == "good", exchange.model_version)
        if correction is not None:
            if not exchange.context and not self.private:
                self._index.add(self._known(exchange.id, exchange.query, correction))
            if self._turns and self._turns[-1].content == exchange.answer:
                self._turns[-1] = Message("assistant", correction)
        elif rating == "bad":
            self._index.forget_answer(exchange.query, exchange.answer)
        return exchange

    def _keep(self, write: Callable[[ExchangeLog], bool]) -> None:
        if self._log is None or self.private:
            return
        try:
            write(self._log)
            self._warned = False
        except LogError as error:
            if not self._warned:
                self._warn(str(error))
            self._warned = True

    def _known(self, exchange_id: str, query: str, answer: str) -> Known:
        """As the log has it: what a secret was told for is repeated without it, now and after a restart."""
        if self._log is None:
            return Known(exchange_id, query, answer)
        return Known(exchange_id, self._log.clean(query), self._log.clean(answer))


def _encodable(text: str) -> str:
    # Bytes that are no UTF-8 come from a command line as lone surrogates, which no file and no request can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def fill(index: LearnedIndex, log: ExchangeLog) -> None:
    """Load what may be repeated from the log, what became of answers that were given, and what was forgotten.

    Raises LogError; LogTakenError after a quarter of a second.
    """
    rows = [row for row in log.learnable(wait=_FILL_WAIT) if not context_of(row)]
    for row in rows:
        index.add(Known(str(row["id"]), row["query"], row["target"]))
    for row in log.read(queries.judged_answers, wait=_FILL_WAIT):
        index.observe(row["query"], row["answer"], row["rating"] == "good", row["model_version"])
    for stone in log.read(tombstones, wait=_FILL_WAIT):
        index.remove(stone.exchange_id)
    if rows:
        index.logged(str(row["id"]) for row in rows)
