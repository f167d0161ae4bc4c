"""Text made safe to show: no control characters, no text direction overrides. Knows characters, not terminals."""

# C0 but newline and tab, DEL, C1 (a bare 0x9b is ESC [ on some terminals); directions that can make text read as another.
_FORBIDDEN = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}
_FORBIDDEN |= dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def printable(text: str) -> str:
    """Drop every character that could drive a terminal; works on any split of a stream, character by character."""
    return text.translate(_FORBIDDEN)


def one_line(text: str, width: int) -> str:
    """The beginning of a text in at most `width` characters of one line."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
