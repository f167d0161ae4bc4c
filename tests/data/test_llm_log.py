"""The logs.db of llm; the tables are made here as its migrations make them (the columns that are read, and a few more)."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shammah_data.errors import InputError
from shammah_data.exchange import Exchange
from shammah_data.importing import BadLines, read_past

UNTIL_0_31 = """
    CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
    CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, response TEXT, response_json TEXT,
        conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT, schema_id TEXT, resolved_model TEXT);
    CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
    CREATE TABLE fragments (id INTEGER PRIMARY KEY, hash TEXT, content TEXT);
    CREATE TABLE prompt_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
    CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT);
    CREATE TABLE tool_results (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, output TEXT);
"""
SINCE_0_32 = """
    CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT, provider_metadata TEXT);
    CREATE TABLE parts (id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, tool_name TEXT, text TEXT,
        payload TEXT);
    CREATE TABLE turns (id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT, model TEXT,
        resolved_model TEXT, schema_id TEXT, datetime_utc TEXT);
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "logs.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    yield connection
    connection.close()


def read(folder: Path) -> list[Exchange]:
    bad = BadLines()
    found = list(read_past(folder / "logs.db", bad))
    assert bad.count == 0
    return found


def respond(database: sqlite3.Connection, key: str, prompt: str | None, response: str, thread: str = "c", **more: str) -> None:
    row = {"id": key, "model": "m", "prompt": prompt, "response": response, "conversation_id": thread, **more}
    row.setdefault("datetime_utc", f"2026-01-02T03:04:0{key}.000000+00:00")
    database.execute(f"INSERT INTO responses ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def message(
    database: sqlite3.Connection, key: str, parent: str | None, role: str, *parts: tuple[str, str | None, object]
) -> None:
    database.execute("INSERT INTO messages (hash, parent_hash, role) VALUES (?, ?, ?)", [key, parent, role])
    for position, (kind, text, payload) in enumerate(parts):
        database.execute(
            "INSERT INTO parts (message_hash, position, type, text, payload) VALUES (?, ?, ?, ?, ?)",
            [key, position, kind, text, payload and json.dumps(payload)],
        )


