"""From a model's jinja chat template to the plain prefixes and suffixes that the runtime uses. Knows templates only.

The runtime carries no template engine: a template that is anything but prefix + content + suffix per turn is refused
here, by comparing both renderings of a longer conversation.
"""

from collections.abc import Callable, Sequence

from shammah_data.errors import InputError
from shammah_data.manifest import ChatFormat

Turn = dict[str, str]
Render = Callable[[Sequence[Turn], bool], str]


def chat_format(render: Render, bos: str | None, name: str) -> ChatFormat:
    """Find the prefixes and suffixes of a template by taking differences of its renderings.

    `render(turns, add_generation_prompt)` returns the template's text; `bos` is the tokenizer's beginning-of-text token.
    A system turn that the template inserts by itself is left out: a fine-tuned model never sees it. Raises InputError
    naming `name` when the template does not fit.
    """
    unfit = InputError(f"{name}: its chat template is not a plain sequence of turns; use another base model")
    user, answer = _turn("user", "\u2402Q\u2403"), _turn("assistant", "\u2402A\u2403")
    try:
        one = render([user], False)
        open_ = render([user], True)
        two = render([user, answer], False)
        three = render([user, answer, user], False)
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: its chat template fails: {told}") from error
    before, user_suffix = _cut(one, user, unfit)
    # Only an answer that something follows is rendered plainly by every template: Qwen3 puts an empty thought into the last.
    answered = open_ + answer["content"]
    if not open_.startswith(one) or not two.startswith(open_) or not three.startswith(answered):
        raise unfit
    # Mistral's is empty: there the end of the question opens the answer.
    assistant_prefix = open_[len(one) :]
    assistant_suffix = _cut(two[len(open_) :], answer, unfit)[1]
    between = _cut(three[len(answered) :], user, unfit)[0]
    user_prefix = between.removeprefix(assistant_suffix)
    if not between.startswith(assistant_suffix) or not before.endswith(user_prefix) or not user_prefix:
        raise unfit
    inserted = before[: len(before) - len(user_prefix)]
    # In ChatML the beginning-of-text token opens every turn; it then belongs to the prefixes.
    start = bos if bos and inserted.startswith(bos) and not user_prefix.startswith(bos) else ""
    system_prefix, system_suffix = _system(render, user, start, user_prefix)
    found = ChatFormat(
        start=start,
        user_prefix=user_prefix,
        user_suffix=user_suffix,
        assistant_prefix=assistant_prefix,
        assistant_suffix=assistant_suffix,
        system_prefix=system_prefix,
        system_suffix=system_suffix,
    )
    if system_prefix is None and inserted != start:
        raise unfit
    turns = [_turn("user", "a b"), _turn("assistant", "c"), _turn("user", "d?"), _turn("assistant", "e"), _turn("user", "f")]
    if system_prefix is not None:
        turns = [_turn("system", "s"), *turns]
    if render(turns, True) != plain_text(found, turns):
        raise unfit
    return found


def plain_text(chat: ChatFormat, turns: Sequence[Turn]) -> str:
    """A conversation as text, ready for the answer."""
    pieces = {
        "system": (chat.system_prefix or "", chat.system_suffix or ""),
        "user": (chat.user_prefix, chat.user_suffix),
        "assistant": (chat.assistant_prefix, chat.assistant_suffix),
    }
    text = chat.start
    for turn in turns:
        prefix, suffix = pieces[turn["role"]]
        text += prefix + turn["content"] + suffix
    return text + chat.assistant_prefix


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _cut(text: str, turn: Turn, unfit: InputError) -> tuple[str, str]:
    before, found, after = text.partition(turn["content"])
    if not found:
        raise unfit
    return before, after


def _system(render: Render, user: Turn, start: str, user_prefix: str) -> tuple[str | None, str | None]:
    system = _turn("system", "\u2402S\u2403")
    try:
        text = render([system, user], False)
    except Exception:  # noqa: BLE001 - templates without a system turn raise an error of their own
        return None, None
    before, found, after = text.partition(system["content"])
    between, user_found, _ = after.partition(user["content"])
    if not found or not user_found or not before.startswith(start) or not between.endswith(user_prefix):
        return None, None
    return before[len(start) :], between[: len(between) - len(user_prefix)]
