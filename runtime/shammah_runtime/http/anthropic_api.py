"""Anthropic's messages: their requests as queries, answers and errors in their shape. Pure; knows no socket."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shammah_data.errors import InputError
from shammah_data.text import printable
from shammah_runtime.cascade import Reply
from shammah_runtime.http import asking, telling
from shammah_runtime.http.drawing import Drawn
from shammah_runtime.http.service import Job, Outcome
from shammah_runtime.http.sse import event
from shammah_runtime.http.telling import Problem

# See `openai_api`.
UNSUPPORTED = ("tools", "tool_choice", "mcp_servers", "output_format")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class TextBlock(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


Content = str | list[TextBlock]


class InputMessage(BaseModel):
    """One message."""

    model_config = ConfigDict(strict=True)
    role: Literal["user", "assistant"]
    content: Content


StopText = Annotated[str, Field(min_length=1)]


class MessagesRequest(Drawn):
    """A messages request; fields that are not listed are passed over."""

    model: str
    max_tokens: int = Field(ge=1, le=1_000_000)
    messages: list[InputMessage] = Field(min_length=1)
    system: Content | None = None
    stop_sequences: Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0.0, le=1.0, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0.0, le=1.0, allow_inf_nan=False)


def _text(content: Content) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


def read(body: bytes, limits: asking.Limits) -> tuple[MessagesRequest, asking.Wanted]:
    """A request and what it asks for. Raises InputError, pydantic.ValidationError."""
    request = MessagesRequest.model_validate_json(body)
    for name in UNSUPPORTED:
        if (request.model_extra or {}).get(name):
            raise InputError(f"{name}: not supported")
    config = (request.model_extra or {}).get("output_config")
    if isinstance(config, dict) and config.get("format"):
        raise InputError("output_config.format: not supported")
    turns = [asking.Turn(message.role, _text(message.content)) for message in request.messages]
    systems = [] if request.system is None else [_text(request.system)]
    drawn = request.drawn(temperature=request.temperature, top_p=request.top_p, stop=request.stop_sequences)
    query = asking.query(limits, request.model, systems, turns, request.max_tokens, drawn)
    return request, asking.Wanted(query, stream=bool(request.stream), early=bool(request.stream))


def answer(_: MessagesRequest, outcome: Outcome) -> dict[str, Any]:
    """A whole answer."""
    reply = outcome.reply
    assert reply is not None
    assert outcome.exchange is not None
    return {
        **_head(outcome.exchange.id, telling.model_name(outcome)),
        "content": [{"type": "text", "text": reply.text}],
        **_ending(reply),
        "usage": _usage(reply),
        "shammah": telling.provenance(outcome),
    }


async def stream(request: MessagesRequest, job: Job, first: str | Outcome) -> AsyncIterator[bytes]:
    """A streamed answer, in the order of events that their documentation gives."""
    empty: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    yield event({"type": "message_start", "message": _head(job.id, request.model) | empty}, "message_start")
    opened = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield event(opened, "content_block_start")
    now = first
    while isinstance(now, str):
        yield _delta(now)
        now = await job.next()
    if (wrong := telling.problem(now)) is not None:
        yield event(error(wrong), "error")
        return
    assert now.reply is not None
    yield event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    last = {
        "type": "message_delta",
        "delta": _ending(now.reply),
        "usage": _usage(now.reply),
        "shammah": telling.provenance(now),
    }
    yield event(last, "message_delta")
    yield event({"type": "message_stop"}, "message_stop")


def error(wrong: Problem) -> dict[str, Any]:
    """A problem in their shape."""
    kind = _KINDS.get(wrong.status, "invalid_request_error" if wrong.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": printable(wrong.message)}, "request_id": None}


def _head(exchange_id: str, model: str) -> dict[str, Any]:
    return {"id": f"msg_{exchange_id}", "type": "message", "role": "assistant", "model": printable(model)}


def _delta(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


def _ending(reply: Reply) -> dict[str, Any]:
    if reply.stopped_at is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": reply.stopped_at}
    reason = "max_tokens" if telling.stopped_by_length(reply) else "refusal" if telling.refused(reply) else "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(reply: Reply) -> dict[str, int]:
    """Tokens as whoever answered counts them; an answer that was found, not made, cost none."""
    return {"input_tokens": reply.proposal.prompt_tokens or 0, "output_tokens": reply.proposal.answer_tokens or 0}
