"""The records both processes share: messages, exchanges, attempts, feedback. Pure values; nothing here touches a disk."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from shammah_data.text import one_line

Role = Literal["user", "assistant"]
Tier = Literal["neural", "learned", "template", "teacher", "import"]
Outcome = Literal["accepted", "declined", "failed"]
Rating = Literal["good", "bad"]

# How much a rating may count: an ordinary word, an important one, a critical one.
WEIGHTS = (1, 3, 10)
TIERS: tuple[Tier, ...] = get_args(Tier)
# How the source of what came from a file begins.
IMPORTED = "import:"
# Answers that may become training targets as they are; a local model must not learn from itself unasked.
TRUSTED_TIERS: frozenset[Tier] = frozenset({"teacher", "import"})


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def named(question: str, letters: Literal[40, 60] = 60) -> str:
    """An earlier question as the reason of an attempt names it: forgetting finds it by that."""
    return repr(question[:letters])


def named_group(question: str) -> str:
    """A group of questions by one of them, as the reason of a run names it: forgetting finds it by that."""
    return f"“{one_line(question, 40)}”"


@dataclass(frozen=True)
class Attempt:
    """One tier that was tried for a query, and what came of it; a reason names other questions as `named` does."""

    tier: Tier
    outcome: Outcome
    reason: str
    confidence: float | None = None
    threshold: float | None = None
    latency_ms: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """A query, the turns before it, the answer given and who gave it.

    `teacher_probability` is the probability with which this very query would have been put to the teacher (1.0 when it
    was forwarded because nothing local was sure, the audit rate when a local answer was accepted); estimates over the
    log divide by it to stay unbiased. `latency_ms` runs from the query to the last character of the answer.
    """

    query: str
    answer: str
    tier: Tier
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    session: str = ""
    turn: int = 0
    context: tuple[Message, ...] = ()
    source: str = "serve"
    model_version: str | None = None
    teacher_model: str | None = None
    complete: bool = True
    trainable: bool = True
    confidence: float | None = None
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cost_usd: float | None = None
    teacher_probability: float | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Feedback:
    """A user's word on one exchange; a correction is the answer that should have been given."""

    exchange_id: str
    rating: Rating
    weight: float = 1.0
    correction: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Audited:
    """What an audit found: whether a version's answer to the query of an exchange agrees with the teacher's.

    `probability`, above 0 and up to 1: that with which this answer was to be audited. The version need not be the one that
    answered: where both versions of a trial were asked, each has its own record. What reads the log sets `given`, which is
    false where the version would have given this answer, and `rival_declined`, where the other one would have given none.
    """

    exchange_id: str
    version: str
    probability: float
    agrees: bool
    reason: str = ""
    audited_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    given: bool = True
    rival_declined: bool = False


@dataclass(frozen=True)
class Rival:
    """What the other version of a trial would have answered to the query of an exchange, asked before the exchange is audited.

    `answer` is None where it would have declined, for a `reason`; `same`: it says what the given answer says. `probability`:
    that with which the exchange is audited from then on, whatever its own row says.
    """

    exchange_id: str
    version: str
    probability: float
    answer: str | None
    same: bool
    confidence: float | None = None
    reason: str = ""
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class RunRecord:
    """One training run as the log remembers it; `figures` is JSON-able and holds only what was measured."""

    id: str
    started: datetime
    finished: datetime
    status: Literal["published", "refused", "failed"]
    reason: str
    version: str | None
    figures: dict[str, Any]
