"""Exchanges, attempts, feedback and audits as rows of the log's tables. Knows columns, not files or locks."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from shammah_data.exchange import Attempt, Audited, Exchange, Feedback, Rival
from shammah_data.secrets import redact
from shammah_data.session import Session, fetch, transaction
from shammah_data.text import printable

_EXCHANGES = {
    "id": "UUID",
    "created_at": "TIMESTAMP",
    "logged_at": "TIMESTAMP",
    "session": "VARCHAR",
    "turn": "INTEGER",
    "query": "VARCHAR",
    "context": "VARCHAR",
    "answer": "VARCHAR",
    "tier": "VARCHAR",
    "source": "VARCHAR",
    "model_version": "VARCHAR",
    "teacher_model": "VARCHAR",
    "complete": "BOOLEAN",
    "trainable": "BOOLEAN",
    "confidence": "DOUBLE",
    "latency_ms": "DOUBLE",
    "prompt_tokens": "INTEGER",
    "answer_tokens": "INTEGER",
    "cost_usd": "DOUBLE",
    "teacher_probability": "DOUBLE",
}
_ATTEMPTS = {
    "exchange_id": "UUID",
    "position": "INTEGER",
    "tier": "VARCHAR",
    "outcome": "VARCHAR",
    "reason": "VARCHAR",
    "confidence": "DOUBLE",
    "threshold": "DOUBLE",
    "latency_ms": "DOUBLE",
}
_FEEDBACK = {
    "id": "UUID",
    "exchange_id": "UUID",
    "created_at": "TIMESTAMP",
    "rating": "VARCHAR",
    "weight": "DOUBLE",
    "correction": "VARCHAR",
}
_OUTCOMES = {
    "exchange_id": "UUID",
    "version": "VARCHAR",
    "audited_at": "TIMESTAMP",
    "probability": "DOUBLE",
    "agrees": "BOOLEAN",
    "reason": "VARCHAR",
}
_RIVALS = {
    "exchange_id": "UUID",
    "version": "VARCHAR",
    "asked_at": "TIMESTAMP",
    "probability": "DOUBLE",
    "answer": "VARCHAR",
    "same": "BOOLEAN",
    "confidence": "DOUBLE",
    "reason": "VARCHAR",
}


Clean = Callable[[str], str]


def exchange_record(exchange: Exchange, clean: Clean = redact) -> dict[str, Any]:
    """One exchange with its attempts, JSON-able, as `insert` and the spool take it; `clean` takes out what must not be kept.

    What a model or a service said is kept as it may be shown; what the user said is kept as it was said.
    """
    row = {name: getattr(exchange, name) for name in _EXCHANGES if name != "logged_at"}
    row["created_at"] = utc(exchange.created_at)
    row["query"], row["answer"] = clean(exchange.query), clean(printable(exchange.answer))
    context = [
        {"role": turn.role, "content": clean(turn.content if turn.role == "user" else printable(turn.content))}
        for turn in exchange.context
    ]
    row["context"] = json.dumps(context, ensure_ascii=False)
    attempts = [_attempt_row(exchange.id, n, each, clean) for n, each in enumerate(exchange.attempts)]
    return {"exchange": row, "attempts": attempts}


def feedback_record(feedback: Feedback, clean: Clean = redact) -> dict[str, Any]:
    """One rating, JSON-able, as `insert` and the spool take it; a correction without a letter is none."""
    correction = clean(feedback.correction) if feedback.correction and feedback.correction.strip() else None
    return {"feedback": {**asdict(feedback), "correction": correction, "created_at": utc(feedback.created_at)}}


def outcome_record(audited: Audited, clean: Clean = redact) -> dict[str, Any]:
    """What an audit found, JSON-able, as `insert` and the spool take it."""
    return {"outcome": {**asdict(audited), "reason": clean(audited.reason), "audited_at": utc(audited.audited_at)}}


def rival_record(rival: Rival, clean: Clean = redact) -> dict[str, Any]:
    """What another version would have answered, JSON-able, as `insert` and the spool take it."""
    answer = None if rival.answer is None else clean(printable(rival.answer))
    reason = clean(printable(rival.reason))
    return {"rival": {**asdict(rival), "answer": answer, "reason": reason, "asked_at": utc(rival.asked_at)}}


def is_record(value: Any) -> bool:
    """Whether a value read back from JSON has every column of a record."""
    if not isinstance(value, dict) or not value.keys() & {"exchange", "feedback", "outcome", "rival"}:
        return False
    attempts = value.get("attempts", [])
    return (
        ("exchange" not in value or _has(value["exchange"], _EXCHANGES.keys() - {"logged_at"}))
        and ("feedback" not in value or _has(value["feedback"], _FEEDBACK.keys()))
        and ("outcome" not in value or _has(value["outcome"], _OUTCOMES.keys()))
        and ("rival" not in value or _has(value["rival"], _RIVALS.keys()))
        and isinstance(attempts, list)
        and all(_has(attempt, _ATTEMPTS.keys()) for attempt in attempts)
    )


def insert(session: Session, records: Sequence[dict[str, Any]]) -> int:
    """Insert records in one transaction; what is there already, or was forgotten, is left alone.

    Returns how many exchanges were new. Raises duckdb.Error, and then nothing was inserted.
    """
    attempts = [attempt for record in records for attempt in record.get("attempts", ())]
    feedback = [record["feedback"] for record in records if "feedback" in record]
    outcomes = [record["outcome"] for record in records if "outcome" in record]
    rivals = [record["rival"] for record in records if "rival" in record]
    new = 0
    with transaction(session):
        if any(record.keys() & {"exchange", "feedback"} for record in records):
            # Stamped when it reaches the database, not the spool: a night's snapshot is what was logged before it. Ratings
            # move the clock as well, so that those which a snapshot knows lie before its end.
            logged_at = _tick(session)
            exchanges = [
                {**record["exchange"], "logged_at": logged_at, "audit_of": _about(record, "exchange", "id")}
                for record in records
                if "exchange" in record
            ]
            new = _insert_rows(session, "exchanges", _EXCHANGES, ("id",), ("id", "audit_of"), exchanges)
        _insert_rows(session, "attempts", _ATTEMPTS, ("exchange_id", "position"), ("exchange_id",), attempts)
        _insert_rows(session, "feedback", _FEEDBACK, ("id",), ("exchange_id",), feedback)
        _insert_rows(session, "outcomes", _OUTCOMES, ("exchange_id", "version"), ("exchange_id",), outcomes)
        _insert_rows(session, "rivals", _RIVALS, ("exchange_id", "version"), ("exchange_id",), rivals)
    return new


def missing(session: Session, records: Sequence[dict[str, Any]]) -> int:
    """How many of the exchanges, ratings and audits among these records are neither in the database nor forgotten."""
    absent = 0
    for kind, table, one, key in (
        ("exchange", "exchanges", "id", "id"),
        ("feedback", "feedback", "id", "exchange_id"),
        ("outcome", "outcomes", "exchange_id", "exchange_id"),
        ("rival", "rivals", "exchange_id", "exchange_id"),
    ):
        wanted = {
            str(record[kind][one]).lower(): str(_about(record, kind, key)).lower() for record in records if kind in record
        }
        if wanted:
            document = json.dumps([{"id": each, "key": about} for each, about in wanted.items()])
            (row,) = fetch(
                session,
                """SELECT count(*) AS n FROM (
                    SELECT unnest(from_json_strict(?, '[{"id":"VARCHAR","key":"VARCHAR"}]'), recursive := true)) AS w """
                f"WHERE w.id::UUID NOT IN (SELECT {one} FROM {table}) "
                "AND w.key::UUID NOT IN (SELECT exchange_id FROM tombstones)",
                [document],
            )
            absent += row["n"]
    return absent


def _about(record: dict[str, Any], kind: str, key: str) -> Any:
    """The id of the exchange with which a record is forgotten: of an audit's, that which it is an audit of."""
    return record.get("audit_of") or record[kind][key]


