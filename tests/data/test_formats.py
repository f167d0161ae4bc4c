"""Past conversations of other programs; the fixtures are written here, in the shapes those programs write."""

import contextlib
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from shammah_data import formats, importing
from shammah_data.cli import app
from shammah_data.errors import InputError
from shammah_data.exchange import Exchange, Message
from shammah_data.importing import BadLines, read_past

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "Where is the key?"},
    {"role": "assistant", "content": "Under the mat."},
    {"role": "user", "content": [{"type": "text", "text": "And the lamp?"}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "In the hall."}]},
]
EXPORT = [
    {
        "uuid": "c1",
        "name": "House",
        "created_at": "2026-01-02T03:04:05.000000Z",
        "chat_messages": [
            {
                "uuid": "m1",
                "text": "Where is the key?",
                "content": [{"type": "text", "text": "Where is the key?"}],
                "sender": "human",
                "created_at": "2026-01-02T03:04:05.000000Z",
                "attachments": [],
            },
            {"uuid": "m2", "text": "Under the mat.", "sender": "assistant", "created_at": "2026-01-02T03:04:09.000000Z"},
        ],
    },
    {"uuid": "c2", "name": "", "chat_messages": []},
]


def events() -> list[dict[str, Any]]:
    """A session of Claude Code: a question, an answer after a tool was used, a question, an answer in two events."""

    def event(kind: str, content: Any, **more: Any) -> dict[str, Any]:
        message = {"role": kind, "content": content} | ({"model": "claude-x"} if kind == "assistant" else {})
        return {"type": kind, "sessionId": "s1", "timestamp": "2026-01-02T03:04:05Z", "message": message, **more}

    return [
        {"type": "summary", "summary": "House", "leafUuid": "u"},
        event("user", "<command-name>/clear</command-name>", isMeta=True),
        event("user", "How many files are here?"),
        event("assistant", [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}]),
        event("user", [{"type": "tool_result", "tool_use_id": "t", "content": "a b c"}]),
        event("assistant", [{"type": "text", "text": "Three."}]),
        event("user", "side", isSidechain=True),
        event("user", "Where is the key?"),
        event("assistant", [{"type": "text", "text": "Under"}]),
        event("assistant", [{"type": "text", "text": "the mat."}]),
    ]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path: Path) -> list[Exchange]:
    bad = BadLines()
    found = list(read_past(path, bad))
    assert bad.count == 0, bad.named
    return found


