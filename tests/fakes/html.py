"""A page as its readers have it: elements, text, tables, and the figures at its top. And what WCAG says of two colours."""

from html.parser import HTMLParser

_TEXTS = {"th", "td", "caption", "dt", "strong", "span"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page in order, its text, and a check that every element is closed where it should be.

    `tables`: rows of texts by caption, the heading first. `tiles`: (value, note) by name.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.tiles: dict[str, tuple[str, str]] = {}
        self._cell: list[str] | None = None
        self._rows: list[list[str]] = []
        self._caption = self._name = self._value = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag in _TEXTS:
            self._cell = []
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        text = " ".join("".join(self._cell or ()).split())
        if tag in ("th", "td"):
            self._rows[-1].append(text)
        elif tag == "caption":
            self._caption = text
        elif tag == "table":
            self.tables[self._caption] = self._rows
        elif tag == "dt":
            self._name = text
        elif tag == "strong":
            self._value = text
        elif tag == "span" and self._open[-1:] == ["dd"]:
            self.tiles[self._name] = (self._value, text)
        if tag in _TEXTS:
            self._cell = None

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if self._cell is not None and "title" not in self._open:
            self._cell.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours such as #1b2430, from 1 to 21 (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
