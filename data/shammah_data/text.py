"""Text made safe to show and to log: no control characters, no escape sequences, no text direction overrides.

Knows characters and the sequences of ECMA-48 (5.4: a control sequence, 5.6: a control string), not what any terminal does.
"""

import re

# C0 but newline and tab, DEL, C1 (a bare 0x9b is ESC [ on some terminals), marks, overrides and isolates of direction that
# can make text read as another, and halves of surrogate pairs, which no file and no request can hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# ESC and one of these does what the C1 character 0x40 higher does.
_OPENS = {"[": "control", "]": "string", "P": "string", "X": "string", "^": "string", "_": "string"}
_OPENS_C1 = {chr(ord(key) + 0x40): kind for key, kind in _OPENS.items()}
_BELL, _ESCAPE, _STRING_END = "\x07", "\x1b", "\x9c"
_CONTROL = re.compile("[ -?]*")
_INTERMEDIATE = re.compile("[ -/]*")
# A string without an end takes no more than its line: an answer must not vanish behind a stray character.
_STRING = re.compile("[^\x00-\x08\x0a-\x1f\x7f-\x9f]*")


class Sanitizer:
    """Drops from a stream what could drive a terminal: escape sequences whole, other controls alone; joins surrogate pairs.

    What comes out does not depend on how the stream is divided.
    """

    def __init__(self) -> None:
        # "": plain text; "escape", "intermediate": behind ESC and what may follow it; else inside of a sequence.
        self._inside = ""
        self._high = ""

    def push(self, piece: str) -> str:
        """What may be shown of the next piece."""
        if not self._inside and not self._high and _FORBIDDEN.search(piece) is None:
            return piece
        shown: list[str] = []
        at = 0
        while at < len(piece):
            if self._high:
                at = self._pair(piece, at, shown)
            elif self._inside:
                at = self._swallow(piece, at)
            else:
                found = _FORBIDDEN.search(piece, at)
                shown.append(piece[at : found.start() if found else len(piece)])
                at = self._meet(found[0], found.end(), shown) if found else len(piece)
        return "".join(shown)

    def close(self) -> str:
        """What was held back in vain: a mark for half a surrogate pair."""
        rest = "\ufffd" if self._high else ""
        self._inside = self._high = ""
        return rest

    def _meet(self, character: str, after: int, shown: list[str]) -> int:
        if "\ud800" <= character <= "\udbff":
            self._high = character
        elif "\udc00" <= character <= "\udfff":
            shown.append("\ufffd")
        elif character == _ESCAPE:
            self._inside = "escape"
        else:
            self._inside = _OPENS_C1.get(character, "")
        return after

    def _pair(self, piece: str, at: int, shown: list[str]) -> int:
        high, self._high = self._high, ""
        if "\udc00" <= piece[at] <= "\udfff":
            shown.append((high + piece[at]).encode("utf-16", "surrogatepass").decode("utf-16"))
            return at + 1
        shown.append("\ufffd")
        return at

    def _swallow(self, piece: str, at: int) -> int:
        """Go on in a sequence; returns where the next character to look at is, which may belong to it no longer."""
        if self._inside == "escape" and piece[at] in _OPENS:
            self._inside = _OPENS[piece[at]]
            return at + 1
        if self._inside == "string":
            end = _STRING.match(piece, at)
            assert end is not None
            at = end.end()
            if at < len(piece):
                # ESC ends a string and begins what follows; behind it only the backslash of ST is left.
                self._inside = ""
                at += piece[at] in (_BELL, _STRING_END)
            return at
        control = self._inside == "control"
        middle = (_CONTROL if control else _INTERMEDIATE).match(piece, at)
        assert middle is not None
        if not control and middle.end() > at:
            self._inside = "intermediate"
        at = middle.end()
        if at < len(piece):
            self._inside = ""
            at += ("@" if control else "0") <= piece[at] <= "~"
        return at


def printable(text: str) -> str:
    """A whole text without what could drive a terminal; for one that comes in pieces there is `Sanitizer`."""
    sanitizer = Sanitizer()
    return sanitizer.push(text) + sanitizer.close()


def counted(number: int, one: str, more: str = "") -> str:
    """A number and its noun: "1 exchange", "2 exchanges"; `more` where the plural has more than an s."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def one_line(text: str, width: int) -> str:
    """The beginning of a text in at most `width` characters of one line."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
