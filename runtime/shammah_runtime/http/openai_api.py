"""OpenAI's chat completions: their requests as queries, answers and errors in their shape. Pure; knows no socket."""

import time
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
from shammah_runtime.proposal import Token

# What would change the answer and is not to be had: refused, where it is asked for, and not passed over.
UNSUPPORTED = (
    *("tools", "functions", "audio", "prediction", "logit_bias", "presence_penalty", "frequency_penalty"),
    *("web_search_options", "use_beam_search", "stop_token_ids"),
)


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message; `developer` is another word for `system`."""

    model_config = ConfigDict(strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """All of it as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(strict=True)
    include_usage: bool | None = None


StopText = Annotated[str, Field(min_length=1)]


class ChatRequest(Drawn):
    """A chat completion request; fields that are not listed are passed over."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    temperature: float | None = Field(None, ge=0.0, le=5.0, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0.0, le=1.0, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    n: int | None = Field(None, ge=1, le=1)
    best_of: int | None = Field(None, ge=1, le=1)
    store: bool | None = None


def read(body: bytes, limits: asking.Limits) -> tuple[ChatRequest, asking.Wanted]:
    """A request and what it asks for. Raises InputError, pydantic.ValidationError."""
    request = ChatRequest.model_validate_json(body)
    extra = request.model_extra or {}
    for name in UNSUPPORTED:
        if extra.get(name):
            raise InputError(f"{name}: not supported")
    if extra.get("modalities") not in (None, ["text"]):
        raise InputError("modalities: only text is supported")
    kind = extra.get("response_format")
    if kind is not None and kind != {"type": "text"}:
        raise InputError("response_format: only text is supported")
    if request.top_logprobs is not None and not request.logprobs:
        raise InputError("top_logprobs: needs logprobs")
    systems = [message.text for message in request.messages if message.role in ("system", "developer")]
    turns = [asking.Turn(message.role, message.text) for message in request.messages if message.role in ("user", "assistant")]
    drawn = request.drawn(
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=request.top_logprobs if request.logprobs else None,
        stop=(request.stop,) if isinstance(request.stop, str) else request.stop,
    )
    most = request.max_completion_tokens or request.max_tokens
    query = asking.query(limits, request.model, systems, turns, most, drawn)
    # Log-probabilities come with the whole text of a local answer.
    early = bool(request.stream) and not request.logprobs
    return request, asking.Wanted(query, request.store is False, bool(request.stream), early)


def answer(request: ChatRequest, outcome: Outcome) -> dict[str, Any]:
    """A whole answer."""
    reply = outcome.reply
    assert reply is not None
    assert outcome.exchange is not None
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []},
        "logprobs": _logprobs(request, reply),
        "finish_reason": _finish(reply),
    }
    return {
        "id": f"chatcmpl-{outcome.exchange.id}",
        "object": "chat.completion",
        "created": int(outcome.exchange.created_at.timestamp()),
        "model": telling.model_name(outcome),
        "choices": [choice],
        "usage": _usage(reply),
        "shammah": telling.provenance(outcome),
    }


async def stream(request: ChatRequest, job: Job, first: str | Outcome) -> AsyncIterator[bytes]:
    """A streamed answer; a stream that fails ends with an error and no [DONE], as theirs does."""
    head = {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": printable(request.model),
    }
    role = {"role": "assistant"}
    now = first
    while isinstance(now, str):
        # The tokens of a local answer, which comes in one piece, are known once it has ended.
        after = await job.next() if request.logprobs else None
        reply = after.reply if isinstance(after, Outcome) else None
        yield _chunk(head, role | {"content": now}, None if reply is None else _logprobs(request, reply))
        role = {}
        now = after if after is not None else await job.next()
    if (wrong := telling.problem(now)) is not None:
        yield event(error(wrong))
        return
    assert now.reply is not None
    if role:
        yield _chunk(head, role | {"content": ""}, None)
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(now.reply)}
    yield event({**head, "choices": [last], "shammah": telling.provenance(now)})
    if request.stream_options and request.stream_options.include_usage:
        yield event({**head, "choices": [], "usage": _usage(now.reply)})
    yield b"data: [DONE]\n\n"


def error(wrong: Problem) -> dict[str, Any]:
    """A problem in their shape."""
    kind = "invalid_request_error" if wrong.status < 500 else "api_error"
    return {"error": {"message": printable(wrong.message), "type": kind, "param": wrong.param, "code": wrong.kind}}


def _chunk(head: dict[str, Any], delta: dict[str, Any], logprobs: dict[str, Any] | None) -> bytes:
    return event({**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}]})


def _finish(reply: Reply) -> str:
    if reply.stopped_at is None and telling.stopped_by_length(reply):
        return "length"
    return "content_filter" if reply.stopped_at is None and telling.refused(reply) else "stop"


def _usage(reply: Reply) -> dict[str, int]:
    """Tokens as whoever answered counts them; an answer that was found, not made, cost none."""
    read, written = reply.proposal.prompt_tokens or 0, reply.proposal.answer_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _logprobs(request: ChatRequest, reply: Reply) -> dict[str, Any] | None:
    found = telling.tokens(reply) if request.logprobs else []
    if not found:
        return None
    content = [
        _token(token, shown) | {"top_logprobs": [_token(one, printable(one.text)) for one in token.top]}
        for token, shown in zip(found, telling.token_texts(found), strict=True)
    ]
    return {"content": content, "refusal": None}


def _token(token: Token, shown: str) -> dict[str, Any]:
    # A token may be a part of a letter, whose bytes are not known here.
    raw = None if "\ufffd" in shown else list(shown.encode())
    return {"token": shown, "logprob": token.logprob, "bytes": raw}
