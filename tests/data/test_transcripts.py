"""Transcripts of Claude Code; the events are written here, in the shapes that program writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shammah_data.exchange import Exchange
from shammah_data.importing import BadLines, read_past


class Session:
    """Writes a session as the program does: each event names the one before it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.last: str | None = None

    def event(self, kind: str, **more: Any) -> str:
        key = f"e{len(self.events)}"
        event = {
            "parentUuid": self.last,
            "isSidechain": False,
            "userType": "external",
            "cwd": "/home/ann/house",
            "sessionId": "s1",
            "version": "2.0.61",
            "gitBranch": "main",
            "type": kind,
            "uuid": key,
            "timestamp": f"2026-01-02T03:04:{len(self.events) % 60:02d}.000Z",
        }
        self.events.append(event | more)
        self.last = key
        return key

    def user(self, content: Any, **more: Any) -> str:
        return self.event("user", message={"role": "user", "content": content}, **more)

    def assistant(self, *blocks: Any, key: str | None = None, model: str = "claude-x", **more: Any) -> str:
        content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        message = {"id": key or f"msg_{len(self.events)}", "type": "message", "role": "assistant", "model": model}
        return self.event("assistant", message=message | {"content": content, "stop_reason": None}, requestId="r", **more)

    def tool(self, name: str = "Bash") -> str:
        self.assistant({"type": "tool_use", "id": "t", "name": name, "input": {}})
        return self.user([{"type": "tool_result", "tool_use_id": "t", "content": "a b c"}], toolUseResult={"stdout": "a b c"})

    def read(self, folder: Path, bad: int = 0) -> list[Exchange]:
        path = folder / "s1.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in self.events))
        counted = BadLines()
        found = list(read_past(path, counted))
        assert counted.count == bad, counted.named
        return found


def told(found: list[Exchange]) -> list[tuple[str, str, bool]]:
    return [(each.query, each.answer, each.trainable and each.complete) for each in found]


@pytest.fixture
def session() -> Session:
    return Session()


def test_bookkeeping_is_no_bad_line(session: Session, tmp_path: Path) -> None:
    session.events += [
        {"type": "summary", "summary": "House", "leafUuid": "x"},
        {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}, "isSnapshotUpdate": False},
        {"type": "permission-mode", "permissionMode": "default"},
        {"type": "queue-operation", "operation": "dequeue", "timestamp": "2026-01-02T03:04:05Z", "sessionId": "s1"},
        {"type": "ai-title", "aiTitle": "House", "sessionId": "s1"},
    ]
    session.user("Where is the key?")
    session.event("progress", data={"type": "hook_progress"})
    session.event("system", subtype="stop_hook_summary", content="ran")
    session.assistant("Under the mat.")
    [one] = session.read(tmp_path)
    assert (one.query, one.answer, one.session, one.teacher_model) == ("Where is the key?", "Under the mat.", "s1", "claude-x")
    assert one.created_at.isoformat() == "2026-01-02T03:04:08+00:00"


def test_an_answer_over_several_lines_is_one_and_nothing_in_it_is_doubled(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    session.assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, key="msg")
    session.assistant("Under", key="msg")
    session.events.append(session.events[-1])  # written twice, with the same uuid
    session.assistant("Under", key="msg")  # and once more, with another
    session.assistant("the mat.", key="msg")
    session.user("Sure?")
    session.assistant("Under", key="msg_2")
    assert told(session.read(tmp_path)) == [("Where is the key?", "Under\n\nthe mat.", True), ("Sure?", "Under", True)]


def test_what_was_found_with_tools_is_kept_and_not_learned(session: Session, tmp_path: Path) -> None:
    session.user("How many files?")
    session.assistant("Let me look.")
    session.tool()
    session.assistant("Three.")
    session.user("And what is a file?")
    session.assistant("A run of bytes.")
    assert told(session.read(tmp_path)) == [
        ("How many files?", "Let me look.\n\nThree.", False),
        ("And what is a file?", "A run of bytes.", True),
    ]