def test_messages_become_exchanges_with_their_context(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(lines([{"model": "m-1", "messages": MESSAGES}]))
    first, second = read(path)
    assert (first.query, first.answer, first.context) == ("Where is the key?", "Under the mat.", ())
    assert (second.query, second.answer, second.turn) == ("And the lamp?", "In the hall.", 1)
    assert second.context == (Message("user", "Where is the key?"), Message("assistant", "Under the mat."))
    assert {first.teacher_model, second.teacher_model} == {"m-1"}
    assert {first.source} == {"import:m.jsonl"}


def test_a_long_conversation_is_not_stored_as_its_square(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    said = [{"role": role, "content": f"{role} {n}"} for n in range(200) for role in ("user", "assistant")]
    path.write_text(lines([{"messages": said}]))
    found = read(path)
    assert len(found) == 200
    assert [len(exchange.context) for exchange in found[:6]] == [0, 2, 4, 6, 8, 8]


def test_the_export_of_an_account_and_its_zip(tmp_path: Path) -> None:
    plain, packed = tmp_path / "conversations.json", tmp_path / "data.zip"
    plain.write_text(json.dumps(EXPORT))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("users.json", "[]")
        archive.writestr("../../conversations.json", json.dumps(EXPORT))
    [one], [same] = read(plain), read(packed)
    assert (one.query, one.answer, one.session) == ("Where is the key?", "Under the mat.", "c1")
    assert one.created_at.isoformat() == "2026-01-02T03:04:09+00:00"
    assert same.id == one.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conversations.json", "data.zip"]


def test_transcripts_of_a_folder(tmp_path: Path) -> None:
    project = tmp_path / "projects" / "-home-ann"
    (project / "deep" / "deeper").mkdir(parents=True)
    (project / "deep" / "deeper" / "far.jsonl").write_text(lines([{"query": "far", "response": "away"}]))
    (tmp_path / "projects" / "linked").symlink_to(project, target_is_directory=True)
    (project / "s1.jsonl").write_text(lines(events()))
    (project / "loop").symlink_to(tmp_path / "projects", target_is_directory=True)
    (project / "linked.jsonl").symlink_to(project / "s1.jsonl")
    tool, plain = read(tmp_path / "projects")
    assert (tool.query, tool.answer, tool.trainable) == ("How many files are here?", "Three.", False)
    assert (plain.query, plain.answer, plain.trainable) == ("Where is the key?", "Under\n\nthe mat.", True)
    assert (plain.session, plain.teacher_model, plain.turn) == ("s1", "claude-x", 1)


def test_the_log_of_llm(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT)")
        connection.execute(
            "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, "
            "options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER, "
            "datetime_utc TEXT)"
        )
        connection.executemany(
            "INSERT INTO responses (id, model, prompt, response, conversation_id, datetime_utc) VALUES (?, 'm', ?, ?, ?, ?)",
            [
                ("2", "And the lamp?", "In the hall.", "c", "2026-01-02T03:05:00.000000+00:00"),
                ("1", "Where is the key?", "Under the mat.", "c", "2026-01-02T03:04:00.000000+00:00"),
                ("3", "Who?", None, "d", "2026-01-02T03:06:00.000000+00:00"),
            ],
        )
    connection.close()
    first, second = read(path)
    assert (first.query, second.query, len(second.context)) == ("Where is the key?", "And the lamp?", 2)
    assert first.created_at.isoformat() == "2026-01-02T03:04:00+00:00"


def test_one_exchange_in_three_formats_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines([{"query": "Where is the key?", "response": "Under the mat."}]))
    (tmp_path / "b.jsonl").write_text(lines([{"messages": MESSAGES}]))
    (tmp_path / "c.json").write_text(json.dumps(EXPORT))
    assert len({read(tmp_path / name)[0].id for name in ("a.jsonl", "b.jsonl", "c.json")}) == 1


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", b"[" + b" " * 20_000_000 + b"]")


def two(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/conversations.json", "[]")
        archive.writestr("b/conversations.json", "[]")


def lies(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps(EXPORT))
    content = path.read_bytes()
    size = len(json.dumps(EXPORT)).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bomb, "unpacks to"),
        (two, "holds 2 files"),
        (lies, "not a conversations.json|larger than it claims"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "not a conversations.json"),
        (lambda path: path.write_bytes(b"[{]"), "not a conversations.json"),
        (lambda path: path.write_bytes(b"[" * 200_000), "not a conversations.json"),
        (lambda path: path.write_bytes(b"[1]"), "chat_messages"),
        (lambda path: path.write_bytes(b"SQLite format 3\0 and no more"), "not a logs.db"),
        (lambda path: path.mkdir(), "holds no .jsonl"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "past"
    make(path)
    with pytest.raises(InputError, match=reason) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_line_without_end_is_counted_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "LONGEST_LINE", 1000)
    path = tmp_path / "long.jsonl"
    good = json.dumps({"query": "a", "response": "b"})
    path.write_text(f"{good}\n{'x' * 5000}\n{good}\n{'y' * 1500}")
    bad = BadLines()
    assert len(list(read_past(path, bad))) == 2
    assert bad.count == 2
    assert bad.named[0].startswith("line 2: longer than")


texts = st.text(min_size=1).filter(lambda text: bool(text.strip()))
contents = texts | st.lists(texts.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)


@given(st.lists(st.tuples(contents, contents), min_size=1, max_size=5))
def test_any_conversation_keeps_every_word(turns: list[tuple[Any, Any]]) -> None:
    messages = [
        {"role": role, "content": content} for turn in turns for role, content in zip(("user", "assistant"), turn, strict=True)
    ]
    said = formats.from_messages(json.loads(json.dumps({"messages": messages}))).said
    assert len(said) == 2 * len(turns)
    for each, message in zip(said, messages, strict=True):
        content = message["content"]
        expected = content if isinstance(content, str) else "\n\n".join(block["text"] for block in content)
        assert each.message.content == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["role", "content"]), inner)
    ),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {"messages": json_values | st.lists(st.fixed_dictionaries({"role": json_values, "content": json_values}))}
    )
)
def test_odd_messages_are_a_clear_error_or_nothing(row: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        assert all(each.message.role in ("user", "assistant") for each in formats.from_messages(row).said)


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "home"))
    path = tmp_path / "m.jsonl"
    path.write_text(lines([{"messages": MESSAGES}, {"query": "Where is the key?", "response": "Under the mat."}]))
    runner = CliRunner()
    told = runner.invoke(app, ["import", "--dry-run", str(path)])
    assert told.stdout == "m.jsonl: 2 new, 1 already there, 0 unusable (nothing was written)\n"
    assert runner.invoke(app, ["import", str(path)]).stdout == "m.jsonl: 2 new, 1 already there, 0 unusable\n"
    again = runner.invoke(app, ["import", "--dry-run", str(path)])
    assert again.stdout == "m.jsonl: 0 new, 3 already there, 0 unusable (nothing was written)\n"
