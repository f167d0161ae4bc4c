"""What counts of two answers to the same question: the newer one, but for the user's own word. Knows rows, no training."""

from collections.abc import Iterable, Mapping
from typing import Any

from shammah_data.audit_queries import SOURCE
from shammah_data.judge import normalize

CORRECTED, GOOD, GIVEN, AUDIT = 3, 2, 1, 0


def standing(row: Mapping[str, Any]) -> int:
    """Of a row of the log: CORRECTED or called GOOD by a user, GIVEN to one, or only asked for by an AUDIT."""
    if row.get("rating") == "bad":
        return CORRECTED
    if row.get("rating") == "good":
        return GOOD
    return AUDIT if row.get("source") == SOURCE else GIVEN


def displaces(newer: int, older: int) -> bool:
    """Whether a newer answer takes the place of an older one.

    A correction stands until a later one. What an audit asked for, unseen, is no answer to what the user called good.
    """
    return newer >= older if older == CORRECTED else not (older == GOOD and newer == AUDIT)


def in_force(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows with the same query, as they were said one after the other, the one that stands, in the place of the newest."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        query = normalize(row["query"])
        older = found.pop(query, None)
        found[query] = row if older is None or displaces(standing(row), standing(older)) else older
    return list(found.values())
