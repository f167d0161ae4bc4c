"""What both APIs ask for, in the terms of the tiers: a history becomes a query with its earlier turns. Pure; knows no shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shammah_data.errors import InputError
from shammah_data.exchange import Message, Role
from shammah_data.settings import HttpSettings, ServeSettings
from shammah_runtime.desk import asked, encodable
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.proposal import Asked, Query

# Names a client may give as the model; any other asks all tiers, as tools have the names of other services built in.
MODELS: dict[str, Asked] = {"shammah": "all", "shammah-local": "local", "shammah-teacher": "teacher"}


@dataclass(frozen=True)
class Limits:
    """What the settings say of every request; `decoding` is how the local model answers unless a request says otherwise."""

    decoding: Decoding
    context_turns: int = ServeSettings.context_turns
    plain_systems: tuple[str, ...] = HttpSettings.plain_systems


@dataclass(frozen=True)
class Wanted:
    """A request: the query, and whether it is to be kept.

    `early`: whether pieces of an answer may come before it has ended.
    """

    query: Query
    private: bool = False
    stream: bool = False
    early: bool = False


@dataclass(frozen=True)
class Turn:
    """One message of a request."""

    role: Role
    text: str


def query(
    limits: Limits, model: str, systems: Iterable[str], turns: Sequence[Turn], most_tokens: int | None, drawn: dict[str, Any]
) -> Query:
    """The last turn as the question and the turns before it as its context; `drawn` are fields of `Decoding` that were given.

    Turns of one role in a row are one turn, empty ones and those before the first of the user are left out, and only the last
    `context_turns` exchanges are kept. A system message counts unless it is one of the plain ones. Raises InputError.
    """
    if not turns or turns[-1].role != "user":
        raise InputError("messages: the last message must be the user's")
    # Joined at the end: a body may hold tens of thousands of turns of one role.
    parts: list[tuple[Role, list[str]]] = []
    for turn in turns:
        if not turn.text.strip():
            continue
        if parts and parts[-1][0] == turn.role:
            parts[-1][1].append(turn.text)
        elif parts or turn.role == "user":
            parts.append((turn.role, [turn.text]))
    merged = [Message(role, encodable("\n\n".join(texts))) for role, texts in parts]
    if not merged or merged[-1].role != "user":
        raise InputError("messages: the last message must be the user's, and not empty")
    told = [encodable(system).strip() for system in systems]
    minded = [system for system in told if system and not {system, "*"}.intersection(limits.plain_systems)]
    kept = 2 * limits.context_turns
    return Query(
        text=asked(merged[-1].content),
        context=tuple(merged[:-1][-kept:]) if kept else (),
        system="\n\n".join(minded),
        asked=MODELS.get(model, "all"),
        decoding=decoding(limits.decoding, most_tokens, drawn),
        most_tokens=most_tokens,
    )


def decoding(usual: Decoding, most_tokens: int | None, drawn: dict[str, Any]) -> Decoding:
    """How the local model is to answer this request. Raises InputError."""
    given = {name: value for name, value in drawn.items() if value is not None}
    # A beam search draws nothing: of the two, what is asked for comes before what is set.
    if given.get("temperature") or given.get("logprobs"):
        given = {"beams": 1, **given}
    elif given.get("beams", 1) > 1:
        given = {"temperature": 0.0, **given}
    given["answers"] = min(usual.answers, given.get("beams", usual.beams))
    if most_tokens is not None:
        given["max_tokens"] = min(usual.max_tokens, most_tokens)
    # Those of the settings hold for every client.
    given["stop"] = (*usual.stop, *given.get("stop", ()))
    return replace(usual, **given)
