"""Tiers in order: the first accepted answer wins, and every attempt is kept with its reason. Knows no terminal, no log."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shammah_data.errors import TeacherError
from shammah_data.exchange import Attempt, Exchange, Message
from shammah_data.text import Sanitizer, counted, printable
from shammah_runtime.breaker import LEFT_ALONE
from shammah_runtime.proposal import STOPPED, Chosen, LocalTier, OnText, Proposal, Query, Token, declined
from shammah_runtime.routing import Routing
from shammah_runtime.stops import StopStrings, cut
from shammah_runtime.teacher import Asking, Teacher


@dataclass(frozen=True)
class Reply:
    """What came of a query: an answer, or `error`, one line that says what to do.

    `text` without `complete` is what had arrived when the teacher broke off or the user stopped it. The first of the `stops` in
    an answer ends what is given of it; the proposal, and with it the log, has the whole. `again_in`: after how many seconds the
    same may be asked with better luck, where that is known.
    """

    proposal: Proposal
    attempts: tuple[Attempt, ...]
    latency_ms: float
    error: str | None = None
    interrupted: bool = False
    stops: tuple[str, ...] = ()
    again_in: float | None = None

    @property
    def text(self) -> str:
        """The answer as it is given, or what there is of it."""
        return cut(self.proposal.text, self.stops)[0]

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens that make up what is given; none where no model of ours made it."""
        text, tokens = self.text, self.proposal.tokens
        if text == self.proposal.text:
            return tokens
        sanitizer = Sanitizer()
        shown = [sanitizer.push(token.text) for token in tokens]
        whole = "".join(shown)
        # An answer begins with no blanks, its tokens may.
        length, count = len(whole.lstrip()) - len(whole) if text else 0, 0
        while length < len(text) and count < len(tokens):
            length += len(shown[count])
            count += 1
        return tokens[:count]

    @property
    def others(self) -> tuple[str, ...]:
        """The next best answers of a beam search, cut likewise: those that say something else, each once."""
        others = dict.fromkeys(cut(other, self.stops)[0] for other in self.proposal.others)
        return tuple(other for other in others if other not in ("", self.text))

    @property
    def stopped_at(self) -> str | None:
        """The stop string before which it was cut."""
        return cut(self.proposal.text, self.stops)[1]

    @property
    def answered(self) -> bool:
        """Whether a whole answer was given."""
        return self.error is None and not self.interrupted and self.proposal.complete

    def exchange(self, query: Query, session: str, turn: int, audit_probability: float = 0.0) -> Exchange:
        """The record for the log. An error text is never an answer: a failed query is logged with none.

        `audit_probability`: that with which this answer, if it is a local one, is put to the teacher as well.
        """
        proposal = self.proposal
        local = proposal.attempt.tier != "teacher"
        return Exchange(
            query=query.text,
            answer=proposal.text,
            tier=proposal.attempt.tier,
            session=session,
            turn=turn,
            context=query.context,
            model_version=proposal.model_version,
            teacher_model=proposal.teacher_model,
            complete=self.answered,
            confidence=proposal.attempt.confidence,
            latency_ms=self.latency_ms,
            prompt_tokens=proposal.prompt_tokens,
            answer_tokens=proposal.answer_tokens,
            cost_usd=proposal.cost_usd,
            teacher_probability=audit_probability if local else 1.0,
            attempts=self.attempts,
        )


class _Cleaned:
    """Hands the pieces of an answer on without what could drive a terminal, up to a stop string."""

    def __init__(self, on_text: OnText, stops: Sequence[str]) -> None:
        self._on_text = on_text
        self._sanitizer = Sanitizer()
        self._stops = StopStrings(stops)

    def push(self, piece: str) -> None:
        if shown := self._stops.push(self._sanitizer.push(piece)):
            self._on_text(shown)

    def close(self) -> None:
        if rest := self._stops.push(self._sanitizer.close()) + self._stops.close():
            self._on_text(rest)


