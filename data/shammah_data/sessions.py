"""Conversations as the log holds them: which there were, and what was said. Knows SQL, no files and no terminal."""

import itertools
import json
from typing import Any

from shammah_data.errors import InputError
from shammah_data.exchange import Message
from shammah_data.session import Session, fetch

# What a session of a terminal is logged as.
SOURCE = "serve"


def latest(session: Session) -> str:
    """The id of the conversation that was last held. Raises InputError where there is none."""
    found = fetch(
        session,
        "SELECT session FROM exchanges WHERE source = ? AND session <> '' ORDER BY created_at DESC, turn DESC LIMIT 1",
        [SOURCE],
    )
    if not found:
        raise InputError("there is no session to continue: the log holds none")
    return str(found[0]["session"])


def named(session: Session, prefix: str) -> str:
    """The id of a conversation by an unambiguous beginning of it. Raises InputError."""
    found = fetch(
        session,
        "SELECT DISTINCT session FROM exchanges WHERE source = ? AND session <> '' AND starts_with(session, ?) LIMIT 2",
        [SOURCE, prefix.lower()],
    )
    if not prefix or not found:
        raise InputError(f"no session {prefix!r}: /status in a session tells its id, and `shammah-log list --json` every one")
    if len(found) > 1:
        raise InputError(f"{prefix} is the beginning of several sessions: give more of it")
    return str(found[0]["session"])


def exchanges(session: Session, conversation: str) -> list[dict[str, Any]]:
    """What was said in a conversation, as rows of the `rated` view, oldest first."""
    return fetch(
        session,
        "SELECT * FROM rated WHERE source = ? AND session = ? ORDER BY turn, created_at",
        [SOURCE, conversation],
    )


def whole(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exchanges that a session goes on from: those with a whole answer.

    A question that was asked again was asked with the same turns before it: of its answers the last one stands.
    """
    found = []
    for _, run in itertools.groupby(rows, lambda row: (row["query"], row["context"])):
        standing: dict[str, Any] | None = None
        for row in run:
            if row["complete"] and row["answer"].strip():
                standing = row
            elif standing is not None and row["correction"]:
                # Nobody answered this time: what it should have been is said of the answer that stands.
                standing = {**standing, "correction": row["correction"], "withdrawn": row["withdrawn"]}
        if standing is not None:
            found.append(standing)
    return found


def turns(rows: list[dict[str, Any]]) -> list[Message]:
    """The turns of these exchanges, with what they should have been where that was said."""
    return [message for row in rows for message in (Message("user", row["query"]), Message("assistant", _in_force(row)))]


def _in_force(row: dict[str, Any]) -> str:
    """What an exchange says: its correction, where there is one that was not called bad since."""
    return str(row["answer"] if row["withdrawn"] else row["correction"] or row["answer"])


def written(messages: list[Message]) -> str:
    """A conversation as one line of JSON, which `shammah-log import` reads as well."""
    return json.dumps({"messages": [{"role": one.role, "content": one.content} for one in messages]}, ensure_ascii=False) + "\n"


def read(text: str) -> list[Message]:
    """What `written` made. Raises InputError."""
    try:
        raw = json.loads(text)["messages"]
        messages = [Message(one["role"], one["content"]) for one in raw]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'it holds no conversation: one line of JSON, {"messages": [{"role": ..., "content": ...}, ...]}'
        ) from error
    for n, one in enumerate(messages):
        if one.role != ("user", "assistant")[n % 2] or not isinstance(one.content, str):
            raise InputError("it holds no conversation: texts of user and assistant take turns, the user's first")
    if len(messages) % 2:
        raise InputError("it holds no conversation: the last question has no answer")
    return messages
