"""Session transcripts of Claude Code: JSON lines, one event each. Knows their events, not files.

An event follows the one its `parentUuid` names; a user who goes back makes a branch. An answer is spread over several events,
one block each, with the same `message.id`. Sub-agents talk in side chains. What the program itself says in the user's name
(output of commands, reminders, notices, the summary after a compaction) is no question, and no part of one.
"""

from collections.abc import Mapping
from typing import Any

from shammah_data.formats import is_cut, moment, only_results, role_of, text_or_none, texts_of
from shammah_data.threads import Told

_KEYS = ("sessionId", "session_id", "uuid", "leafUuid", "messageId", "message")
# Events that may name nothing but their kind.
_NOTED = frozenset(
    {"summary", "mode", "permission-mode", "last-prompt", "file-history-snapshot", "queue-operation", "progress", "ai-title"}
    | {"custom-title", "worktree-state", "attachment", "system"}
)
_OTHER_ROWS = ("query", "response", "messages", "chat_messages")
# Marks of what is no part of the conversation: a sub-agent's words, the program's own.
_NOT_SAID = ("isSidechain", "parent_tool_use_id", "isMeta", "isCompactSummary")
# How a text begins that Claude Code wrote, not the user: a command and its output, and news for the model.
_COMMANDS = ("<command-name>", "<command-message>", "<local-command-", "<user-memory-input>", "Caveat: The messages below were")
_NEWS = ("<bash-", "<task-notification>", "<teammate-message", "<user-prompt-submit-hook>")
_INTERRUPTED = "[Request interrupted by user"
# What is put into the user's texts; of these the model learns more than the user wrote.
_NOTES = ("system-reminder", "ide_opened_file")
_TELLING_NOTES = ("ide_selection", "ide_diagnostics")
_ATTACHED = frozenset({"file", "new_file", "edited_text_file", "directory", "selected_lines_in_ide", "queued_command"})


def is_event(row: Mapping[str, Any]) -> bool:
    """Whether a JSON line is an event of a transcript."""
    kind = row.get("type")
    if not isinstance(kind, str) or any(key in row for key in _OTHER_ROWS):
        return False
    return kind in _NOTED or any(key in row for key in _KEYS)


def session_of(event: Mapping[str, Any]) -> str:
    """The session an event belongs to."""
    return text_or_none(event.get("sessionId")) or ""


def told(event: Mapping[str, Any]) -> Told:
    """What an event says, without all that is not said in it."""
    found = _told(event)
    found.key = text_or_none(event.get("uuid"))
    if "parentUuid" in event:
        # After a compaction the thread begins anew, and only this name leads back.
        found.parent = text_or_none(event["parentUuid"]) or text_or_none(event.get("logicalParentUuid")) or ""
    found.at = moment(event.get("timestamp"))
    return found


def linked(events: list[Told]) -> list[Told]:
    """The events of a file; where none names another, each follows the one before it."""
    keys = {each.key for each in events}
    if not any(each.parent in keys for each in events if each.parent):
        for each in events:
            each.parent = None
    return events


def _told(event: Mapping[str, Any]) -> Told:
    kind, message = event.get("type"), event.get("message")
    if any(event.get(mark) for mark in _NOT_SAID):
        return Told(None)
    if kind == "attachment":
        attachment = event.get("attachment")
        return Told(None, with_tools=isinstance(attachment, dict) and str(attachment.get("type")) in _ATTACHED)
    if not isinstance(message, dict) or role_of(message.get("role", kind)) != kind:
        return Told(None)
    return _asked(event, message.get("content")) if kind == "user" else _answered(event, message)


def _answered(event: Mapping[str, Any], message: Mapping[str, Any]) -> Told:
    # An error is told in the assistant's name, and ends what was being answered.
    if event.get("isApiErrorMessage"):
        return Told(None, complete=False)
    if message.get("model") == "<synthetic>":
        return Told(None)
    texts, tools = texts_of(message.get("content"))
    return Told(
        "assistant",
        texts,
        model=text_or_none(message.get("model")),
        with_tools=tools,
        complete=not is_cut(message),
        group=text_or_none(message.get("id")),
    )


def _asked(event: Mapping[str, Any], content: Any) -> Told:
    texts, more = texts_of(content)
    if not texts and (only_results(content) or "toolUseResult" in event):
        return Told(None, with_tools=True)
    if any(text.lstrip().startswith(_INTERRUPTED) for text in texts):
        return Told(None, with_tools=more, complete=False)
    origin = event.get("origin")
    if isinstance(origin, dict) and origin.get("kind") != "human":
        return Told("user", with_tools=True)
    said = []
    for text in texts:
        start = text.lstrip()
        if start.startswith((*_COMMANDS, *_NEWS)):
            more |= start.startswith(_NEWS)
            continue
        for note in (*_NOTES, *_TELLING_NOTES):
            shorter = _without(text, note)
            more |= note in _TELLING_NOTES and shorter != text
            text = shorter
        if text.strip():
            said.append(text)
    # Said twice, it was only sent again, as after an error.
    return Told("user", said, with_tools=more, group="user")


def _without(text: str, note: str) -> str:
    """A text without its <note>...</note> parts, and the space around them."""
    opening, closing = f"<{note}>", f"</{note}>"
    kept, at = [], 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join([*kept, text[at:]]).strip() if kept else text
