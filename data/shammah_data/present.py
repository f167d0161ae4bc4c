"""How the log's commands show things: tables for people, JSON for programs. Knows rows, no log."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shammah_data.text import one_line

_NARROWEST = 20


def print_json(value: Any) -> None:
    """Pure ASCII: no letter can drive the terminal or be lost in its encoding."""
    print(json.dumps(value, default=str, indent=1))


def print_exchanges(rows: Sequence[dict[str, Any]]) -> None:
    """One line per exchange, as wide as the terminal, with a heading on one."""
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
    asked_width = max(_NARROWEST, (width - 38) * 2 // 5)
    answer_width = max(_NARROWEST, width - 38 - asked_width)
    if sys.stdout.isatty() and rows:
        print(f"{'id':<8} {'time (UTC)':<16} {'tier':<8} r {'question':<{asked_width}} answer")
    for row in rows:
        mark = {"good": "+", "bad": "-"}.get(row["rating"], " ")
        asked, answered = _cell(row["query"], asked_width), _cell(row["answer"], answer_width)
        print(f"{str(row['id'])[:8]} {minute(row['created_at'])} {who(row):<8} {mark} {asked} {answered}".rstrip())


def minute(moment: datetime) -> str:
    """A time to the minute, in as many characters for any year."""
    return moment.isoformat(" ", "minutes")


def _cell(text: str, width: int) -> str:
    """The beginning of a text in just `width` columns of a terminal, on which some letters take two and some none."""
    from wcwidth import wcswidth

    shown = one_line(text, width)
    kept = shown.removesuffix("…")
    while wcswidth(shown) > width:
        kept = kept[:-1]
        shown = f"{kept}…"
    return shown + " " * (width - max(0, wcswidth(shown)))


def who(row: Mapping[str, Any]) -> str:
    """Who answered an exchange: a tier, "nobody", or "audit" for what the teacher was asked without any user asking."""
    if row["source"] == "audit":
        return "audit"
    # What nobody answered is kept with the last tier that was tried.
    return str(row["tier"]) if row["answer"] or row["complete"] else "nobody"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"
