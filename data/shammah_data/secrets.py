"""Secrets replaced by typed marks before anything is written. Knows the order of the evidence, not the shapes or the words.

Three kinds of evidence: a shape that its issuer made recognisable (a prefix, a block, a token in parts), a password given
by name or by its place in a command or an address, and a random-looking token beside a word that tells what it is. A hash
or an id on its own is none.
"""

from typing import Any


def redact(text: str) -> str:
    """The text with every recognised secret replaced by `[secret:KIND]`; a second pass changes nothing."""
    # Not above: their expressions take 50 ms to compile, and no first answer waits for that.
    from shammah_data.secret_names import mark_named
    from shammah_data.secret_shapes import mark_shapes

    # What a mark has replaced may have hidden what stands beside it; each round leaves less to replace.
    while (marked := mark_named(mark_shapes(text))) != text:
        text = marked
    return text


def redact_all(value: Any) -> Any:
    """A JSON-able value with every string in it redacted, keys too; a key that would take another's place gets a number."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        redacted: dict[Any, Any] = {}
        for key, each in value.items():
            name = marked = redact(key) if isinstance(key, str) else key
            number = 2
            while name != key and (name in redacted or name in value):
                name, number = f"{marked} {number}", number + 1
            redacted[name] = redact_all(each)
        return redacted
    return [redact_all(each) for each in value] if isinstance(value, list | tuple) else value
