"""What audits read from the log: answers that wait for one, and what those of a version have shown. Knows SQL, no rules."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shammah_data import rows
from shammah_data.auditing import Judged
from shammah_data.exchange import Audited, Message, Rival
from shammah_data.log import context_of
from shammah_data.queries import ASKED_HERE, GIVEN, OUTCOME
from shammah_data.session import Session, fetch

# Where an audit keeps the teacher's answer: a row of the log like any other, but nobody asked for it.
SOURCE = "audit"
_LOCAL = f"tier IN ('neural', 'learned') AND complete AND {ASKED_HERE}"


def waiting(session: Session, since: datetime, exchange_id: str | None = None) -> list[dict[str, Any]]:
    """Local answers given since then that were to be audited with some probability and were not yet, oldest first.

    Which of them were drawn says `auditing.is_drawn`. One that the teacher began to answer, or refused, waits no more.
    `exchange_id`: only this one, where it still waits.
    """
    only, values = ("AND e.id = ?::UUID ", [exchange_id]) if exchange_id else ("", [])
    return fetch(
        session,
        "SELECT id, session, turn, query, context, answer, tier, model_version, confidence, teacher_probability, trainable, "
        f"created_at FROM exchanges e WHERE {_LOCAL} AND teacher_probability > 0 AND created_at >= ?::TIMESTAMP {only}"
        "AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.exchange_id = e.id) "
        "AND NOT EXISTS (SELECT 1 FROM exchanges a WHERE a.source = 'audit' AND NOT a.complete AND a.session = e.session "
        "AND a.turn = e.turn AND a.query = e.query) ORDER BY created_at, turn",
        [rows.utc(since), *values],
    )


def context_now(session: Session, exchange_id: str) -> tuple[Message, ...]:
    """The earlier turns of an exchange that are not forgotten by now; none where it is forgotten itself."""
    found = fetch(session, "SELECT context FROM exchanges WHERE id = ?::UUID", [exchange_id])
    return context_of(found[0]) if found else ()


def rivals_since(session: Session, since: datetime) -> dict[str, Rival]:
    """What other versions would have answered to exchanges since then, by exchange; the last one asked of each."""
    found = fetch(
        session,
        "SELECT r.* FROM rivals r JOIN exchanges e ON e.id = r.exchange_id WHERE e.created_at >= ?::TIMESTAMP "
        "ORDER BY r.asked_at",
        [rows.utc(since)],
    )
    return {str(row["exchange_id"]): Rival(**{**row, "exchange_id": str(row["exchange_id"])}) for row in found}


def audits_since(session: Session, since: datetime) -> int:
    """How many audits the teacher has answered since then."""
    sql = "SELECT count(*) AS n FROM exchanges WHERE source = ? AND created_at >= ?::TIMESTAMP"
    return int(fetch(session, sql, [SOURCE, rows.utc(since)])[0]["n"])


def audited_counts(session: Session) -> dict[str, int]:
    """How many answers that each version gave were audited."""
    sql = f"SELECT version, count(*) AS n FROM outcomes o WHERE {GIVEN} GROUP BY version"
    return {row["version"]: row["n"] for row in fetch(session, sql)}


def judged(session: Session, versions: Sequence[str], tier: str | None = None) -> list[Judged]:
    """What audits of the answers that these versions gave found, oldest first; of one tier only where it is named."""
    if not versions:
        return []
    marks = ", ".join("?" for _ in versions)
    condition, values = ("AND e.tier = ?", [tier]) if tier else ("", [])
    found = fetch(
        session,
        "SELECT e.confidence, o.agrees, o.probability FROM outcomes o JOIN exchanges e ON e.id = o.exchange_id "
        f"WHERE o.version IN ({marks}) AND {GIVEN} {condition} ORDER BY o.audited_at, o.exchange_id",
        [*versions, *values],
    )
    return [Judged(row["confidence"], row["agrees"], row["probability"]) for row in found]


def outcomes_of(session: Session, exchange_id: str) -> list[Audited]:
    """What audits found of the answers to one query."""
    sql = f"SELECT {OUTCOME} FROM outcomes o WHERE exchange_id = ?::UUID ORDER BY audited_at, version"
    found = fetch(session, sql, [exchange_id])
    return [Audited(**{**row, "exchange_id": str(row["exchange_id"])}) for row in found]
