"""Which part of a request Claude is told to remember, and when that pays. Pure; knows texts, no network.

Writing to the cache costs a quarter more than reading plainly, reading from it a tenth, for five minutes
(https://platform.claude.com/docs/en/build-with-claude/prompt-caching): it pays where more than one question in four comes again
that soon. So marked are a system prompt, which every question repeats, and the earlier turns, which the next follow-up repeats,
each from 1024 tokens on, taken as four characters each (less is never cached). Once the oldest turns are left out, a
conversation no longer begins as it did, and is not marked.
"""

from collections.abc import Sequence
from typing import Any

from shammah_data.exchange import Message

LEAST_CHARACTERS = 4 * 1024
_MARK = {"type": "ephemeral"}


def plain(system: str | None, messages: Sequence[Message]) -> tuple[Any, list[Any]]:
    """The `system` and `messages` fields of a request without marks."""
    return system, [{"role": one.role, "content": one.content} for one in messages]


def marked(system: str | None, messages: Sequence[Message], most_turns: int) -> tuple[Any, list[Any]]:
    """The same with marks; `most_turns`: as many messages before the last one may be all that is left of more."""
    told, turns = plain(system, messages)
    length = len(system or "")
    if system and length >= LEAST_CHARACTERS:
        told = [{"type": "text", "text": system, "cache_control": _MARK}]
    earlier = messages[:-1]
    length += sum(len(one.content) for one in earlier)
    if earlier and length >= LEAST_CHARACTERS and len(earlier) < most_turns:
        last = turns[len(earlier) - 1]
        last["content"] = [{"type": "text", "text": earlier[-1].content, "cache_control": _MARK}]
    return told, turns