def _tick(session: Session) -> datetime:
    """The stamp for this transaction, later than that of every transaction before it."""
    (row,) = fetch(
        session,
        "UPDATE clock SET last = greatest(last + INTERVAL 1 MICROSECOND, ?::TIMESTAMP) RETURNING last",
        [now().isoformat()],
    )
    stamp: datetime = row["last"]
    return stamp


def now() -> datetime:
    """The present in UTC, as the log's TIMESTAMP columns hold it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def utc(moment: datetime) -> str:
    """A moment in UTC without its zone, for a TIMESTAMP column; one without a zone is local time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def _attempt_row(exchange_id: str, position: int, attempt: Attempt, clean: Clean) -> dict[str, Any]:
    return {"exchange_id": exchange_id, "position": position, **asdict(attempt), "reason": clean(printable(attempt.reason))}


def _has(row: Any, columns: Iterable[str]) -> bool:
    return isinstance(row, dict) and all(column in row for column in columns)


def _insert_rows(
    session: Session,
    table: str,
    columns: dict[str, str],
    key: tuple[str, ...],
    about: tuple[str, ...],
    rows: Sequence[dict[str, Any]],
) -> int:
    """Insert rows; `about` names what holds the ids of exchanges, columns or not, by which forgotten ones are left out."""
    if not rows:
        return 0
    # The same key twice in one statement would break it even under OR IGNORE.
    unique: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        unique.setdefault(tuple(str(row[name]).lower() for name in key), row)
    names = dict.fromkeys((*columns, *about), "VARCHAR")
    texts = [{name: None if row[name] is None else str(row[name]) for name in names} for row in unique.values()]
    # One JSON parameter: DuckDB converts a list parameter at 50 us a cell, and executemany takes a millisecond a row.
    # Half a surrogate pair cannot be stored as UTF-8 and must not stop what is stored with it.
    document = json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
    shape = json.dumps([names])
    kept = " AND ".join(f"given.{name}::UUID NOT IN (SELECT exchange_id FROM tombstones)" for name in about)
    done = session.execute(
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(f'given.{name}::{kind}' for name, kind in columns.items())} "
        f"FROM (SELECT unnest(from_json_strict(?, '{shape}'), recursive := true)) AS given "
        f"WHERE {kept}",
        [document],
    ).fetchone()
    return int(done[0]) if done else 0
