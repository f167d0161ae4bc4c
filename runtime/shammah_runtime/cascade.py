"""Tiers in order: the first accepted answer wins, and every attempt is kept with its reason. Knows no terminal, no log."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shammah_data.errors import TeacherError
from shammah_data.exchange import Attempt, Exchange, Message
from shammah_data.text import printable
from shammah_runtime.proposal import LocalTier, OnText, Proposal, Query, declined
from shammah_runtime.teacher import Teacher


@dataclass(frozen=True)
class Reply:
    """What came of a query: an answer, or `error`, one line that says what to do.

    `text` without `complete` is what had arrived when the teacher broke off or the user stopped it.
    """

    proposal: Proposal
    attempts: tuple[Attempt, ...]
    latency_ms: float
    error: str | None = None
    interrupted: bool = False

    @property
    def text(self) -> str:
        """The answer, or what there is of it."""
        return self.proposal.text

    @property
    def answered(self) -> bool:
        """Whether a whole answer was given."""
        return self.error is None and not self.interrupted and self.proposal.complete

    def exchange(self, query: Query, session: str, turn: int) -> Exchange:
        """The record for the log. An error text is never an answer: a failed query is logged with none."""
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
            teacher_probability=0.0 if local else 1.0,
            attempts=self.attempts,
        )


class Cascade:
    """The local tiers in the order they are tried, then the teacher where there is one."""

    def __init__(
        self,
        local: Sequence[LocalTier],
        teacher: Teacher | None,
        no_teacher_reason: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self._teacher = teacher
        self._no_teacher_reason = no_teacher_reason
        self._clock = clock

    def answer(self, query: Query, on_text: OnText) -> Reply:
        """Answer a query; `on_text` gets a local answer whole, once accepted, and the teacher's as it streams.

        KeyboardInterrupt passes through from a local tier, which has shown nothing; an interrupted teacher's answer is
        returned as far as it came.
        """
        began = self._clock()
        attempts: list[Attempt] = []

        def timed(proposal: Proposal, since: float) -> Proposal:
            attempt = replace(proposal.attempt, latency_ms=(self._clock() - since) * 1000.0)
            attempts.append(attempt)
            return replace(proposal, attempt=attempt, text=printable(proposal.text))

        def reply(proposal: Proposal, error: str | None = None, interrupted: bool = False) -> Reply:
            return Reply(proposal, tuple(attempts), (self._clock() - began) * 1000.0, error, interrupted)

        for tier in self._local:
            since = self._clock()
            proposed = tier.propose(query)
            if proposed is None:
                continue
            proposal = timed(proposed, since)
            if proposal.accepted:
                on_text(proposal.text)
                return reply(proposal)
        since = self._clock()
        if self._teacher is None or self._teacher.unavailable_reason is not None:
            reason = self._no_teacher_reason if self._teacher is None else str(self._teacher.unavailable_reason)
            failed = timed(declined("teacher", reason), since)
            return reply(failed, f"no local answer is sure enough, and Claude was not asked: {reason}")
        arrived: list[str] = []

        def show(piece: str) -> None:
            arrived.append(piece)
            on_text(printable(piece))

        messages = [*query.context, Message("user", query.text)]
        model = self._teacher.settings.model
        try:
            answer = self._teacher.ask(messages, show)
        except TeacherError as error:
            failed = Proposal(Attempt("teacher", "failed", str(error)), error.partial, complete=False, teacher_model=model)
            return reply(timed(failed, since), str(error))
        except KeyboardInterrupt:
            stopped = Proposal(Attempt("teacher", "failed", "stopped by the user"), "".join(arrived), False, None, model)
            return reply(timed(stopped, since), interrupted=True)
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
