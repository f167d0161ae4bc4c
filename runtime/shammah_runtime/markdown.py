"""Markdown for a terminal, as it streams in: what has been shown is never taken back, so that nothing flickers.

Knows characters, columns and SGR attributes (ECMA-48, 8.3.117), no terminal. A subset of CommonMark that answers use:
headings, lists, quotes, rules, code spans and blocks, strong, emphasis, links; anything else is shown as it is written.
"""

import re
from collections.abc import Callable

from wcwidth import wcswidth

STRONG, EMPHASIS, CODE, FAINT = "1", "3", "36", "2"
# What may open a block: until it is known, the line is held back.
_UNDECIDED = re.compile(r"\s{0,3}(?:#{1,6}|[-*_+][-*_\s]*|>|\d{1,9}[.)]?|`{1,}[^\s`]*|~{1,}[^\s~]*)?\s{0,3}\Z")
_FENCE = re.compile(r"(\s{0,3})(`{3,}|~{3,})([^`]*)\Z")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+")
_RULE = re.compile(r"\s{0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})\Z")
_BULLET = re.compile(r"(\s{0,12})[-*+]\s+")
_NUMBER = re.compile(r"(\s{0,12})(\d{1,9}[.)])\s+")
_QUOTE = re.compile(r"\s{0,3}>\s?")
_SPECIAL = re.compile(r"[*_`\[\\]")
_CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK = re.compile(r"\[([^\[\]\n]+)\]\(([^()\s]+)\)")
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=[^\s\\])\1(?![*_])")
_EMPHASIS = re.compile(r"([*_])(?=[^\s*_])(.+?)(?<=[^\s*_\\])\1(?![*_\w])")
_WORDS = re.compile(r"[ \t]+|[^ \t]+")
# What has one width and one way to break: letters of a script without spaces come one by one. Emoji are left alone, as
# several may be joined to one.
_IDEOGRAPHIC = (
    "\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
)
_RUNS = re.compile(f"[{_IDEOGRAPHIC}]|[^{_IDEOGRAPHIC}]+")
_CLOSING = frozenset("\u3001\u3002\uff0c\uff0e\uff1a\uff1b\uff01\uff1f\u300d\u300f\uff09\u3011\u3015\u300b\u30fc")
# A span that has not been closed by then is no span; whatever opens one is held back until it is known.
_LONGEST_SPAN = 400
_RULE_COLUMNS = 40


