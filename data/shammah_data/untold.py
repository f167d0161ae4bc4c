"""Reasons that name a question which was forgotten since: they tell of its words, and go whole. Knows text, no log."""

from collections.abc import Collection, Iterable

from shammah_data.exchange import named

# What stands where a reason named a forgotten question.
UNTOLD = "a question that was forgotten since was near it"


def names(questions: Iterable[str]) -> set[str]:
    """All that these questions are called in reasons."""
    return {named(question, letters) for question in questions for letters in (40, 60)}


def tells(reason: str, forgotten: Collection[str]) -> bool:
    """Whether a reason has one of these names of forgotten questions."""
    if not forgotten:
        return False
    lengths = {len(name) for name in forgotten}
    starts = [at for at, letter in enumerate(reason) if letter in "'\""]
    return any(reason[at : at + length] in forgotten for at in starts for length in lengths)