def test_going_back_makes_a_branch(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    before = session.assistant("Under the mat.")
    session.user("Which mat?")
    session.assistant("The red one.")
    session.last = before
    session.user("Whose mat?")
    session.assistant("Ann's.")
    first, second, third = session.read(tmp_path)
    assert told([first, second, third])[1:] == [("Which mat?", "The red one.", True), ("Whose mat?", "Ann's.", True)]
    assert second.context == third.context
    assert len(third.context) == 2


def test_errors_and_what_they_broke_off_are_not_learned(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    session.assistant("API Error: 529 Overloaded", model="<synthetic>", isApiErrorMessage=True, error="overloaded")
    session.user("Where is the key?")
    session.assistant("Under the")
    session.assistant("API Error: Connection lost mid-response.", model="<synthetic>", isApiErrorMessage=True)
    session.user("Go on")
    session.assistant("Under the mat.")
    session.assistant("No response requested.", model="<synthetic>")
    assert told(session.read(tmp_path)) == [("Where is the key?", "Under the", False), ("Go on", "Under the mat.", True)]


@pytest.mark.parametrize("mark", ["[Request interrupted by user]", "[Request interrupted by user for tool use]"])
def test_an_interrupted_answer_is_incomplete(session: Session, tmp_path: Path, mark: str) -> None:
    session.user("Where is the key?")
    session.assistant("Well, first")
    session.user([{"type": "text", "text": mark}])
    session.user("Shorter!")
    session.assistant("Under the mat.")
    first, second = session.read(tmp_path)
    assert (first.query, first.answer, first.complete) == ("Where is the key?", "Well, first", False)
    assert (second.query, second.answer, second.complete) == ("Shorter!", "Under the mat.", True)


@pytest.mark.parametrize(
    "content",
    [
        "<command-name>/review</command-name>\n<command-message>review</command-message>\n<command-args>x</command-args>",
        "<local-command-stdout>Bye!</local-command-stdout>",
        "<bash-input>ls</bash-input>",
        "<task-notification>done</task-notification>",
        '<teammate-message teammate_id="a">hello</teammate-message>',
    ],
)
def test_what_the_program_says_in_the_user_s_name_is_no_question(session: Session, tmp_path: Path, content: str) -> None:
    session.user("Where is the key?")
    session.assistant("Under the mat.")
    session.user(content)
    session.user("the text of the command", isMeta=True)
    session.assistant("Done.")
    session.user("Which mat?")
    session.assistant("The red one.")
    first, second = session.read(tmp_path)
    assert told([first, second]) == [("Where is the key?", "Under the mat.", True), ("Which mat?", "The red one.", True)]
    assert [message.content for message in second.context] == ["Where is the key?", "Under the mat."]


def test_what_follows_a_command_of_the_shell_is_not_learned(session: Session, tmp_path: Path) -> None:
    session.user("<bash-input>ls</bash-input>")
    session.user("<bash-stdout>a b</bash-stdout><bash-stderr></bash-stderr>")
    session.user("Which of them is mine?")
    session.assistant("a")
    assert told(session.read(tmp_path)) == [("Which of them is mine?", "a", False)]


def test_reminders_are_taken_out_of_a_question(session: Session, tmp_path: Path) -> None:
    session.user("Rain?\n<system-reminder>\nThe list is empty.\n</system-reminder>")
    session.assistant("No.")
    session.user("<ide_selection>x = 1</ide_selection>What is it?")
    session.assistant("One.")
    session.user("What does <system-reminder> mean?")
    session.assistant("A note.")
    assert told(session.read(tmp_path)) == [
        ("Rain?", "No.", True),
        ("What is it?", "One.", False),
        ("What does <system-reminder> mean?", "A note.", True),
    ]


@pytest.mark.parametrize("kind", ["file", "queued_command", "hook_success"])
def test_attached_files_are_not_in_the_question(session: Session, tmp_path: Path, kind: str) -> None:
    session.user("What is in @a.txt?")
    session.event("attachment", attachment={"type": kind, "filename": "a.txt"})
    session.assistant("Words.")
    assert told(session.read(tmp_path)) == [("What is in @a.txt?", "Words.", kind == "hook_success")]


def test_a_summary_is_nobody_s_word_and_the_thread_goes_on_behind_it(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    end = session.assistant("Under the mat.")
    session.last = None
    session.event("system", subtype="compact_boundary", logicalParentUuid=end, content="Conversation compacted")
    session.user("This session is being continued from a previous conversation", isCompactSummary=True)
    session.user("Which mat?")
    session.assistant("The red one.")
    _, second = session.read(tmp_path)
    assert [message.content for message in second.context] == ["Where is the key?", "Under the mat."]


def test_side_chains_are_left_out_in_their_files_too(session: Session, tmp_path: Path) -> None:
    session.user("Look for the key", isSidechain=True, agentId="a")
    session.assistant("Found.", isSidechain=True, agentId="a")
    assert session.read(tmp_path) == []


def test_a_resumed_session_repeats_and_goes_on(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    session.assistant("Under the mat.")
    [first] = session.read(tmp_path)
    session.user("Which mat?")
    session.assistant("The red one.")
    for event in session.events:
        event["sessionId"] = "s2"
    again, other = session.read(tmp_path)
    assert (again.id, again.session) == (first.id, "s2")
    assert (other.query, len(other.context)) == ("Which mat?", 2)


def test_events_that_follow_nothing_follow_one_another(session: Session, tmp_path: Path) -> None:
    for question, answer in [("Where is the key?", "Under the mat."), ("Which mat?", "The red one.")]:
        session.last = None
        session.user(question)
        session.last = None
        session.assistant(answer)
    assert [len(each.context) for each in session.read(tmp_path)] == [0, 2]


def test_events_that_follow_each_other_in_a_circle_end(session: Session, tmp_path: Path) -> None:
    session.user("Where is the key?")
    end = session.assistant("Under the mat.")
    session.events[0]["parentUuid"] = end
    assert told(session.read(tmp_path)) in ([], [("Where is the key?", "Under the mat.", True)])


words = st.text(min_size=1).filter(lambda text: bool(text.strip()) and not text.lstrip().startswith(("<", "[")))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3, unique=True), st.booleans()), max_size=6))
def test_any_session_keeps_every_word(tmp_path: Path, turns: list[tuple[str, list[str], bool]]) -> None:
    session = Session()
    expected: list[tuple[str, str, bool]] = []
    for question, blocks, tool in turns:
        session.user(question)
        if tool:
            session.tool()
        for block in blocks:
            session.assistant(block, key=f"msg_{len(expected)}")
        expected.append((question, "\n\n".join(blocks), not tool))
    assert told(session.read(tmp_path)) == expected