class Markdown:
    """Turns pieces of an answer into pieces for a terminal of `columns()` columns. One answer each."""

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._held = ""  # of the line's beginning, or of a span without its end
        self._begun = False  # whether the kind of the line is known
        self._fence = ""  # what closes the code block that is open
        self._style = ""  # of the whole line
        self._indent = 0
        self._wrapped = True
        self._column = 0
        self._space = ""
        self._word: list[tuple[str, str]] = []
        self._last = ""  # the character before, which decides whether _ and * can open a span
        self._shown: list[str] = []

    @property
    def at_start(self) -> bool:
        """Whether what comes next begins a line."""
        return self._column == 0 and not self._word

    def push(self, piece: str) -> str:
        """What can be shown of the next piece."""
        for n, part in enumerate(piece.split("\n")):
            if n:
                self._end_line()
            self._held += part
            self._go_on(final=False)
        return self._take()

    def close(self) -> str:
        """What was held back for its end, which did not come."""
        if self._held or self._word:
            self._go_on(final=True)
            self._flush()
        return self._take()

    def _take(self) -> str:
        shown, self._shown = "".join(self._shown), []
        return shown

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _go_on(self, final: bool) -> None:
        if self._fence:
            self._code(final)
            return
        if not self._begun:
            if not final and _UNDECIDED.match(self._held):
                return
            if final and self._whole_line():
                return
            self._begin()
        self._inline(final)

    def _end_line(self) -> None:
        if self._fence or self._held or not self._begun:
            self._go_on(final=True)
        self._flush()
        self._shown.append("\n")
        self._column, self._space, self._last = 0, "", ""
        self._begun, self._style, self._indent, self._held = False, "", 0, ""

    def _whole_line(self) -> bool:
        """Lines that are known only by their end."""
        if fence := _FENCE.match(self._held):
            self._fence = fence[2]
            self._raw(self._held, FAINT)
        elif _RULE.match(self._held):
            self._raw("─" * max(1, min(self._columns() - 1, _RULE_COLUMNS)), FAINT)
        else:
            return False
        self._held = ""
        return True

    def _begin(self) -> None:
        self._begun = True
        if found := _HEADING.match(self._held):
            self._style = STRONG
        elif found := _BULLET.match(self._held):
            self._raw(f"{found[1]}• ", "")
        elif found := _NUMBER.match(self._held):
            self._raw(f"{found[1]}{found[2]} ", "")
        elif found := _QUOTE.match(self._held):
            self._raw("│ ", FAINT)
            self._style = FAINT
        elif self._held.lstrip().startswith("|"):
            # A row of a table keeps its shape.
            self._wrapped = False
            return
        self._wrapped = True
        self._indent = self._column
        self._held = self._held[found.end() :] if found else self._held

    def _code(self, final: bool) -> None:
        opens = self._held.lstrip()[:3]
        if not self._begun and not final and opens == self._fence[: len(opens)]:
            return
        if not self._begun and final and re.fullmatch(rf"\s*{self._fence}{self._fence[0]}*\s*", self._held):
            self._raw(self._held, FAINT)
            self._fence = self._held = ""
            return
        self._begun = True
        self._raw(self._held, CODE)
        self._held = ""

    # -- spans ---------------------------------------------------------------------------------------------------------

    def _inline(self, final: bool) -> None:
        while self._held:
            found = _SPECIAL.search(self._held)
            if found is None:
                self._say(self._held, self._style)
                self._held = ""
                return
            self._say(self._held[: found.start()], self._style)
            self._held = self._held[found.start() :]
            taken = self._span(self._held, self._style)
            if not taken:
                if not final and len(self._held) < _LONGEST_SPAN:
                    return
                self._say(self._held[0], self._style)
                taken = 1
            elif not final and taken == len(self._held):
                # What follows may still say that this is none: ** of ***.
                return
            else:
                self._show_span(self._held[:taken], self._style)
            self._held = self._held[taken:]

    def _span(self, text: str, style: str) -> int:
        """How many characters the span at the beginning takes; 0 for none, or none yet."""
        if text[0] == "\\":
            return 2 if len(text) > 1 else 0
        if text[0] == "_" and self._last.isalnum():
            return 1
        for pattern in (_CODE_SPAN, _LINK, _STRONG, _EMPHASIS):
            # One more, which may say that a span does not end here.
            if (found := pattern.match(text[: _LONGEST_SPAN + 1])) and found.end() <= _LONGEST_SPAN:
                return found.end()
        return 1 if text[0] in "*_" and len(text) > 1 and text[1].isspace() else 0

    def _show_span(self, text: str, style: str) -> None:
        if text[0] == "\\" and len(text) == 2:
            self._say(text[1] if not text[1].isalnum() and not text[1].isspace() else text, style)
        elif found := _CODE_SPAN.fullmatch(text):
            self._say(found[2], _and(style, CODE))
        elif found := _LINK.fullmatch(text):
            self._say(found[1], style)
            if found[2] != found[1]:
                self._say(f" ({found[2]})", _and(style, FAINT))
        elif found := _STRONG.fullmatch(text):
            self._nested(found[2], _and(style, STRONG))
        elif found := _EMPHASIS.fullmatch(text):
            self._nested(found[2], _and(style, EMPHASIS))
        else:
            self._say(text, style)

    def _nested(self, text: str, style: str) -> None:
        while text:
            found = _SPECIAL.search(text)
            if found is None:
                self._say(text, style)
                return
            self._say(text[: found.start()], style)
            text = text[found.start() :]
            taken = self._span(text, style) or 1
            self._show_span(text[:taken], style)
            text = text[taken:]

    # -- words and columns ---------------------------------------------------------------------------------------------

    def _say(self, text: str, style: str) -> None:
        if not text:
            return
        self._last = text[-1]
        if not self._wrapped:
            self._raw(text, style)
            return
        for part in _WORDS.findall(text):
            if part.isspace():
                self._flush()
                self._space += part
                continue
            for run in _RUNS.findall(part):
                # A text without spaces breaks anywhere but before what closes a sentence or a bracket.
                before = self._word[-1][0][-1] if self._word else ""
                if before and run[0] not in _CLOSING and (_ideographic(run[0]) or _ideographic(before)):
                    self._flush()
                self._word.append((run, style))

    def _flush(self) -> None:
        """Show the word that has been held back for its end, on the next line where it does not fit into this one."""
        text = "".join(part for part, _ in self._word)
        if text:
            size, room = width(text), max(1, self._columns() - 1)
            if self._column > self._indent and self._column + len(self._space) + size > room:
                indent = self._indent if self._indent + 8 <= room else 0
                self._shown.append("\n" + " " * indent)
                self._column, self._space = indent, ""
            self._shown.append(self._space)
            self._shown += [_styled(part, style) for part, style in self._word]
            self._column += len(self._space) + size
            self._space = ""
        self._word = []

    def _raw(self, text: str, style: str) -> None:
        if text:
            self._shown.append(_styled(text, style))
            self._column += width(text)


def wrapped(text: str, columns: int) -> str:
    """A text without Markdown, broken between words where a line is too long."""
    lines = []
    for line in text.split("\n"):
        words = Markdown(lambda: columns)
        words._say(line, "")
        words._flush()
        lines.append(words._take())
    return "\n".join(lines)


def width(text: str) -> int:
    """Columns that a text without controls takes (UAX 11, and wcwidth's tables for what is joined)."""
    return len(text) if text.isascii() else max(0, wcswidth(text))


def _ideographic(character: str) -> bool:
    return re.match(f"[{_IDEOGRAPHIC}]", character) is not None


def _and(style: str, more: str) -> str:
    return style if more in style.split(";") else f"{style};{more}" if style else more


def _styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if style and text else text