class Cascade:
    """The local tiers in the order they are tried, then the teacher where there is one."""

    def __init__(
        self,
        local: Sequence[LocalTier],
        teacher: Teacher | None,
        no_teacher_reason: str = "",
        clock: Callable[[], float] = time.monotonic,
        routing: Routing = Routing(),
        usual: Callable[[Query], Query] = lambda query: query,
        tokens: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """`usual(query)`: the query with what it leaves to the settings.

        `tokens(answer)`: how many tokens an answer has, where there is a model that knows.
        """
        self.routing = routing
        self._usual = usual
        self._tokens = tokens
        self._local = local
        self._teacher = teacher
        self._no_teacher_reason = no_teacher_reason
        self._clock = clock

    def answer(self, query: Query, on_text: OnText) -> Reply:
        """Answer a query; `on_text` gets a local answer whole, once accepted, and the teacher's as it streams.

        A local answer that is shown before it has ended comes in pieces as well; where it goes wrong, the query's `cut` is
        told, and the next tier's answer follows. KeyboardInterrupt passes through as long as nothing was shown; afterwards what
        had come of the query by then is returned. The same goes for InterruptedError, which is how the query's `stop` is met.
        """
        began = self._clock()
        query = replace(self._usual(query), chosen=Chosen())
        stops = query.decoding.stop if query.decoding is not None else ()
        attempts: list[Attempt] = []

        def timed(proposal: Proposal, since: float) -> Proposal:
            reason = printable(proposal.attempt.reason)
            attempt = replace(proposal.attempt, reason=reason, latency_ms=(self._clock() - since) * 1000.0)
            attempts.append(attempt)
            return replace(proposal, attempt=attempt, text=printable(proposal.text))

        def reply(proposal: Proposal, error: str | None = None, interrupted: bool = False) -> Reply:
            return Reply(proposal, tuple(attempts), (self._clock() - began) * 1000.0, error, interrupted, stops)

        local = self._local if query.asked != "teacher" and not query.system else ()
        if local and (forwarded := self.routing.not_local(query.text)) is not None:
            timed(declined("neural", forwarded), began)
            local = ()
        withdrawn: Proposal | None = None
        for tier in local:
            since = self._clock()
            cleaned = _Cleaned(on_text, stops)
            try:
                proposed = tier.propose(query if query.cut is None else replace(query, show=cleaned.push))
                shown = proposed is not None and proposed.committed is not None
                if query.stop.asked() and not shown:
                    raise InterruptedError
            except (KeyboardInterrupt, InterruptedError):
                if withdrawn is None:
                    raise
                attempt = Attempt(withdrawn.attempt.tier, "failed", f"{STOPPED} after it was cut")
                return reply(timed(replace(withdrawn, attempt=attempt, text="", complete=False), since), interrupted=True)
            if proposed is None:
                continue
            proposal = timed(self._short_enough(proposed, query), since)
            if shown:
                cleaned.close()
            if proposal.accepted:
                if not shown and (given := cut(proposal.text, stops)[0]):
                    on_text(given)
                return reply(proposal)
            if proposal.attempt.outcome == "failed":
                return reply(proposal, interrupted=True)
            if shown and query.cut is not None:
                query.cut(f"cut here: {proposal.model_version} is no longer sure of this answer")
                withdrawn = proposal
        since = self._clock()
        if (reason := self.not_asked(query)) is not None:
            failed = timed(declined("teacher", reason), since)
            who = "Claude" if self._teacher is None else self._teacher.who
            nobody = reply(failed, f"no local answer is sure enough, and {who} was not asked: {reason}")
            if self._teacher is not None and reason.startswith(LEFT_ALONE):
                nobody = replace(nobody, again_in=self._teacher.again_in())
            return nobody
        assert self._teacher is not None
        arrived: list[str] = []
        cleaned = _Cleaned(on_text, stops)

        def show(piece: str) -> None:
            arrived.append(piece)
            cleaned.push(piece)

        def messages() -> list[Message]:
            return [*self.routing.may_leave(query.current.context), Message("user", query.text)]

        model = self._teacher.settings.model
        paid: list[float] = []
        try:
            asking = Asking(query.system, query.most_tokens, query.stop, messages, paid.append)
            # Not before now: the tiers before took their time.
            answer = self._teacher.ask(messages(), show, asking)
        except TeacherError as error:
            failed = Proposal(
                Attempt("teacher", "failed", str(error)),
                error.partial,
                complete=False,
                teacher_model=model,
                cost_usd=error.cost_usd,
            )
            return reply(timed(failed, since), str(error))
        except (KeyboardInterrupt, InterruptedError):
            stopped = Proposal(
                Attempt("teacher", "failed", "stopped by the user"),
                "".join(arrived),
                complete=False,
                teacher_model=model,
                cost_usd=sum(paid) if paid else None,
            )
            return reply(timed(stopped, since), interrupted=True)
        cleaned.close()
        told = "asked" if answer.complete else f"cut short: {answer.stop_reason}"
        proposal = Proposal(
            Attempt("teacher", "accepted", told),
            text=answer.text,
            complete=answer.complete,
            teacher_model=answer.model,
            prompt_tokens=answer.input_tokens,
            answer_tokens=answer.output_tokens,
            cost_usd=answer.cost_usd,
        )
        return reply(timed(proposal, since))

    def _short_enough(self, proposed: Proposal, query: Query) -> Proposal:
        """The proposal, declined where an answer that no model has just made has more tokens than it may."""
        if not proposed.accepted or query.most_tokens is None or proposed.answer_tokens is not None:
            return proposed
        count = self._tokens(proposed.text)
        if count is None or count <= query.most_tokens:
            return proposed
        told = f"{proposed.attempt.reason}, but the answer does not end within {counted(query.most_tokens, 'token')}"
        return Proposal(replace(proposed.attempt, outcome="declined", reason=told))

    def not_asked(self, query: Query) -> str | None:
        """Why the teacher is not asked what no local tier answers, or None."""
        if query.asked == "local":
            return "only a local answer was asked for"
        for text in (query.text, query.system or ""):
            if (stays := self.routing.only_local(text)) is not None:
                return stays
        return self._no_teacher_reason if self._teacher is None else self._teacher.why_not()
