"""Past conversations of other programs; the fixtures are written here, in the shapes those programs write."""

import json
import sqlite3
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

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
EXPORT: list[dict[str, Any]] = [
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


def lines(rows: Sequence[dict[str, Any]]) -> str:
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


def of_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Exchange]:
    path = folder / "rows.jsonl"
    path.write_text(lines(rows))
    return read(path)


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"id": "t", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TEXT = [{"type": "text", "text": "Dry."}]


@pytest.mark.parametrize(
    ("messages", "learned"),
    [
        ([said("developer", "be brief"), said("user", "Rain?"), said("assistant", "Dry.")], True),
        ([said("user", "Rain?"), said("assistant", "Dry.", weight=1)], True),
        ([said("user", "Rain?"), said("assistant", "Dry.", weight=0)], False),
        (
            [
                said("user", "Rain?"),
                said("assistant", None, tool_calls=[CALL]),
                said("tool", "0 mm"),
                said("assistant", "Dry."),
            ],
            False,
        ),
        (
            [
                said("user", "Rain?"),
                said("assistant", None, function_call={"name": "weather"}),
                said("function", "0 mm", name="weather"),
                said("assistant", "Dry."),
            ],
            False,
        ),
        ([said("user", "Rain?"), said("assistant", [{"type": "thinking", "thinking": "hm", "signature": "s"}, *TEXT])], True),
        ([said("user", "Rain?"), said("system", [{"type": "image"}]), said("assistant", "Dry.")], True),
        ([said("user", "Rain?"), said("tool", "0 mm"), said("assistant", "Dry.")], False),
        ([said("user", "Rain?"), said("assistant", [{"type": "redacted_thinking", "data": "x"}, *TEXT])], True),
        (
            [said("user", "Rain?"), said("assistant", [{"type": "server_tool_use", "id": "t", "name": "web_search"}, *TEXT])],
            False,
        ),
        (
            [said("user", [{"type": "image", "source": {}}, {"type": "text", "text": "Rain?"}]), said("assistant", "Dry.")],
            False,
        ),
        (
            [said("user", [{"type": "document", "source": {}}, {"type": "text", "text": "Rain?"}]), said("assistant", "Dry.")],
            False,
        ),
        (
            [
                said("user", [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Rain?"}]),
                said("assistant", "Dry."),
            ],
            False,
        ),
        (
            [
                said("user", [{"type": "input_text", "text": "Rain?"}]),
                said("assistant", [{"type": "output_text", "text": "Dry."}]),
            ],
            True,
        ),
    ],
)
def test_only_what_can_be_known_from_the_question_is_learned(
    tmp_path: Path, messages: list[dict[str, Any]], learned: bool
) -> None:
    [exchange] = of_rows(tmp_path, [{"messages": messages}])
    assert (exchange.query, exchange.answer, exchange.trainable) == ("Rain?", "Dry.", learned)


ASKED = [said("user", "Rain?")]


@pytest.mark.parametrize(
    ("row", "model", "complete"),
    [
        ({"model": "a", "messages": ASKED, "response": {"model": "b", "role": "assistant", "content": TEXT}}, "b", True),
        ({"model": "a", "messages": ASKED, "response": "Dry."}, "a", True),
        (
            {"request": {"model": "a", "messages": ASKED}, "response": {"choices": [{"message": said("assistant", "Dry.")}]}},
            "a",
            True,
        ),
        ({"messages": ASKED, "choices": [{"finish_reason": "length", "message": said("assistant", "Dry.")}]}, None, False),
        ({"messages": [*ASKED, said("assistant", "Dry.", stop_reason="max_tokens")]}, None, False),
        ({"messages": [*ASKED, said("assistant", TEXT, stop_reason="end_turn")]}, None, True),
    ],
)
def test_a_request_with_what_an_api_returned(tmp_path: Path, row: dict[str, Any], model: str | None, complete: bool) -> None:
    [exchange] = of_rows(tmp_path, [row])
    assert (exchange.query, exchange.answer, exchange.teacher_model, exchange.complete) == ("Rain?", "Dry.", model, complete)


def test_a_refusal_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines([{"messages": [*ASKED, said("assistant", None, refusal="I cannot.")]}]))
    bad = BadLines()
    assert list(read_past(path, bad)) == []
    assert bad.named == ["line 1: no question with an answer among its messages"]


ROOT = "00000000-0000-4000-8000-000000000000"


def claude(key: str, sender: str, text: str, parent: str = ROOT, **more: Any) -> dict[str, Any]:
    block = {"type": "text", "text": text, "citations": []}
    at = "2026-01-02T03:04:05.000000Z"
    message = {"uuid": key, "text": text, "content": [block], "sender": sender, "created_at": at, "updated_at": at}
    return message | {"attachments": [], "files": [], "parent_message_uuid": parent} | more


def exported(folder: Path, *messages: dict[str, Any]) -> list[Exchange]:
    path = folder / "conversations.json"
    path.write_text(json.dumps([{"uuid": "c", "name": "", "summary": "", "chat_messages": list(messages)}]))
    return read(path)


def test_every_branch_is_followed_and_the_last_answer_to_a_question_taken(tmp_path: Path) -> None:
    found = exported(
        tmp_path,
        claude("q1", "human", "Where is the key?"),
        claude("a1", "assistant", "No idea.", "q1"),
        claude("a2", "assistant", "Under the mat.", "q1"),
        claude("q2", "human", "Which mat?", "a2"),
        claude("a3", "assistant", "The red one.", "q2"),
        claude("q3", "human", "Whose mat?", "a2"),
        claude("a4", "assistant", "Ann's.", "q3"),
        claude("q4", "human", "And without one?", "a1"),
        claude("a5", "assistant", "Ask Ann.", "q4"),
    )
    assert [(each.query, each.answer, each.turn) for each in found] == [
        ("Where is the key?", "Under the mat.", 0),
        ("Which mat?", "The red one.", 1),
        ("Whose mat?", "Ann's.", 1),
        ("And without one?", "Ask Ann.", 1),
    ]
    assert [each.context[-1].content for each in found[1:]] == ["Under the mat.", "Under the mat.", "No idea."]


def test_a_regenerated_answer_that_was_cut_off_does_not_replace_a_whole_one(tmp_path: Path) -> None:
    whole, cut = claude("a1", "assistant", "Dry.", "q1"), claude("a2", "assistant", "D", "q1", stop_reason="user_canceled")
    [one] = exported(tmp_path, claude("q1", "human", "Rain?"), whole, cut)
    assert (one.answer, one.complete) == ("Dry.", True)
    [other] = exported(tmp_path, claude("q1", "human", "Rain?"), cut)
    assert (other.answer, other.complete) == ("D", False)


def test_a_message_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    question, answer = claude("q", "human", "Rain?"), claude("a", "assistant", "Dry.", "q")
    assert [(each.query, each.answer) for each in exported(tmp_path, question, question, answer, answer)] == [("Rain?", "Dry.")]


PLACEHOLDER = "```\nThis block is not supported on your current device yet.\n```"


@pytest.mark.parametrize(
    ("message", "query", "learned"),
    [
        ({"content": [], "text": "Rain?"}, "Rain?", True),
        ({"content": [{"type": "text", "text": "Rain?"}], "text": "else"}, "Rain?", True),
        (
            {"text": "else", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Rain?"}]},
            "Rain?",
            True,
        ),
        ({"content": [], "text": f"{PLACEHOLDER}Rain?"}, "Rain?", False),
        # A long paste is an attachment without a name, and the message has no text of its own.
        (
            {"content": [], "text": "", "attachments": [{"file_name": "", "extracted_content": "Rain?"}]},
            "Rain?",
            True,
        ),
        (
            {"attachments": [{"file_name": "a.txt", "extracted_content": "wet"}], "files": [{"file_name": "a.txt"}]},
            "Rain?\n\nwet",
            True,
        ),
        ({"files": [{"file_uuid": "f", "file_name": "sky.png"}]}, "Rain?", False),
        ({"attachments": [{"file_name": "a.bin"}]}, "Rain?", False),
    ],
)
def test_text_attachments_and_files_of_a_message(tmp_path: Path, message: dict[str, Any], query: str, learned: bool) -> None:
    [one] = exported(tmp_path, claude("q", "human", "Rain?") | message, claude("a", "assistant", "Dry.", "q"))
    assert (one.query, one.answer, one.trainable) == (query, "Dry.", learned)


def test_what_claude_ai_found_with_tools_is_kept_and_not_learned(tmp_path: Path) -> None:
    blocks = [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "name": "web_search", "input": {}},
        {"type": "tool_result", "name": "web_search", "content": [{"type": "text", "text": "page"}]},
        {"type": "token_budget"},
        {"type": "text", "text": "Dry."},
    ]
    [one] = exported(tmp_path, claude("q", "human", "Rain?"), claude("a", "assistant", "all of it", "q", content=blocks))
    assert (one.answer, one.trainable) == ("Let me look.\n\nDry.", False)


def test_the_parts_of_a_split_export(tmp_path: Path) -> None:
    packed, folder = tmp_path / "data.zip", tmp_path / "unpacked"
    folder.mkdir()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, question in enumerate(["Rain?", "Snow?"]):
            conversation = [{"chat_messages": [claude("q", "human", question), claude("a", "assistant", "No.", "q")]}]
            archive.writestr(f"export/conversations-00{number}.json", json.dumps(conversation))
            (folder / f"conversations-00{number}.json").write_text(json.dumps(conversation))
        archive.writestr("export/projects.json", "[]")
        archive.writestr("__MACOSX/export/._conversations-000.json", "junk")
    assert [each.query for each in read(packed)] == [each.query for each in read(folder)] == ["Rain?", "Snow?"]


def test_an_export_as_json_lines(tmp_path: Path) -> None:
    assert [each.query for each in of_rows(tmp_path, EXPORT)] == ["Where is the key?"]


texts = st.text(min_size=1).filter(lambda text: bool(text.strip()))
contents = texts | st.lists(texts.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
# Every test of a property writes its file anew.
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain(content: Any) -> str:
    return content if isinstance(content, str) else "\n\n".join(block["text"] for block in content)


@many
@given(turns=st.lists(st.tuples(contents, contents), min_size=1, max_size=7), huge=st.integers(1, 40_000))
def test_any_conversation_keeps_every_word(tmp_path: Path, turns: list[tuple[Any, Any]], huge: int) -> None:
    turns = [*turns, ("q" * huge, "a" * huge)]
    messages = [said(role, content) for turn in turns for role, content in zip(("user", "assistant"), turn, strict=True)]
    found = of_rows(tmp_path, [{"messages": messages}])
    words = [(plain(question), plain(answer)) for question, answer in turns]
    assert [(each.query, each.answer, each.turn) for each in found] == [(*pair, n) for n, pair in enumerate(words)]
    for number, each in enumerate(found):
        before = [text for pair in words[:number] for text in pair][-8:]
        assert [message.content for message in each.context] == before


trees = st.lists(st.tuples(st.integers(0, 30), texts), min_size=1, max_size=15)


@many
@given(tree=trees)
def test_any_tree_of_messages_gives_each_question_its_last_answer_and_its_own_past(
    tmp_path: Path, tree: list[tuple[int, str]]
) -> None:
    # Node 0 is a question; each other one answers or follows up on an earlier one.
    parents = [-1, *(number % (place + 1) for place, (number, _) in enumerate(tree[1:]))]
    depth = [0]
    for parent in parents[1:]:
        depth.append(depth[parent] + 1)
    words = [text for _, text in tree]
    found = exported(
        tmp_path,
        *(
            claude(f"m{n}", "human" if depth[n] % 2 == 0 else "assistant", words[n], f"m{parents[n]}" if n else ROOT)
            for n in range(len(tree))
        ),
    )
    expected = []
    for n in range(len(tree)):
        answers = [child for child in range(len(tree)) if parents[child] == n and depth[n] % 2 == 0]
        if answers:
            past, at = [], parents[n]
            while at >= 0:
                past.append(words[at])
                at = parents[at]
            expected.append((words[n], words[answers[-1]], past[::-1][-8:], depth[n] // 2))
    told = [(each.query, each.answer, [message.content for message in each.context], each.turn) for each in found]
    assert sorted(told) == sorted(expected)


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


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.txt"], "holds no conversations.json: give an export of claude.ai, or unpack it and import its files"),
        (["a/conversations.json", "b/conversations.json"], "holds several files conversations.json: unpack it and import each"),
    ],
)
def test_a_zip_that_is_no_export_says_what_it_lacks(tmp_path: Path, names: list[str], said: str) -> None:
    packed = tmp_path / "other.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, "[]")
    with pytest.raises(InputError) as caught:
        read(packed)
    assert str(caught.value) == f"{packed}: {said}"
