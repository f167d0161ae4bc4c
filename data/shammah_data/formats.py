"""Conversations as other programs write them. Knows their formats, not the log.

- JSON lines of {"messages": [...]}: the shapes of OpenAI (content is text) and Anthropic (text or content blocks).
- conversations.json of a claude.ai account export, on its own or in its zip.
- Session transcripts of Claude Code: JSON lines, one event each, a folder per project.
- logs.db of the llm command line tool: SQLite, tables `conversations` and `responses`.
"""

import contextlib
import json
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shammah_data.errors import InputError
from shammah_data.exchange import Message, Role

_MIB = 1 << 20
# A whole document is held in memory while it is read; beyond this it is no export of one person.
LARGEST_DOCUMENT = 1024 * _MIB
LARGEST_RATIO = 200
_ROLES: dict[str, Role] = {"user": "user", "human": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Said:
    """One message of a conversation; `with_tools` when its author used tools on the way to it."""

    message: Message
    at: datetime | None = None
    model: str | None = None
    with_tools: bool = False


@dataclass(frozen=True)
class Conversation:
    """Messages in their order."""

    said: tuple[Said, ...]
    session: str = ""


@dataclass
class _Pending:
    """Blocks of one author, collected until the other one speaks."""

    role: Role
    texts: list[str] = field(default_factory=list)
    at: datetime | None = None
    model: str | None = None
    with_tools: bool = False

    def said(self) -> Said:
        return Said(Message(self.role, "\n\n".join(self.texts)), self.at, self.model, self.with_tools)


def from_messages(row: dict[str, Any]) -> Conversation:
    """A row of {"messages": [{"role", "content"}, ...]}. Raises ValueError that says what is wrong."""
    messages = row["messages"]
    if not isinstance(messages, list):
        raise ValueError('"messages" must be a list')
    model = row.get("model")
    joined = _joined(
        (_role(message), message.get("content"), None, model if isinstance(model, str) else None)
        for message in messages
        if isinstance(message, dict)
    )
    return Conversation(joined)


def from_claude_export(document: Any) -> Iterator[Conversation]:
    """The conversations of a claude.ai conversations.json. Raises ValueError when it is something else."""
    if not isinstance(document, list):
        raise ValueError("not a list of conversations")
    for conversation in document:
        messages = conversation.get("chat_messages") if isinstance(conversation, dict) else None
        if not isinstance(messages, list):
            raise ValueError('a conversation without "chat_messages"')
        joined = _joined(
            (_ROLES.get(str(m.get("sender"))), m.get("content") or m.get("text"), moment(m.get("created_at")), None)
            for m in messages
            if isinstance(m, dict)
        )
        yield Conversation(joined, str(conversation.get("uuid", "")))


def is_transcript_event(row: dict[str, Any]) -> bool:
    """Whether a JSON line is an event of a Claude Code transcript."""
    return "type" in row and ("sessionId" in row or row["type"] == "summary")


def from_transcript(events: Iterable[dict[str, Any]]) -> Conversation:
    """The conversation of one Claude Code session: what the user typed and what was answered, without side chains."""
    session = ""
    rows = []
    for event in events:
        message = event.get("message")
        if event.get("type") not in ("user", "assistant") or event.get("isSidechain") or event.get("isMeta"):
            continue
        if isinstance(message, dict):
            session = str(event.get("sessionId", session))
            model = message.get("model")
            rows.append(
                (
                    _role(message),
                    message.get("content"),
                    moment(event.get("timestamp")),
                    model if isinstance(model, str) else None,
                )
            )
    return Conversation(_joined(rows), session)


def from_llm_log(path: Path) -> Iterator[Conversation]:
    """The conversations of an llm logs.db, opened read-only. Raises InputError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT coalesce(conversation_id, id), prompt, response, datetime_utc, model FROM responses "
                "ORDER BY coalesce(conversation_id, id), datetime_utc, id"
            )
            said: list[Said] = []
            current: str | None = None
            for session, prompt, response, at, model in rows:
                if current is not None and session != current:
                    yield Conversation(tuple(said), current)
                    said = []
                current = str(session)
                if isinstance(prompt, str) and isinstance(response, str):
                    when = moment(at)
                    said += [Said(Message("user", prompt), when), Said(Message("assistant", response), when, str(model))]
            if current is not None:
                yield Conversation(tuple(said), current)
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a logs.db of llm: {error}") from error


def document_of(path: Path) -> Any:
    """The JSON document of a conversations.json, or of the one inside a zip. Raises InputError."""
    try:
        if zipfile.is_zipfile(path):
            return json.loads(_from_zip(path))
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise InputError(f"{path}: larger than {LARGEST_DOCUMENT // _MIB} MB: split it")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a conversations.json of a claude.ai export: {error}") from error


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        # Read where it is, never unpacked: the names in an archive lead nowhere.
        found = [entry for entry in archive.infolist() if entry.filename.rsplit("/")[-1] == "conversations.json"]
        if len(found) != 1:
            raise InputError(f"{path}: holds {len(found)} files conversations.json; a claude.ai export holds one")
        entry = found[0]
        if entry.file_size > LARGEST_DOCUMENT or entry.file_size > LARGEST_RATIO * max(entry.compress_size, 1024):
            raise InputError(f"{path}: its conversations.json unpacks to {entry.file_size} bytes, which is no export: not read")
        with archive.open(entry) as file:
            # The size in the directory is only a claim.
            content = file.read(entry.file_size + 1)
        if len(content) > entry.file_size:
            raise InputError(f"{path}: its conversations.json is larger than it claims: not read")
        return content


def _joined(rows: Iterable[tuple[Role | None, Any, datetime | None, str | None]]) -> tuple[Said, ...]:
    """Messages with their blocks, one per change of author; what is neither a user's nor an assistant's is left out."""
    pending: list[_Pending] = []
    for role, content, at, model in rows:
        if role is None:
            continue
        texts, tools = _texts(content)
        # The result of a tool is sent in the user's name, and is no question of theirs.
        if role == "user" and tools and not texts:
            if pending:
                pending[-1].with_tools = True
            continue
        if not pending or pending[-1].role != role:
            pending.append(_Pending(role, at=at))
        last = pending[-1]
        last.texts += texts
        last.with_tools |= tools
        last.model = model or last.model
    return tuple(each.said() for each in pending)


def _texts(content: Any) -> tuple[Sequence[str], bool]:
    """The text blocks of a content, and whether it holds a block of a tool."""
    if isinstance(content, str):
        return ([_encodable(content)] if content.strip() else []), False
    if not isinstance(content, list):
        return [], False
    blocks = [block for block in content if isinstance(block, dict)]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    return [_encodable(text) for text in texts if text.strip()], any("tool" in str(block.get("type")) for block in blocks)


def _encodable(text: str) -> str:
    # JSON can spell half a surrogate pair, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def _role(message: dict[str, Any]) -> Role | None:
    return _ROLES.get(str(message.get("role")))


def moment(value: Any) -> datetime | None:
    """A time written as ISO 8601, in UTC where it names no zone; None for anything else."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
