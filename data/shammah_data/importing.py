"""Past exchanges from files. Knows which format a file is in and what makes an exchange, not the log."""

import json
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from shammah_data import documents, formats, llm_log, transcripts
from shammah_data.errors import InputError
from shammah_data.exchange import IMPORTED, TIERS, TRUSTED_TIERS, Exchange, Message
from shammah_data.text import printable
from shammah_data.threads import Told, Turn, turns

# A fixed namespace makes the same line the same exchange, so that importing a file twice adds nothing.
_NAMESPACE = uuid.UUID("6f0c3a52-2b53-4f6e-9d2e-8f2f4d1c7a10")
_SQLITE = b"SQLite format 3\0"
LONGEST_LINE = documents.LONGEST
# A session is held whole, to follow its branches; a year of typing and answers is a few MB.
LARGEST_SESSION = 256 << 20
_EVENT = 300  # bytes that an event without a text takes
# The file of an account export, or its parts where it is split.
_CONVERSATIONS = re.compile(r"conversations(-\d+)?\.json")
_LARGEST_TURN = 2**31 - 1


@dataclass
class BadLines:
    """Lines that could not be used: how many, and the first few by file (where there are several), number and reason.

    `unanswered`: lines of an export whose question nobody answered; nothing is wrong with them.
    """

    count: int = 0
    unanswered: int = 0
    named: list[str] = field(default_factory=list)
    file: str = ""

    def add(self, number: int, reason: str, unit: str = "line") -> None:
        """Count one bad line."""
        self._name(f"{unit} {number}: {reason}")

    def add_file(self, reason: str) -> None:
        """Count the rest of a file that cannot be read."""
        self._name(reason)

    def _name(self, bad: str) -> None:
        self.count += 1
        if len(self.named) < 5:
            self.named.append(f"{self.file} {bad}".lstrip())


def read_past(path: Path, bad: BadLines) -> Iterator[Exchange]:
    """Exchanges of a file in any known format, or of the transcripts in a folder; unusable lines are counted in `bad`.

    Raises InputError when the file cannot be read at all or is in no known format.
    """
    if stat.S_ISDIR(_mode(path)):
        yield from _folder(path, bad)
    else:
        yield from _file(path, bad)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _file(path: Path, bad: BadLines) -> Iterator[Exchange]:
    start = _start(path)
    source = f"{IMPORTED}{path.name}"
    if start.startswith(_SQLITE):
        for session, said in llm_log.conversations(path):
            yield from _exchanges(said, source, session)
    elif start.startswith(b"PK"):
        with documents.reading_zip(path):
            for name, file in documents.packed(path, _CONVERSATIONS):
                yield from _export(file, f"{path}: {name}", source, bad)
    elif start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: is UTF-16: save it as UTF-8")
    elif b"\0" in start:
        raise InputError(f"{path}: is binary, and in no format that can be imported")
    elif start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        with _opened(path) as file:
            yield from _export(file, str(path), source, bad)
    else:
        yield from read_jsonl(path, bad)


def _start(path: Path) -> bytes:
    # Opening a pipe would wait for whoever writes into it, and a device may never end.
    if not stat.S_ISREG(_mode(path)):
        raise InputError(f"{path}: is neither a file nor a folder")
    with _opened(path) as file:
        return file.read(4096)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _folder(folder: Path, bad: BadLines) -> Iterator[Exchange]:
    # Claude Code keeps a folder per project. No deeper: a folder given by mistake must not be searched to its leaves; and no
    # links, which may lead anywhere. What lies deeper are its sub-agents' side chains.
    found = [path for pattern in ("*.jsonl", "*/*.jsonl") for path in folder.glob(pattern)]
    # An account export that was unpacked.
    found += [path for path in folder.glob("*.json") if _CONVERSATIONS.fullmatch(path.name)]
    paths = sorted(path for path in found if path.is_file() and not path.is_symlink() and not path.parent.is_symlink())
    if not paths:
        raise InputError(f"{folder}: holds no .jsonl file, nor does a folder in it, and no conversations.json")
    for path in paths:
        bad.file = printable(str(path.relative_to(folder)))
        try:
            yield from _file(path, bad)
        except InputError as error:
            # One file that cannot be read is no reason to leave the others.
            bad.add_file(str(error).removeprefix(f"{path}: "))
    bad.file = ""


