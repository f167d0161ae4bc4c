"""What both APIs tell of an answer: its tokens, where it came from, and why there is none."""

import math
from dataclasses import dataclass
from typing import Any

from shammah_data.text import Sanitizer
from shammah_runtime.cascade import Reply
from shammah_runtime.http.service import Outcome
from shammah_runtime.proposal import Token
from shammah_runtime.turns import BUSY


@dataclass(frozen=True)
class Problem:
    """Why a request has no answer. `kind`: a word for programs. `again`: whether it may succeed when it is asked again,
    after so many `seconds`.
    """

    status: int
    kind: str
    message: str
    again: bool = False
    param: str | None = None
    seconds: int = 1


FULL = Problem(503, "busy", "as many queries as may be are under way: ask again in a second", again=True)
FAULT = Problem(500, "internal_error", "an internal error: the server's own output says more")
ENDING = Problem(503, "ending", "the server is ending", again=True)


def problem(outcome: Outcome) -> Problem | None:
    """What is wrong with an outcome, or None for an answer."""
    reply = outcome.reply
    if outcome.fault:
        return FAULT
    if reply is None or reply.interrupted:
        return ENDING
    if reply.error is None:
        return None
    if reply.proposal.attempt.outcome == "failed":
        return Problem(502, "teacher_failed", reply.error)
    if any(attempt.reason.startswith(BUSY) for attempt in reply.attempts):
        return Problem(503, "busy", f"the engine is busy, and {reply.error}", again=True)
    if reply.again_in is not None:
        return Problem(503, "teacher_failed", reply.error, again=True, seconds=max(1, math.ceil(reply.again_in)))
    return Problem(422, "not_answered", reply.error)


def provenance(outcome: Outcome) -> dict[str, Any]:
    """Where an answer came from, for the field `shammah` of a body."""
    reply, exchange = outcome.reply, outcome.exchange
    assert reply is not None
    assert exchange is not None
    return {
        "exchange": exchange.id,
        "tier": exchange.tier,
        "confidence": exchange.confidence,
        "version": exchange.model_version,
        "teacher_model": exchange.teacher_model,
        "latency_ms": round(reply.latency_ms, 3),
        "attempts": [
            {"tier": one.tier, "outcome": one.outcome, "reason": one.reason, "latency_ms": round(one.latency_ms, 3)}
            for one in reply.attempts
        ],
    }


def headers(outcome: Outcome) -> dict[str, str]:
    """The same in short, as headers of a whole answer."""
    exchange = outcome.exchange
    assert exchange is not None
    told = {
        "x-shammah-exchange": exchange.id,
        "x-shammah-tier": exchange.tier,
        "x-shammah-confidence": None if exchange.confidence is None else f"{exchange.confidence:.4f}",
        "x-shammah-version": exchange.model_version or exchange.teacher_model,
    }
    return {name: value for name, value in told.items() if value}


def model_name(outcome: Outcome) -> str:
    """Which model answered: a version, the teacher's model, or the appliance as a whole."""
    exchange = outcome.exchange
    return (exchange.model_version or exchange.teacher_model if exchange else None) or "shammah"


def stopped_by_length(reply: Reply) -> bool:
    """Whether the answer ended because it had no more room."""
    return not reply.proposal.complete and reply.proposal.attempt.reason.endswith("max_tokens")


def refused(reply: Reply) -> bool:
    """Whether the teacher broke the answer off because of what it says."""
    return not reply.proposal.complete and reply.proposal.attempt.reason.endswith("refusal")


def tokens(reply: Reply) -> list[Token]:
    """The tokens that make up what is given of the answer, without the mark of its end."""
    return [token for token in reply.tokens if not token.end]


def token_texts(found: list[Token]) -> list[str]:
    """Their texts as they may be shown: a sequence that is divided among tokens is one all the same."""
    sanitizer = Sanitizer()
    return [sanitizer.push(token.text) for token in found]
