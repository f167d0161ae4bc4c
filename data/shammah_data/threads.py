"""Turns out of messages that follow one another, through every branch. Knows who spoke after whom, not where it was written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shammah_data.exchange import Message, Role

# Each turn carries what came before it: without a bound, a long conversation would be stored as its square.
CONTEXT_MESSAGES = 8


@dataclass(slots=True)
class Told:
    """One message as it was written.

    `role` is None for what nobody said (the result of a tool, a note of the program): it only passes the thread on, and
    tells its flags of what was said before it. `parent` is the key of the message it follows; None: the one told just
    before it; a key nobody has: it begins. Within one `group` the same text is one text, however often it was written.
    """

    role: Role | None
    texts: Sequence[str] = ()
    key: str | None = None
    parent: str | None = None
    at: datetime | None = None
    model: str | None = None
    # Found out with tools, files or orders that the text does not hold: cannot be known from the question.
    with_tools: bool = False
    complete: bool = True
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, with the turns before it on its branch."""

    question: str
    answer: str
    context: tuple[Message, ...]
    number: int
    at: datetime | None
    model: str | None
    trainable: bool
    complete: bool


@dataclass(slots=True, eq=False)
class _Run:
    """What one author said until the other one spoke."""

    role: Role
    before: "_Run | None"
    texts: list[str] = field(default_factory=list)
    at: datetime | None = None
    model: str | None = None
    with_tools: bool = False
    complete: bool = True
    group: str | None = None
    heard: set[str] = field(default_factory=set)
    text: str = ""
    # The answer to this question; the newest answered question at or above this run, and how many there are.
    answer: "_Run | None" = None
    answered: "_Run | None" = None
    number: int = 0

    def add(self, told: Told) -> None:
        self.with_tools |= told.with_tools
        self.complete &= told.complete
        if told.role is None:
            return
        self.at = self.at or told.at
        self.model = told.model or self.model
        if told.group is None:
            self.texts += told.texts
            return
        if told.group != self.group:
            self.group, self.heard = told.group, set()
        for text in told.texts:
            if text not in self.heard:
                self.heard.add(text)
                self.texts.append(text)


def turns(told: Sequence[Told]) -> Iterator[Turn]:
    """Every question that has an answer, in the order they were asked; of several answers to one, the last whole one."""
    runs = _runs(told)
    for run in runs:
        run.text = "\n\n".join(run.texts)
        run.texts.clear()
        asked = run.before
        if asked is not None:
            run.answered, run.number = asked.answered, asked.number
        if run.role == "assistant" and asked is not None and asked.role == "user" and run.text.strip() and asked.text.strip():
            run.answered, run.number = run, run.number + 1
            if asked.answer is None or run.complete or not asked.answer.complete:
                asked.answer = run
    for run in runs:
        if (answer := run.answer) is not None:
            yield Turn(
                question=run.text,
                answer=answer.text,
                context=_context(run),
                number=run.number,
                at=answer.at or run.at,
                model=answer.model,
                trainable=not (run.with_tools or answer.with_tools),
                complete=answer.complete,
            )


def _runs(told: Sequence[Told]) -> list[_Run]:
    runs: list[_Run] = []
    by_key: dict[str, _Run | None] = {}
    run: _Run | None = None
    for each in _parents_first(told):
        if each.key is not None and each.key in by_key:
            continue
        if each.parent is not None:
            run = by_key.get(each.parent)
        if each.role is not None and (run is None or run.role != each.role):
            run = _Run(each.role, run)
            runs.append(run)
        if run is not None:
            run.add(each)
        if each.key is not None:
            by_key[each.key] = run
    return runs


def _parents_first(told: Sequence[Told]) -> Iterable[Told]:
    if all(each.parent is None for each in told):
        return told
    by_key = {each.key: each for each in reversed(told) if each.key is not None}
    ordered: list[Told] = []
    seen: set[int] = set()
    for each in told:
        chain: list[Told] = []
        at: Told | None = each
        # What was seen already, or follows itself in a circle, ends the way up.
        while at is not None and id(at) not in seen:
            seen.add(id(at))
            chain.append(at)
            at = None if at.parent is None else by_key.get(at.parent)
        ordered += reversed(chain)
    return ordered


def _context(question: _Run) -> tuple[Message, ...]:
    found: list[Message] = []
    answer = question.answered
    while answer is not None and answer.before is not None and len(found) < CONTEXT_MESSAGES:
        found += [Message("assistant", answer.text), Message("user", answer.before.text)]
        answer = answer.before.answered
    return tuple(reversed(found))