def _export(file: IO[bytes], name: str, source: str, bad: BadLines) -> Iterator[Exchange]:
    """The exchanges of a conversations.json. Raises InputError when it is none."""
    number = 0
    try:
        for number, conversation in enumerate(documents.objects(file), start=1):
            try:
                said = formats.from_claude(conversation)
            except ValueError as error:
                if number == 1:
                    raise
                bad.add(number, str(error), "conversation")
            else:
                yield from _exchanges(said, source, formats.text_or_none(conversation.get("uuid")) or "")
    except ValueError as error:
        if number <= 1:
            raise InputError(f"{name}: not a conversations.json of a claude.ai export: {error}") from error
        bad.add(number + 1, f"{error}; what follows was not read", "conversation")


def read_jsonl(path: Path, bad: BadLines) -> Iterator[Exchange]:
    """Exchanges of a JSON-lines file, in its order; unusable lines are counted in `bad`.

    A line is {"query", "response"}, {"messages": [...]}, a conversation of a claude.ai export, or an event of a Claude Code
    transcript. Raises InputError when the file cannot be read at all.
    """
    source = f"{IMPORTED}{path.name}"
    events: list[Told] = []
    session = ""
    held = 0
    for number, row in _rows(path, bad):
        if transcripts.is_event(row):
            event = transcripts.told(row)
            session = transcripts.session_of(row) or session
            held += _EVENT + sum(map(len, event.texts))
            if held > LARGEST_SESSION:
                bad.add(number, f"the session is longer than {LARGEST_SESSION >> 20} MB; what follows was not read")
                break
            events.append(event)
            continue
        if row.get("tier") in TIERS and row.get("response") == row.get("answer") == "":
            bad.unanswered += 1
            continue
        try:
            found = list(_of_row(row, source))
        except UnicodeEncodeError:
            bad.add(number, "half a surrogate pair, which is no character")
        except ValueError as error:
            bad.add(number, str(error))
        else:
            yield from found
    yield from _exchanges(transcripts.linked(events), source, session)


def _of_row(row: dict[str, Any], source: str) -> Iterator[Exchange]:
    if formats.holds_messages(row):
        found = list(_exchanges(formats.from_messages(row), source, ""))
        if not found:
            raise ValueError("no question with an answer among its messages")
        yield from found
    elif "chat_messages" in row:
        yield from _exchanges(formats.from_claude(row), source, formats.text_or_none(row.get("uuid")) or "")
    else:
        yield _pair(row, source)


def _rows(path: Path, bad: BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
    with _opened(path) as file:
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
    before = row.get("context")
    context = tuple(
        Message(turn["role"], turn["content"])
        for turn in (before if isinstance(before, list) else ())
        if isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and isinstance(turn.get("content"), str)
    )
    turn = Turn(query, answer, context, 0, formats.moment(row.get("created_at")), None, trainable=True, complete=True)
    return _as_exported(_exchange(turn, source, ""), row)


def _as_exported(exchange: Exchange, row: dict[str, Any]) -> Exchange:
    """The exchange with what a line of `shammah-log export` says of it, so that a local answer stays one.

    But for its source: what a file says of itself must not hide that it came from a file.
    """
    told: dict[str, Any] = {
        name: row[name]
        for name, kind in (("session", str), ("teacher_model", str), ("model_version", str), ("turn", int))
        if type(row.get(name)) is kind
    }
    if not 0 <= told.get("turn", 0) <= _LARGEST_TURN:
        del told["turn"]
    told |= {name: row[name] for name in ("complete", "trainable") if isinstance(row.get(name), bool)}
    # A local answer that the user called right, or corrected, may be learned from like what was imported.
    approved = row.get("rating") == "good" or row.get("correction")
    if row.get("tier") in (TRUSTED_TIERS if approved else TIERS):
        told["tier"] = row["tier"]
    try:
        told["id"] = str(uuid.UUID(row.get("id")))
    except (TypeError, ValueError, AttributeError):
        pass  # a line of somebody else's, whose id means nothing here
    return replace(exchange, **told)


def _exchanges(said: Sequence[Told], source: str, session: str) -> Iterator[Exchange]:
    """One exchange per answered question, with what was said before it as its context."""
    return (_exchange(turn, source, session) for turn in turns(said))


def _exchange(turn: Turn, source: str, session: str) -> Exchange:
    told: list[Any] = [turn.question, turn.answer]
    if turn.context:
        told.append([[message.role, message.content] for message in turn.context])
    return Exchange(
        id=str(uuid.uuid5(_NAMESPACE, json.dumps(told, ensure_ascii=False))),
        created_at=turn.at or datetime.now(UTC),
        query=turn.question,
        answer=turn.answer,
        tier="import",
        session=session,
        turn=turn.number,
        context=turn.context,
        source=source,
        teacher_model=turn.model,
        complete=turn.complete,
        trainable=turn.trainable,
        teacher_probability=1.0,
    )
