"""Past exchanges from files. Knows which format a file is in and what makes an exchange, not the log."""

import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shammah_data import formats
from shammah_data.errors import InputError
from shammah_data.exchange import TIERS, Exchange, Message

# A fixed namespace makes the same line the same exchange, so that importing a file twice adds nothing.
_NAMESPACE = uuid.UUID("6f0c3a52-2b53-4f6e-9d2e-8f2f4d1c7a10")
_SQLITE = b"SQLite format 3\0"
LONGEST_LINE = 64 << 20
# Each exchange carries what came before it: without a bound, a long conversation would be stored as its square.
CONTEXT_MESSAGES = 8


@dataclass
class BadLines:
    """Lines that could not be used: how many, and the first few by number and reason."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Count one bad line."""
        self.count += 1
        if len(self.named) < 5:
            self.named.append(f"line {number}: {reason}")


def read_past(path: Path, bad: BadLines) -> Iterator[Exchange]:
    """Exchanges of a file in any known format, or of the transcripts in a folder; unusable lines are counted in `bad`.

    Raises InputError when the file cannot be read at all or is in no known format.
    """
    try:
        if path.is_dir():
            yield from _folder(path, bad)
            return
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    source = f"import:{path.name}"
    if start.startswith(_SQLITE):
        for conversation in formats.from_llm_log(path):
            yield from _exchanges(conversation, source)
    elif start.startswith(b"PK") or start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        try:
            for conversation in formats.from_claude_export(formats.document_of(path)):
                yield from _exchanges(conversation, source)
        except ValueError as error:
            raise InputError(f"{path}: not a conversations.json of a claude.ai export: {error}") from error
    else:
        yield from read_jsonl(path, bad)


def _folder(folder: Path, bad: BadLines) -> Iterator[Exchange]:
    # Claude Code keeps a folder per project. No deeper: a folder given by mistake must not be searched to its leaves; and no
    # links, which may lead anywhere.
    found = (path for pattern in ("*.jsonl", "*/*.jsonl") for path in folder.glob(pattern))
    paths = sorted(path for path in found if path.is_file() and not path.is_symlink() and not path.parent.is_symlink())
    if not paths:
        raise InputError(f"{folder}: holds no .jsonl file, nor does a folder in it")
    for path in paths:
        yield from read_jsonl(path, bad)


def read_jsonl(path: Path, bad: BadLines) -> Iterator[Exchange]:
    """Exchanges of a JSON-lines file, in its order; unusable lines are counted in `bad`.

    A line is {"query", "response"}, {"messages": [...]}, or an event of a Claude Code transcript. Raises InputError when
    the file cannot be read at all.
    """
    source = f"import:{path.name}"
    events: list[dict[str, Any]] = []
    for number, row in _rows(path, bad):
        if formats.is_transcript_event(row):
            events.append(row)
            continue
        try:
            if "messages" in row:
                found = list(_exchanges(formats.from_messages(row), source))
                if not found:
                    raise ValueError("no question with an answer among its messages")
            else:
                found = [_pair(row, source)]
        except UnicodeEncodeError:
            bad.add(number, "half a surrogate pair, which is no character")
        except ValueError as error:
            bad.add(number, str(error))
        else:
            yield from found
    yield from _exchanges(formats.from_transcript(events), source)


def _rows(path: Path, bad: BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                bad.add(number, f"longer than {LONGEST_LINE >> 20} MB")
                while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                bad.add(number, f"not JSON ({error})")
            except RecursionError:
                bad.add(number, "nested too deeply")
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    bad.add(number, "not an object")


def _pair(row: dict[str, Any], source: str) -> Exchange:
    query, answer = row.get("query"), row.get("response")
    if not isinstance(query, str) or not isinstance(answer, str) or not query.strip() or not answer.strip():
        raise ValueError('needs non-empty strings "query" and "response"')
    context = tuple(
        Message(turn["role"], turn["content"])
        for turn in row.get("context") or ()
        if isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and isinstance(turn.get("content"), str)
    )
    said = (
        formats.Said(Message("user", query)),
        formats.Said(Message("assistant", answer), formats.moment(row.get("created_at"))),
    )
    return _as_exported(_exchange(*said, context, source, "", 0), row)


def _as_exported(exchange: Exchange, row: dict[str, Any]) -> Exchange:
    """The exchange with what a line of `shammah-log export` says of it, so that a local answer stays one."""
    told: dict[str, Any] = {
        name: row[name]
        for name, kind in (("session", str), ("source", str), ("teacher_model", str), ("model_version", str), ("turn", int))
        if type(row.get(name)) is kind
    }
    told |= {name: row[name] for name in ("complete", "trainable") if isinstance(row.get(name), bool)}
    if row.get("tier") in TIERS:
        told["tier"] = row["tier"]
    try:
        told["id"] = str(uuid.UUID(row.get("id")))
    except (TypeError, ValueError, AttributeError):
        pass  # a line of somebody else's, whose id means nothing here
    return replace(exchange, **told)


def _exchanges(conversation: formats.Conversation, source: str) -> Iterator[Exchange]:
    """One exchange per answer, with what was said before it as its context."""
    earlier: list[Message] = []
    turn = 0
    said = [each for each in conversation.said if each.message.content.strip()]
    for question, answer in itertools.pairwise(said):
        if question.message.role == "user" and answer.message.role == "assistant":
            context = tuple(earlier[-CONTEXT_MESSAGES:])
            yield _exchange(question, answer, context, source, conversation.session, turn)
            earlier += [question.message, answer.message]
            turn += 1


def _exchange(
    question: formats.Said, answer: formats.Said, context: Sequence[Message], source: str, session: str, turn: int
) -> Exchange:
    query, text = question.message.content, answer.message.content
    told: list[Any] = [query, text]
    if context:
        told.append([[message.role, message.content] for message in context])
    return Exchange(
        id=str(uuid.uuid5(_NAMESPACE, json.dumps(told, ensure_ascii=False))),
        created_at=answer.at or question.at or datetime.now(UTC),
        query=query,
        answer=text,
        tier="import",
        session=session,
        turn=turn,
        context=tuple(context),
        source=source,
        teacher_model=answer.model,
        # What was found out with tools cannot be known from the question.
        trainable=not (question.with_tools or answer.with_tools),
        teacher_probability=1.0,
    )
