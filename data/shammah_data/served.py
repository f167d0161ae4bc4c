"""What was asked while serving, counted day by day, and asked for again page by page. Knows SQL, no page.

Days are those of UTC. What was imported was never asked here, and what an audit asked, nobody asked for: neither is counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shammah_data import audit_queries, queries
from shammah_data.auditing import Measured, measured
from shammah_data.errors import InputError
from shammah_data.exchange import Audited
from shammah_data.queries import ASKED_HERE, holds
from shammah_data.savings import Savings, savings
from shammah_data.session import Session, fetch, literal

DAYS = 30
WEEK = 7
NOBODY = "nobody"
# In the order in which they are tried.
ANSWERERS = ("neural", "learned", "template", "teacher", NOBODY)
LOCAL = frozenset({"neural", "learned", "template"})
# So much of a question or an answer is shown in a list.
LONGEST = 1200
# Audits of one version that a trial looks at.
_MOST_AUDITS = 1000
_WHO = f"CASE WHEN trim(answer) = '' THEN '{NOBODY}' ELSE tier END"
_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?)_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True)
class Latency:
    """How long answers took, in milliseconds: half of them at most `median`, nine of ten at most `p90`."""

    who: str
    answers: int
    median: float
    p90: float


@dataclass(frozen=True)
class Served:
    """What the log says of the last `DAYS` days (`days`: queries by who answered; `latencies`), and of all time.

    `precision`: of the versions that serve, with the answers of the learned tier; `by_version`: of each alone.
    """

    today: date
    days: Mapping[date, Mapping[str, int]]
    latencies: tuple[Latency, ...]
    asked: int
    imported: int
    saved: Savings
    precision: Measured
    by_version: Mapping[str, Measured]
    audits: tuple[Audited, ...] = field(default=(), repr=False)

    def asked_within(self, first: int, last: int) -> tuple[int, int]:
        """(queries, answered here) from so many days ago to so many days ago, today being 0."""
        counts = [self.days.get(self.today - timedelta(days=ago), {}) for ago in range(first, last + 1)]
        local = sum(n for day in counts for who, n in day.items() if who in LOCAL)
        return sum(sum(day.values()) for day in counts), local


def served(session: Session, now: datetime, versions: Sequence[str], serving: Sequence[str]) -> Served:
    """Count it all; `versions` are those whose audits are told one by one, `serving` those that are told together."""
    today = now.astimezone(UTC).date()
    since = f"created_at >= {literal((today - timedelta(days=DAYS - 1)).isoformat())}::TIMESTAMP"
    days: dict[date, dict[str, int]] = {}
    for row in fetch(
        session,
        f"SELECT created_at::DATE AS day, {_WHO} AS who, count(*) AS n FROM exchanges WHERE {ASKED_HERE} AND {since} "
        "GROUP BY ALL",
    ):
        days.setdefault(row["day"], {})[row["who"]] = row["n"]
    found = fetch(
        session,
        "SELECT tier AS who, count(*) AS answers, quantile_cont(latency_ms, 0.5) AS median, "
        f"quantile_cont(latency_ms, 0.9) AS p90 FROM exchanges WHERE {ASKED_HERE} AND {since} AND trim(answer) <> '' "
        "AND latency_ms IS NOT NULL GROUP BY tier",
    )
    (counts,) = fetch(
        session,
        f"SELECT count(*) FILTER ({ASKED_HERE}) AS asked, "
        f"count(*) FILTER (source <> 'audit' AND NOT ({ASKED_HERE})) AS imported FROM exchanges",
    )
    return Served(
        today=today,
        days=days,
        latencies=tuple(sorted((Latency(**row) for row in found), key=lambda one: _place(one.who))),
        asked=counts["asked"],
        imported=counts["imported"],
        saved=savings(session),
        precision=measured(audit_queries.judged(session, serving)),
        by_version={version: measured(audit_queries.judged(session, [version])) for version in versions},
        audits=tuple(queries.outcomes(session, versions, _MOST_AUDITS)),
    )


def asked(session: Session, limit: int, before: str | None = None, words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What was asked, newest first, with the beginnings of question, answer and correction, and the attempts of each.

    `before`: the `cursor` of a row, after which the list goes on. Raises InputError for one that is none.
    """
    conditions = [ASKED_HERE, *map(holds, words)]
    if before is not None:
        read = _CURSOR.fullmatch(before)
        if read is None:
            raise InputError("before: give what a page of the list gave")
        at, last = f"{literal(read[1])}::TIMESTAMP", f"{literal(read[2])}::UUID"
        conditions.append(f"(created_at < {at} OR (created_at = {at} AND id < {last}))")
    cut = ", ".join(f"left({name}, {LONGEST + 1}) AS {name}" for name in ("query", "answer", "correction"))
    order = "ORDER BY created_at DESC, id DESC"
    # First which: the texts of all others need not be read for it, unless words are looked for.
    which = f"SELECT id FROM {'rated' if words else 'exchanges'} WHERE {' AND '.join(conditions)} {order} LIMIT ?"
    rows = fetch(session, f"SELECT * EXCLUDE (context) REPLACE ({cut}) FROM rated WHERE id IN ({which}) {order}", [limit])
    ids = ", ".join(f"{literal(row['id'])}::UUID" for row in rows)
    tried: dict[Any, list[dict[str, Any]]] = {}
    if ids:
        for one in fetch(session, f"SELECT * FROM attempts WHERE exchange_id IN ({ids}) ORDER BY exchange_id, position"):
            tried.setdefault(one["exchange_id"], []).append(one)
    return [{**row, "attempts": tried.get(row["id"], [])} for row in rows]


def cursor(row: Mapping[str, Any]) -> str:
    """Where a list that ended with this row goes on."""
    return f"{row['created_at'].isoformat()}_{row['id']}"


def _place(who: str) -> int:
    return ANSWERERS.index(who) if who in ANSWERERS else len(ANSWERERS)
