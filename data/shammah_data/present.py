"""How the log's commands show things: tables for people, JSON for programs. Knows rows, no log."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
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
        when = row["created_at"].strftime("%Y-%m-%d %H:%M")
        asked, answered = one_line(row["query"], asked_width), one_line(row["answer"], answer_width)
        print(f"{str(row['id'])[:8]} {when} {who(row):<8} {mark} {asked:<{asked_width}} {answered}".rstrip())


def who(row: Mapping[str, Any]) -> str:
    """Who answered an exchange: a tier, "nobody", or "audit" for what the teacher was asked without any user asking."""
    if row["source"] == "audit":
        return "audit"
    # What nobody answered is kept with the last tier that was tried.
    return str(row["tier"]) if row["answer"] or row["complete"] else "nobody"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"
