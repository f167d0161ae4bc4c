"""Messages as the APIs of OpenAI and Anthropic and the claude.ai account export write them. Knows their shapes, not files.

A row of {"messages": [...]} may hold content as text or as blocks, and the answer as an API returned it. The shapes are those
of OpenAI's chat completions and fine-tuning files, of Anthropic's messages, and of conversations.json.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shammah_data.exchange import Role
from shammah_data.threads import Told

_ROLES: dict[str, Role] = {"user": "user", "human": "user", "assistant": "assistant"}
# Blocks that hold text of their author; their text is under "text".
_TEXTS = frozenset({"text", "input_text", "output_text"})
# Blocks that neither say nor show anything to the other side.
_SILENT = frozenset({"thinking", "redacted_thinking", "reasoning", "refusal", "flag", "token_budget"})
# How an API says that an answer was cut off, by its user, a limit or a filter.
_CUT = frozenset({"max_tokens", "length", "content_filter", "refusal", "user_canceled", "model_context_window_exceeded"})
# What claude.ai writes into the plain text of a message where a block was.
_PLACEHOLDER = "```\nThis block is not supported on your current device yet.\n```"


def from_messages(row: Mapping[str, Any]) -> list[Told]:
    """A row of {"messages": [{"role", "content"}, ...]}. Raises ValueError that says what is wrong."""
    asked = row["messages"] if "messages" in row else _object(row["request"])["messages"]
    if not isinstance(asked, list):
        raise ValueError('"messages" must be a list')
    model = text_or_none(row.get("model")) or text_or_none(_object(row.get("request")).get("model"))
    messages = [message for message in asked if isinstance(message, dict)]
    answer = _returned(row.get("response") or row)
    if answer is not None:
        messages.append(answer)
    return [_message(message, model) for message in messages]


def holds_messages(row: Mapping[str, Any]) -> bool:
    """Whether a row is one for `from_messages`."""
    return "messages" in row or "messages" in _object(row.get("request"))


def _returned(response: Any) -> dict[str, Any] | None:
    """The message in what an API returned: {"choices": [...]} of OpenAI, {"role", "content"} of Anthropic, or its text."""
    if isinstance(response, str):
        return {"role": "assistant", "content": response}
    response = _object(response)
    choices = response.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        if isinstance(message, dict):
            return {"model": response.get("model"), "stop_reason": choices[0].get("finish_reason"), **message}
    if response.get("role") == "assistant" and "content" in response:
        return dict(response)
    return None


def _message(message: Mapping[str, Any], model: str | None) -> Told:
    role = role_of(message.get("role"))
    if role is None:
        return Told(None, with_tools=message.get("role") in ("tool", "function"))
    texts, tools = texts_of(message.get("content"))
    if role == "user" and not texts and only_results(message.get("content")):
        return Told(None, with_tools=True)
    tools |= bool(message.get("tool_calls") or message.get("function_call"))
    # A weight of 0 is how a fine-tuning file says: not to be learned.
    unwanted = role == "assistant" and message.get("weight") == 0
    return Told(
        role,
        texts,
        model=(text_or_none(message.get("model")) or model) if role == "assistant" else None,
        with_tools=tools or unwanted,
        complete=not (role == "assistant" and is_cut(message)),
    )


def from_claude(conversation: Mapping[str, Any]) -> list[Told]:
    """One conversation of a claude.ai conversations.json. Raises ValueError when it is something else."""
    messages = conversation.get("chat_messages")
    if not isinstance(messages, list):
        raise ValueError('a conversation without "chat_messages"')
    model = text_or_none(conversation.get("model"))
    return [_claude_message(message, model) for message in messages if isinstance(message, dict)]


def _claude_message(message: Mapping[str, Any], model: str | None) -> Told:
    role = role_of(message.get("sender"))
    texts, tools = texts_of(message.get("content"))
    plain = message.get("text")
    # Exports before 2025 hold the text only here; with blocks of other kinds it repeats them, thoughts and all.
    if not texts and not tools and isinstance(plain, str) and not _has_blocks(message.get("content")):
        tools = _PLACEHOLDER in plain
        texts = [said for said in map(encodable, plain.split(_PLACEHOLDER)) if said.strip()]
    pasted, unseen = _attached(message)
    return Told(
        role,
        [*texts, *pasted],
        key=text_or_none(message.get("uuid")),
        parent=(text_or_none(message["parent_message_uuid"]) or "") if "parent_message_uuid" in message else None,
        at=moment(message.get("created_at")),
        model=(text_or_none(message.get("model")) or model) if role == "assistant" else None,
        with_tools=tools or unseen,
        complete=not (role == "assistant" and is_cut(message)),
    )


def _attached(message: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The text of what was pasted or attached to a message, and whether there are files without their text."""
    attachments = [each for each in _list(message.get("attachments")) if isinstance(each, dict)]
    texts = [each["extracted_content"] for each in attachments if isinstance(each.get("extracted_content"), str)]
    read = {str(each.get("file_name")) for each in attachments if isinstance(each.get("extracted_content"), str)}
    files = [*attachments, *_list(message.get("files")), *_list(message.get("files_v2"))]
    unseen = any(not isinstance(each, dict) or str(each.get("file_name")) not in read for each in files)
    return [encodable(text) for text in texts if text.strip()], unseen


def texts_of(content: Any) -> tuple[list[str], bool]:
    """The texts of a content, and whether it holds what they do not tell: use of a tool, an image, a document."""
    if isinstance(content, str):
        return ([encodable(content)] if content.strip() else []), False
    texts: list[str] = []
    more = False
    for block in _list(content):
        if not isinstance(block, dict):
            continue
        kind = block.get("type")
        if not isinstance(kind, str) or kind in _SILENT:
            continue
        if kind not in _TEXTS:
            more = True
        elif isinstance(text := block.get("text"), str) and text.strip():
            texts.append(encodable(text))
    return texts, more


def only_results(content: Any) -> bool:
    """Whether a content is nothing but results of tools, which are sent in the user's name and are no question of theirs."""
    blocks = [block for block in _list(content) if isinstance(block, dict)]
    return bool(blocks) and all(str(block.get("type")).endswith("tool_result") for block in blocks)


def is_cut(message: Mapping[str, Any]) -> bool:
    """Whether an answer says of itself that it was cut off."""
    reason = message.get("stop_reason")
    return isinstance(reason, str) and reason in _CUT


def role_of(value: Any) -> Role | None:
    """Whose words a message holds; None for those of neither a user nor an assistant."""
    return _ROLES.get(value) if isinstance(value, str) else None


def encodable(text: str) -> str:
    """A text that UTF-8 can hold: JSON can spell half a surrogate pair, which no file can."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def text_or_none(value: Any) -> str | None:
    """A text that says something, or None."""
    return encodable(value) if isinstance(value, str) and value else None


def moment(value: Any) -> datetime | None:
    """A time written as ISO 8601, in UTC where it names no zone; None for anything else."""
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _has_blocks(content: Any) -> bool:
    return any(isinstance(block, dict) and str(block.get("type")) not in _TEXTS for block in _list(content))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
