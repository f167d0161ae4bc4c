"""Reasons without the names of forgotten questions: attempts name what was near, runs a group by one of its questions.

Knows reasons, no ids.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from shammah_data.durable import atomic_write
from shammah_data.exchange import named_group
from shammah_data.session import Session, fetch
from shammah_data.untold import UNTOLD, names, tells

# What stands in the place of such a name in what a run says.
UNNAMED = "“a question that was forgotten”"


def untell(session: Session, table: str, questions: Collection[str]) -> None:
    """Take the reasons of attempts or rivals that name one of these questions out whole: they tell of its words, too."""
    forgotten = names(questions)
    found = fetch(session, f"SELECT DISTINCT reason FROM {table} WHERE contains(reason, ?) OR contains(reason, ?)", ["'", '"'])
    telling = [reason for row in found if tells(reason := str(row["reason"]), forgotten)]
    if telling:
        session.execute(
            f"""UPDATE {table} SET reason = ? WHERE reason IN (SELECT unnest(from_json_strict(?, '["VARCHAR"]')))""",
            [UNTOLD, json.dumps(telling)],
        )


def unname(session: Session, questions: Collection[str]) -> int:
    """Take these questions out of the reasons and figures of all runs; returns how many runs named one."""
    count = 0
    found = fetch(
        session,
        "SELECT id, reason, figures FROM runs WHERE contains(reason, ?) OR contains(figures::VARCHAR, ?) "
        "OR contains(figures::VARCHAR, ?)",
        ["“", "“", "\\u201c"],
    )
    for row in found:
        old = {"reason": row["reason"], "figures": json.loads(row["figures"])}
        new = _without(old, questions)
        if new != old:
            count += 1
            session.execute(
                "UPDATE runs SET reason = ?, figures = ? WHERE id = ?",
                [new["reason"], json.dumps(new["figures"]), str(row["id"])],
            )
    return count


def unname_record(path: Path, questions: Collection[str]) -> bool:
    """The same for what a run wrote down of itself; returns whether it named one. A file that is no record goes as a whole."""
    try:
        old = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        # It tells nobody anything, and cannot be shown to be clean.
        path.unlink()
        return True
    new = _without(old, questions)
    if new != old:
        atomic_write(path, json.dumps(new, indent=1).encode())
    return bool(new != old)


def _without(found: Any, questions: Collection[str]) -> Any:
    if isinstance(found, str):
        for question in questions:
            found = found.replace(named_group(question), UNNAMED)
        return found
    if isinstance(found, Mapping):
        return {key: _without(value, questions) for key, value in found.items()}
    return [_without(value, questions) for value in found] if isinstance(found, list) else found
