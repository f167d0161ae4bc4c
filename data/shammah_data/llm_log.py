"""The logs.db of the llm command line tool. Knows its tables: `responses` until 0.31, `turns` and `messages` since 0.32."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from shammah_data.documents import LONGEST
from shammah_data.errors import InputError
from shammah_data.formats import encodable, moment, role_of, text_or_none
from shammah_data.threads import Told

# A part of a message that says nothing the other side gets to see.
_SILENT_PARTS = ("reasoning",)


def conversations(path: Path) -> Iterator[tuple[str, list[Told]]]:
    """The conversations with their ids, from a file opened read-only. Raises InputError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda content: content.decode("utf-8", "replace")
            # Tables of a stranger's file: nothing in them may run or be of any size.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            # A view could run for ever.
            tables = {
                name
                for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
                if not str(sql).upper().startswith("CREATE VIRTUAL")
            }
            if not tables & {"responses", "turns"}:
                raise InputError(f"{path}: not a logs.db of llm: it has no table `responses` or `turns`")
            if "responses" in tables:
                yield from _responses(connection, tables)
            if {"turns", "messages", "parts"} <= tables:
                yield from _turns(connection, tables)
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a logs.db of llm, or damaged: {error}") from error


def _responses(connection: sqlite3.Connection, tables: set[str]) -> Iterator[tuple[str, list[Told]]]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(responses)")}
    model = "coalesce(nullif(resolved_model, ''), model)" if "resolved_model" in columns else "model"
    schema = "schema_id IS NOT NULL" if "schema_id" in columns else "0"

    def has(table: str) -> str:
        return f"EXISTS (SELECT 1 FROM {table} x WHERE x.response_id = responses.id)" if table in tables else "0"

    rows = connection.execute(
        f"SELECT id, coalesce(conversation_id, id), prompt, response, datetime_utc, {model}, {schema}, "
        f"{has('prompt_attachments')}, {has('tool_calls')}, {has('tool_results')}, {has('prompt_fragments')} "
        "FROM responses ORDER BY coalesce(conversation_id, id), datetime_utc, id"
    )
    said: list[Told] = []
    current: str | None = None
    for key, session, prompt, response, at, who, schema, attached, calls, results, fragments in rows:
        if current is not None and str(session) != current:
            yield current, said
            said = []
        current = str(session)
        asked = [text for (text,) in _fragments(connection, key)] if fragments else []
        asked += [prompt] if isinstance(prompt, str) and prompt else []
        question = "\n".join(asked)
        when = moment(at)
        # What goes back to the model with results of tools is no question, unless something was asked with them.
        role = None if results and not question.strip() else role_of("user")
        said.append(Told(role, [question], at=when, with_tools=bool(attached or results or schema)))
        answer = [response] if isinstance(response, str) else []
        said.append(Told("assistant", answer, at=when, model=text_or_none(who), with_tools=bool(calls)))
    if current is not None:
        yield current, said


def _fragments(connection: sqlite3.Connection, response: Any) -> list[tuple[str]]:
    return connection.execute(
        "SELECT f.content FROM prompt_fragments p JOIN fragments f ON f.id = p.fragment_id WHERE p.response_id = ? "
        "AND typeof(f.content) = 'text' ORDER BY p.\"order\"",
        [response],
    ).fetchall()


def _turns(connection: sqlite3.Connection, tables: set[str]) -> Iterator[tuple[str, list[Told]]]:
    # What a model answered is the tip of a turn; other answers in a thread were only told to it.
    tips: dict[str, tuple[datetime | None, str | None, bool]] = {}
    for tip, at, model, schema in connection.execute(
        "SELECT tip_message_hash, datetime_utc, coalesce(nullif(resolved_model, ''), model), schema_id IS NOT NULL FROM turns "
        "ORDER BY datetime_utc, id"
    ):
        tips.setdefault(str(tip), (moment(at), text_or_none(model), bool(schema)))
    known: dict[str, Told] = {}
    current: str | None = None
    for thread, tip in connection.execute(
        "SELECT coalesce(thread_id, id), tip_message_hash FROM turns ORDER BY coalesce(thread_id, id), datetime_utc, id"
    ):
        if current is not None and str(thread) != current:
            yield current, list(known.values())
            known = {}
        current = str(thread)
        key = str(tip)
        while key and key not in known:
            message = _message(connection, key, "fragments" in tables)
            if message.role == "assistant":
                message.at, message.model, asked_for_json = tips.get(key, (None, None, True))
                message.with_tools |= asked_for_json
            known[key] = message
            key = message.parent or ""
    if current is not None:
        yield current, list(known.values())


def _message(connection: sqlite3.Connection, key: str, fragments: bool) -> Told:
    row = connection.execute("SELECT parent_hash, role FROM messages WHERE hash = ?", [key]).fetchone()
    if row is None:
        return Told(None, key=key, parent="")
    texts: list[str] = []
    more = row[1] == "tool"
    for kind, text, payload in connection.execute(
        "SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position", [key]
    ):
        if kind == "text":
            texts.append(text if isinstance(text, str) else _composed(connection, payload) if fragments else "")
        else:
            more |= kind not in _SILENT_PARTS
    said = "".join(texts)
    return Told(role_of(row[1]), [said] if said.strip() else [], key=key, parent=row[0] or "", with_tools=more)


def _composed(connection: sqlite3.Connection, payload: Any) -> str:
    """A text that is stored as {"text_ref": [{"fragment": id}, {"literal": text}, ...]}."""
    try:
        parts = json.loads(payload)["text_ref"]
        found = ""
        for part in parts:
            if "fragment" in part:
                row = connection.execute("SELECT content FROM fragments WHERE id = ?", [part["fragment"]]).fetchone()
                found += row[0]
            else:
                found += part["literal"]
    except (TypeError, ValueError, KeyError, RecursionError):
        return ""
    return encodable(found)
