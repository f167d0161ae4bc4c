"""What the pages are made of that we write: tables, charts with what they say in words, templates, one style. Knows no page.

All text that may come from users is stripped of control characters and directions, then escaped by the template. The parts
that pages share are in parts.html.j2 and pages.css beside this file.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shammah_data.text import printable

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """One figure at the top of a page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    """Cells are text, or markup made here; `numbers` are the columns that are set to the right."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A chart, what it says in words, its legend and the table behind it."""

    name: str
    title: str
    caption: str
    svg: Markup
    legend: tuple[tuple[Markup, str], ...]
    table: Table


@functools.cache
def environment(folder: Path) -> Environment:
    """The templates of a folder, and those that all pages share."""
    return Environment(
        loader=FileSystemLoader((folder, _FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )


@functools.cache
def style(folder: Path, name: str) -> str:
    """A page's style sheet: what all pages share, then its own."""
    return "".join((place / part).read_text(encoding="utf-8") for place, part in ((_FOLDER, "pages.css"), (folder, name)))


def _plain(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)
