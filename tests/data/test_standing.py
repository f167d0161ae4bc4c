"""Which of two answers to the same question stands."""

from typing import Any

import pytest

from shammah_data.standing import displaces, in_force, standing

Row = dict[str, Any]
CORRECTED: Row = {"rating": "bad", "source": "serve"}
GOOD: Row = {"rating": "good", "source": "serve"}
GIVEN: Row = {"rating": None, "source": "serve"}
AUDIT: Row = {"rating": None, "source": "audit"}


@pytest.mark.parametrize(
    ("older", "displaced_by"),
    [(CORRECTED, "C"), (GOOD, "CGg"), (GIVEN, "CGgA"), (AUDIT, "CGgA")],
)
def test_the_newer_one_but_for_the_users_own_word(older: Row, displaced_by: str) -> None:
    newer = {"C": CORRECTED, "G": GOOD, "g": GIVEN, "A": AUDIT}
    assert "".join(name for name, row in newer.items() if displaces(standing(row), standing(older))) == displaced_by


def test_one_row_of_each_query_is_in_force_in_the_newest_place() -> None:
    rows: list[Row] = [
        {"query": "Port?", "target": "6543", **CORRECTED},
        {"query": "Host?", "target": "db", **GIVEN},
        {"query": "port?", "target": "5432", **AUDIT},
    ]
    assert [row["target"] for row in in_force(rows)] == ["db", "6543"]