def turn(database: sqlite3.Connection, key: str, tip: str, thread: str = "t", **more: str) -> None:
    row = {
        "id": key,
        "thread_id": thread,
        "tip_message_hash": tip,
        "model": "m",
        "datetime_utc": "2026-01-02T03:04:05Z",
        **more,
    }
    database.execute(f"INSERT INTO turns ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def text(content: str) -> tuple[str, str, None]:
    return ("text", content, None)


def test_fragments_belong_to_the_question(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(UNTIL_0_31)
    respond(database, "1", "Which is red?", "The second.", resolved_model="m-2026")
    database.executemany("INSERT INTO fragments VALUES (?, ?, ?)", [(1, "h", "a blue mat"), (2, "i", "a red mat")])
    database.executemany("INSERT INTO prompt_fragments VALUES ('1', ?, ?)", [(2, 1), (1, 0)])
    [one] = read(tmp_path)
    assert (one.query, one.teacher_model, one.trainable) == ("a blue mat\na red mat\nWhich is red?", "m-2026", True)


def test_what_was_found_with_tools_or_files_is_not_learned(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(UNTIL_0_31)
    respond(database, "1", "Rain?", "Let me look.")
    respond(database, "2", "", "Dry.")
    respond(database, "3", "Snow?", "No.")
    respond(database, "4", "What is this?", "A mat.")
    respond(database, "5", "As JSON", "{}", schema_id="s")
    database.execute("INSERT INTO tool_calls (response_id, name) VALUES ('1', 'weather')")
    database.execute("INSERT INTO tool_results (response_id, name, output) VALUES ('2', 'weather', '0 mm')")
    database.execute("INSERT INTO prompt_attachments VALUES ('4', 'a', 0)")
    assert [(each.query, each.answer, each.trainable) for each in read(tmp_path)] == [
        ("Rain?", "Let me look.\n\nDry.", False),
        ("Snow?", "No.", True),
        ("What is this?", "A mat.", False),
        ("As JSON", "{}", False),
    ]


def test_the_message_store_of_0_32(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(UNTIL_0_31 + SINCE_0_32)
    database.executemany("INSERT INTO fragments VALUES (?, ?, ?)", [(1, "h", "a blue mat"), (2, "i", "a red mat")])
    message(database, "s", None, "system", text("be brief"))
    reference = {"text_ref": [{"fragment": 1}, {"literal": "\n"}, {"fragment": 2}, {"literal": "\nWhich is red?"}]}
    message(database, "q1", "s", "user", ("text", None, reference))
    message(database, "a1", "q1", "assistant", ("reasoning", "hm", None), text("The second."))
    message(database, "q2", "a1", "user", text("Rain?"))
    message(database, "a2", "q2", "assistant", text("Let me look."), ("tool_call", None, {"name": "weather"}))
    message(database, "r2", "a2", "tool", ("tool_result", None, {"output": "0 mm"}))
    message(database, "a3", "r2", "assistant", text("Dry."))
    message(database, "q4", "a1", "user", text("What is this?"), ("attachment", None, {"attachment": {"id": "a"}}))
    message(database, "a4", "q4", "assistant", text("A mat."))
    message(database, "q5", "a1", "user", text("Whose?"))
    message(database, "a5", "q5", "assistant", text("Ann's."))
    for key, tip, thread in [("1", "a1", "t"), ("2", "a2", "t"), ("3", "a3", "t"), ("4", "a4", "t"), ("5", "a5", "fork")]:
        turn(database, key, tip, thread, resolved_model="m-2026")
    found = {each.query: each for each in read(tmp_path)}
    first = found["a blue mat\na red mat\nWhich is red?"]
    assert (first.answer, first.teacher_model, first.trainable) == ("The second.", "m-2026", True)
    assert (found["Rain?"].answer, found["Rain?"].trainable) == ("Let me look.\n\nDry.", False)
    assert (found["What is this?"].answer, found["What is this?"].trainable) == ("A mat.", False)
    assert (found["Whose?"].answer, found["Whose?"].trainable, found["Whose?"].session) == ("Ann's.", True, "fork")
    assert [each.content for each in found["Whose?"].context] == [first.query, "The second."]


def test_answers_that_were_only_told_to_the_model_are_not_learned(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(SINCE_0_32)
    message(database, "q1", None, "user", text("Two and two?"))
    message(database, "a1", "q1", "assistant", text("Five."))
    message(database, "q2", "a1", "user", text("Three and three?"))
    message(database, "a2", "q2", "assistant", text("Seven."))
    turn(database, "1", "a2")
    assert [(each.answer, each.trainable) for each in read(tmp_path)] == [("Five.", False), ("Seven.", True)]


def test_messages_that_follow_each_other_in_a_circle_end(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(SINCE_0_32)
    message(database, "q", "a", "user", text("Two and two?"))
    message(database, "a", "q", "assistant", text("Four."))
    message(database, "lost", "nowhere", "assistant", text("Four."))
    turn(database, "1", "a")
    turn(database, "2", "lost")
    turn(database, "3", "none")
    assert len(read(tmp_path)) <= 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("CREATE TABLE books (title TEXT)", "has no table `responses` or `turns`"),
        (
            "CREATE VIEW responses AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n",
            "has no table",
        ),
        ("CREATE TABLE responses (id TEXT, answer TEXT)", "no such column"),
    ],
)
def test_another_program_s_database_is_refused(database: sqlite3.Connection, tmp_path: Path, script: str, reason: str) -> None:
    database.executescript(script)
    with pytest.raises(InputError, match=reason) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_database_is_refused(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(UNTIL_0_31)
    for key in range(2000):
        respond(database, str(key), "Where is the key? " * 20, "Under the mat. " * 20)
    database.close()
    path = tmp_path / "logs.db"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path)


def test_a_text_that_is_no_utf_8_does_not_stop_the_others(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.executescript(UNTIL_0_31)
    respond(database, "1", "Rain?", "Dry.")
    database.execute("UPDATE responses SET prompt = CAST(x'ff52' AS TEXT)")
    respond(database, "2", "Snow?", "No.", "d")
    assert [each.query for each in read(tmp_path)] == ["\ufffdR", "Snow?"]


words = st.text(min_size=1).filter(lambda content: bool(content.strip()) and "\0" not in content)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(threads=st.lists(st.lists(st.tuples(words, words), min_size=1, max_size=4), min_size=1, max_size=3), new=st.booleans())
def test_any_log_keeps_every_word(tmp_path: Path, threads: list[list[tuple[str, str]]], new: bool) -> None:
    path = tmp_path / "logs.db"
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous = OFF")
    database.executescript(SINCE_0_32 if new else UNTIL_0_31)
    expected = []
    for number, thread in enumerate(threads):
        parent = None
        for place, (question, answer) in enumerate(thread):
            key = f"{number}{place}"
            if new:
                message(database, f"q{key}", parent, "user", text(question))
                message(database, f"a{key}", f"q{key}", "assistant", text(answer))
                turn(database, key, f"a{key}", f"t{number}")
                parent = f"a{key}"
            else:
                respond(database, key, question, answer, f"t{number}")
            expected.append((question, answer, place, f"t{number}"))
    database.commit()
    database.close()
    assert [(each.query, each.answer, each.turn, each.session) for each in read(tmp_path)] == expected
