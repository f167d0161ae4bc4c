"""Exchanges, attempts and feedback as rows of the log's tables, and their insertion. Knows columns, not files or locks."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shammah_data.exchange import Attempt, Exchange, Feedback
from shammah_data.secrets import redact

if TYPE_CHECKING:
    import duckdb

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


def exchange_record(exchange: Exchange) -> dict[str, Any]:
    """One exchange with its attempts, JSON-able and without secrets, as `insert` and the spool take it."""
    row = {name: getattr(exchange, name) for name in _EXCHANGES if name != "logged_at"}
    row["created_at"] = utc(exchange.created_at)
    row["query"], row["answer"] = redact(exchange.query), redact(exchange.answer)
    context = [{"role": message.role, "content": redact(message.content)} for message in exchange.context]
    row["context"] = json.dumps(context, ensure_ascii=False)
    return {"exchange": row, "attempts": [_attempt_row(exchange.id, n, each) for n, each in enumerate(exchange.attempts)]}


def feedback_record(feedback: Feedback) -> dict[str, Any]:
    """One rating, JSON-able and without secrets, as `insert` and the spool take it; a correction without a letter is none."""
    correction = redact(feedback.correction) if feedback.correction and feedback.correction.strip() else None
    return {"feedback": {**asdict(feedback), "correction": correction, "created_at": utc(feedback.created_at)}}


def is_record(value: Any) -> bool:
    """Whether a value read back from JSON has every column of a record."""
    if not isinstance(value, dict) or not ("exchange" in value or "feedback" in value):
        return False
    attempts = value.get("attempts", [])
    return (
        ("exchange" not in value or _has(value["exchange"], _EXCHANGES.keys() - {"logged_at"}))
        and ("feedback" not in value or _has(value["feedback"], _FEEDBACK.keys()))
        and isinstance(attempts, list)
        and all(_has(attempt, _ATTEMPTS.keys()) for attempt in attempts)
    )


def insert(connection: "duckdb.DuckDBPyConnection", records: Sequence[dict[str, Any]]) -> int:
    """Insert records in one transaction; rows whose key is there already are left alone.

    Returns how many exchanges were new. Raises duckdb.Error, and then nothing was inserted.
    """
    # Stamped when it reaches the database, not the spool: a night's snapshot is what was logged before it.
    logged_at = now()
    exchanges = [{**record["exchange"], "logged_at": logged_at} for record in records if "exchange" in record]
    attempts = [attempt for record in records for attempt in record.get("attempts", ())]
    feedback = [record["feedback"] for record in records if "feedback" in record]
    connection.execute("BEGIN")
    try:
        new = _insert_rows(connection, "exchanges", _EXCHANGES, ("id",), exchanges)
        _insert_rows(connection, "attempts", _ATTEMPTS, ("exchange_id", "position"), attempts)
        _insert_rows(connection, "feedback", _FEEDBACK, ("id",), feedback)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return new


def now() -> datetime:
    """The present in UTC, as the log's TIMESTAMP columns hold it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def utc(moment: datetime) -> str:
    """A moment in UTC without its zone, for a TIMESTAMP column; one without a zone is local time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def _attempt_row(exchange_id: str, position: int, attempt: Attempt) -> dict[str, Any]:
    return {"exchange_id": exchange_id, "position": position, **asdict(attempt), "reason": redact(attempt.reason)}


def _has(row: Any, columns: Iterable[str]) -> bool:
    return isinstance(row, dict) and all(column in row for column in columns)


def _insert_rows(
    connection: "duckdb.DuckDBPyConnection",
    table: str,
    columns: dict[str, str],
    key: tuple[str, ...],
    rows: Sequence[dict[str, Any]],
) -> int:
    if not rows:
        return 0
    # The same key twice in one statement would break it even under OR IGNORE.
    unique: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        unique.setdefault(tuple(str(row[name]).lower() for name in key), row)
    texts = [{name: None if row[name] is None else str(row[name]) for name in columns} for row in unique.values()]
    # One JSON parameter: DuckDB converts a list parameter at 50 us a cell, and executemany takes a millisecond a row.
    # Half a surrogate pair cannot be stored as UTF-8 and must not stop what is stored with it.
    document = json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
    shape = json.dumps([dict.fromkeys(columns, "VARCHAR")])
    done = connection.execute(
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(f'{name}::{kind}' for name, kind in columns.items())} "
        f"FROM (SELECT unnest(from_json_strict(?, '{shape}'), recursive := true))",
        [document],
    ).fetchone()
    return int(done[0]) if done else 0
