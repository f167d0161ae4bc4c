"""One session: earlier turns, ratings, what is private. Knows the desk, no terminal."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shammah_data import queries
from shammah_data.announced import Announced
from shammah_data.errors import InputError
from shammah_data.exchange import Exchange, Message, Rating
from shammah_data.log import ExchangeLog, context_of
from shammah_data.tombstones import tombstones
from shammah_runtime.cascade import Cascade, Reply
from shammah_runtime.desk import Desk, Keeper, asked, encodable
from shammah_runtime.learned import LearnedIndex, repeatable
from shammah_runtime.proposal import Asked, OnText, Query
from shammah_runtime.stopping import NEVER, Stop

if TYPE_CHECKING:
    from shammah_runtime.audits import Auditor

_FILL_WAIT = 0.25
_NOTHING = "nothing has been asked yet"
_GONE = "what was asked in private is gone, and nothing has been asked since"
_FORGOTTEN = "the last one was forgotten, and nothing has been asked since"


@dataclass(frozen=True)
class _Turn:
    """A question and its answer; `id`: the exchange, where it is one of the log."""

    question: str
    answer: str
    id: str | None = None

    @property
    def messages(self) -> tuple[Message, Message]:
        return Message("user", self.question), Message("assistant", self.answer)


class Conversation:
    """Asks and rates, with what was said before. `log`, `warn`, `forgotten` and `auditor` are those of its `desk`.

    `last` is the last exchange, and `corrected` whether its user has said what it should have been.
    """

    def __init__(
        self,
        cascade: Cascade,
        index: LearnedIndex,
        log: Keeper | None,
        context_turns: int,
        warn: Callable[[str], None],
        forgotten: Announced | None = None,
        session: str | None = None,
        auditor: "Auditor | None" = None,
    ) -> None:
        self.desk = Desk(cascade, index, log, warn, forgotten, auditor)
        self._context_turns = context_turns
        self._private_since: int | None = None
        # The turn before that which private has changed, as it was: it comes back.
        self._public: _Turn | None = None
        self.session = session or str(uuid.uuid4())
        self._turns: list[_Turn] = []
        self._count = 0
        self.last: tuple[Exchange, Reply] | None = None
        self.corrected = False
        # The answer to the last question, and whether that is being asked again: until another has come, it stands.
        self._last_turn: _Turn | None = None
        self._again = False
        self._last_before_private: tuple[Exchange, Reply] | None = None
        # Why there is no `last`, where there is none.
        self.nothing = _NOTHING

    def ask(self, text: str, on_text: OnText, which: Asked = "all", stop: Stop = NEVER, cut: OnText | None = None) -> Reply:
        """Answer one query and make the exchange durable before returning; `which` tiers may answer.

        `cut`: see `Query`.

        Raises InputError for an empty or oversized query, KeyboardInterrupt or, after a wish to `stop`, InterruptedError when
        stopped before anything was shown.
        """
        try:
            text = asked(text)
            query = Query(text, self._earlier(), self.session, asked=which, stop=stop, cut=cut, earlier=self._earlier)
            exchange, reply = self.desk.answer(query, on_text, self.session, self._count, self.private)
        finally:
            again, self._again = self._again, False
        self._count += 1
        self.last, self.corrected = (exchange, reply), False
        if reply.answered:
            if again and self._last_is_a_turn:
                self._set_apart()
                del self._turns[-1:]
            self._last_turn = _Turn(text, reply.proposal.text, exchange.id)
            self._turns.append(self._last_turn)
            self._drop_old_turns()
        elif not again:
            self._last_turn = None
        return reply

    def _set_apart(self) -> None:
        """The last turn is about to change: in private, one from before is to be what it was afterwards."""
        if self._private_since == len(self._turns):
            self._public, self._private_since = self._turns[-1], len(self._turns) - 1

    @property
    def _last_is_a_turn(self) -> bool:
        return bool(self._turns) and self._turns[-1] is self._last_turn

    def _earlier(self) -> tuple[Message, ...]:
        """What was said before, but what is forgotten by now, and the answer to what is asked again."""
        self.drop_forgotten()
        before = self._turns[:-1] if self._again and self._last_is_a_turn else self._turns
        turns = before[-self._context_turns :] if self._context_turns else []
        return tuple(message for turn in turns for message in turn.messages)

    def _drop_old_turns(self) -> None:
        """A session that goes on for weeks holds no more than what a query may see."""
        excess = max(0, len(self._turns) - max(1, self._context_turns))
        del self._turns[:excess]
        if self._private_since is not None:
            self._private_since = max(0, self._private_since - excess)

    def drop_forgotten(self) -> None:
        """What another process has forgotten is no context of what follows, and no longer to be rated."""
        gone = [turn for turn in self._turns if turn.id is not None and self.desk.forgot(turn.id)]
        if self._private_since is not None:
            self._private_since -= sum(turn in gone for turn in self._turns[: self._private_since])
        self._turns = [turn for turn in self._turns if turn not in gone]
        if self.last is not None and self.desk.forgot(self.last[0].id):
            if self._last_before_private is self.last:
                self._last_before_private = None
            self.last, self._last_turn, self.nothing = None, None, _FORGOTTEN

    @property
    def private(self) -> bool:
        """Whether nothing of what is asked now is kept."""
        return self._private_since is not None

    def set_private(self, private: bool) -> None:
        """Keep nothing from now on, or go on keeping; what was said in private is no context of what is kept."""
        if private and self._private_since is None:
            self._private_since = len(self._turns)
            self._last_before_private = self.last
        elif not private and self._private_since is not None:
            del self._turns[self._private_since :]
            self._private_since = None
            if (public := self._public) is not None:
                self._turns.append(public)
                self._last_turn, self._public = public, None
                self.drop_forgotten()
            if self.last is not self._last_before_private:
                self.last, self.nothing = None, _GONE

    def take_back(self) -> str:
        """The last question, to be asked again at once: its answer is no context of that, nor of what follows another one.

        Raises InputError without one.
        """
        self.drop_forgotten()
        if self.last is None:
            raise InputError(self.nothing)
        self._again = self._last_is_a_turn
        return self.last[0].query

    def begin(self, said: Sequence[Message] = (), session: str | None = None, count: int = 0, ids: Sequence[str] = ()) -> None:
        """Begin anew, with what was said before where there is any: questions and answers in turn.

        As `session`, `count` exchanges long, where it is an old one; `ids` are those of its questions.
        """
        self.session = session or str(uuid.uuid4())
        known: Sequence[str | None] = ids or [None] * (len(said) // 2)
        self._turns = [
            _Turn(question.content, answer.content, one)
            for question, answer, one in zip(said[::2], said[1::2], known, strict=True)
        ]
        self._drop_old_turns()
        self._count = count
        self._private_since, self._public = len(self._turns) if self.private else None, None
        self.last, self._last_before_private, self.nothing = None, None, _NOTHING

    def rate(self, rating: Rating, correction: str | None = None, weight: float = 1.0) -> Exchange:
        """Rate the last answer, with what it should have been where that is given.

        Raises InputError without one, LogError where it could not be stored.
        """
        correction = None if correction is None else encodable(correction)
        self.drop_forgotten()
        if self.last is None:
            raise InputError(f"there is no answer to rate: {self.nothing}")
        exchange, reply = self.last
        if correction is None and not self.corrected and not exchange.answer.strip():
            raise InputError("there is no answer to rate: nobody answered; /fix TEXT tells the right answer")
        self.desk.rate(exchange, reply, rating, correction, weight, self.private, self.corrected)
        self.corrected = self.corrected or correction is not None
        said = correction or (reply.proposal.text if rating == "bad" else "")
        if said and self._last_turn is not None and self._last_is_a_turn:
            # What was called bad too is no earlier turn; what was said is.
            self._set_apart()
            self._turns[-1] = self._last_turn = replace(self._last_turn, answer=said)
        return exchange


def fill(index: LearnedIndex, log: ExchangeLog) -> None:
    """Load what may be repeated from the log, what became of answers that were given, and what was forgotten.

    Raises LogError; LogTakenError after a quarter of a second.
    """
    # Read before it is counted: who fails here comes again, and no answer is to count twice.
    judged = log.read(queries.judged_answers, wait=_FILL_WAIT)
    forgotten = log.read(tombstones, wait=_FILL_WAIT)
    remember(index, log)
    for row in judged:
        index.observe(row["query"], row["answer"], row["rating"] == "good", row["model_version"], str(row["id"]))
    for stone in forgotten:
        index.remove(stone.exchange_id)


def remember(index: LearnedIndex, log: ExchangeLog) -> None:
    """Load what may be repeated from the log; again, what other processes have logged meanwhile. Raises as `fill` does."""
    rows = [row for row in log.learnable(wait=_FILL_WAIT) if not context_of(row)]
    for known in repeatable(rows):
        index.add(known)
    if rows:
        index.logged(str(row["id"]) for row in rows)
