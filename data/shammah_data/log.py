"""The exchange log: a DuckDB file opened late and closed early, so that serving and training can both use it.

Writes that find the database taken go to an fsynced spool of JSON lines, drained by the next successful write; ids make
that exactly once. Knows rows, not what they mean to a model.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shammah_data import schema
from shammah_data.durable import PRIVATE_FILE, append_line, fsync_folder, private_folder, sha256
from shammah_data.errors import LogError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, RunRecord
from shammah_data.home import Home

if TYPE_CHECKING:
    import duckdb

# A second opener fails at once and is told so; the message is all that DuckDB offers to tell a lock from damage.
_TAKEN = ("Conflicting lock", "Could not set lock", "being used by another process", "different configuration")
_EXCHANGE_COLUMNS = (
    ("id", "UUID"),
    ("created_at", "TIMESTAMP"),
    ("logged_at", "TIMESTAMP"),
    ("session", "VARCHAR"),
    ("turn", "INTEGER"),
    ("query", "VARCHAR"),
    ("context", "VARCHAR"),
    ("answer", "VARCHAR"),
    ("tier", "VARCHAR"),
    ("source", "VARCHAR"),
    ("model_version", "VARCHAR"),
    ("teacher_model", "VARCHAR"),
    ("complete", "BOOLEAN"),
    ("trainable", "BOOLEAN"),
    ("confidence", "DOUBLE"),
    ("latency_ms", "DOUBLE"),
    ("prompt_tokens", "INTEGER"),
    ("answer_tokens", "INTEGER"),
    ("cost_usd", "DOUBLE"),
    ("teacher_probability", "DOUBLE"),
)
_ATTEMPT_COLUMNS = (
    ("exchange_id", "UUID"),
    ("position", "INTEGER"),
    ("tier", "VARCHAR"),
    ("outcome", "VARCHAR"),
    ("reason", "VARCHAR"),
    ("confidence", "DOUBLE"),
    ("threshold", "DOUBLE"),
    ("latency_ms", "DOUBLE"),
)
_FEEDBACK_COLUMNS = (
    ("id", "UUID"),
    ("exchange_id", "UUID"),
    ("created_at", "TIMESTAMP"),
    ("rating", "VARCHAR"),
    ("weight", "DOUBLE"),
    ("correction", "VARCHAR"),
)
_BATCH = 2000


@dataclass(frozen=True)
class Stats:
    """Counts over the log. `per_tier` maps a tier to (exchanges, median latency in ms, cost in USD)."""

    exchanges: int
    learnable: int
    waiting: int
    per_tier: dict[str, tuple[int, float | None, float]]
    feedback: int
    runs: int
    spooled: int


class ExchangeLog:
    """The log of one home.

    `wait` is how long, in seconds, an operation waits for another process to let go of the database.
    """

    def __init__(self, home: Home, wait: float = 0.2, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._wait = wait
        self._clock = clock
        # One connection at a time in a process: DuckDB refuses a second one with another access mode.
        self._turn = threading.Lock()

    # -- opening -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self, *, write: bool, wait: float | None = None) -> Iterator["duckdb.DuckDBPyConnection"]:
        import duckdb  # a tenth of a second that a prompt need not wait for

        path = self._home.log
        private_folder(path.parent)
        deadline = self._clock() + (self._wait if wait is None else wait)
        with self._turn:
            while True:
                try:
                    connection = duckdb.connect(str(path), read_only=not write and path.exists())
                    break
                except duckdb.Error as error:
                    if not any(mark in str(error) for mark in _TAKEN):
                        raise LogError(f"{path}: cannot be opened: {_first_line(error)}") from error
                    if self._clock() >= deadline:
                        raise LogTakenError(f"{path}: in use by another process; try again in a moment") from error
                    time.sleep(0.01)
            try:
                path.chmod(PRIVATE_FILE)
                self._migrate(connection)
                yield connection
            except duckdb.Error as error:
                raise LogError(f"{path}: {_first_line(error)}") from error
            finally:
                connection.close()

    def _migrate(self, connection: "duckdb.DuckDBPyConnection") -> None:
        known = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_name = 'schema_version'"
        ).fetchone()
        applied = 0
        if known and known[0]:
            row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
            applied = row[0] if row else 0
        if applied > schema.VERSION:
            raise LogError(
                f"{self._home.log}: written by a newer Shammah (schema {applied} > {schema.VERSION}): upgrade this one"
            )
        if applied == schema.VERSION:
            return
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
        )
        for version in range(applied + 1, schema.VERSION + 1):
            connection.execute(schema.MIGRATIONS[version - 1])
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", [version, _now()])
        connection.execute("COMMIT")

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, exchange: Exchange) -> bool:
        """Make one exchange durable before returning; False when it went to the spool because the database was taken.

        Raises LogError when neither the database nor the spool can be written.
        """
        return self._write({"exchange": _exchange_row(exchange), "attempts": _attempt_rows(exchange)})

    def rate(self, feedback: Feedback) -> bool:
        """Make one rating durable before returning; False when it went to the spool."""
        return self._write({"feedback": {**asdict(feedback), "created_at": _utc(feedback.created_at)}})

    def record_run(self, run: RunRecord) -> None:
        """Store the record of a training run; an existing one with this id is replaced.

        Waits up to ten seconds for the database. Raises LogError.
        """
        with self._open(write=True, wait=10.0) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                [run.id, _utc(run.started), _utc(run.finished), run.status, run.reason, run.version, json.dumps(run.figures)],
            )

    def add_many(self, exchanges: Iterable[Exchange], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """Append many exchanges in batches; those whose id is there already are left alone.

        Returns (new, duplicates). Waits up to ten seconds for the database. Raises LogError.
        """
        new = seen = 0
        with self._open(write=True, wait=10.0) as connection:
            self._drain(connection)
            batch: list[Exchange] = []
            for exchange in exchanges:
                batch.append(exchange)
                if len(batch) == _BATCH:
                    new, seen = new + _insert(connection, batch), seen + len(batch)
                    batch = []
                    if progress:
                        progress(seen)
            new, seen = new + _insert(connection, batch), seen + len(batch)
            if progress:
                progress(seen)
        return new, seen - new

    def forget(self, exchange_id: str) -> bool:
        """Delete one exchange with its attempts and feedback; False when there is none. Raises LogError."""
        with self._open(write=True, wait=10.0) as connection:
            self._drain(connection)
            connection.execute("BEGIN")
            for table, key in (("attempts", "exchange_id"), ("feedback", "exchange_id")):
                connection.execute(f"DELETE FROM {table} WHERE {key} = ?::UUID", [exchange_id])
            gone = connection.execute("DELETE FROM exchanges WHERE id = ?::UUID RETURNING id", [exchange_id]).fetchall()
            connection.execute("COMMIT")
        return bool(gone)

    def _write(self, record: dict[str, Any]) -> bool:
        try:
            with self._open(write=True) as connection:
                self._drain(connection)
                _apply(connection, [record])
            return True
        except LogError as error:
            try:
                with self._spool_lock():
                    append_line(self._home.spool, json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"))
            except OSError as spool_error:
                raise LogError(f"{error}; the spool cannot be written either: {spool_error}") from error
            if isinstance(error, LogTakenError):
                return False
            raise LogError(f"{error}; the exchange is kept in {self._home.spool}") from error

    def _spool_lock(self) -> Any:
        from filelock import FileLock

        return FileLock(self._home.spool.with_suffix(".lock"), mode=PRIVATE_FILE)

    def _drain(self, connection: "duckdb.DuckDBPyConnection") -> None:
        if not self._home.spool.exists():
            return
        with self._spool_lock():
            records, torn = _read_spool(self._home.spool)
            _apply(connection, records)
            if torn:
                # A line cut by a crash was never acknowledged, but nothing a user wrote is thrown away unseen.
                append_line(self._home.spool.with_suffix(".torn"), b"\n".join(torn))
            self._home.spool.unlink()
            fsync_folder(self._home.spool.parent)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        self._settle()
        with self._open(write=False, wait=2.0) as connection:
            cursor = connection.execute(sql, list(parameters))
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _settle(self) -> None:
        """Create, migrate and drain where that is due: a read-only connection can do none of it."""
        if not self._home.log.exists() or self._home.spool.exists():
            with self._open(write=True, wait=2.0) as connection:
                self._drain(connection)

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest exchanges as rows of the `rated` view, newest first. Raises LogError."""
        return self._rows("SELECT * FROM rated ORDER BY created_at DESC, turn DESC LIMIT ?", [limit])

    def find(self, id_or_prefix: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One exchange and its attempts, by id or an unambiguous beginning of it. Raises LogError."""
        rows = self._rows("SELECT * FROM rated WHERE starts_with(id::VARCHAR, ?) LIMIT 2", [id_or_prefix.lower()])
        if not rows:
            raise LogError(f"no exchange {id_or_prefix}: `shammah-log list` shows the ids")
        if len(rows) > 1:
            raise LogError(f"{id_or_prefix} is the beginning of several ids: give more of it")
        attempts = self._rows("SELECT * FROM attempts WHERE exchange_id = ? ORDER BY position", [rows[0]["id"]])
        return rows[0], attempts

    def learnable(self) -> list[dict[str, Any]]:
        """Every exchange that may be learned from: id, created_at, query, context, target, weight; oldest first."""
        return self._rows("SELECT id, created_at, query, context, target, weight FROM learnable ORDER BY created_at, turn, id")

    def learnable_count(self, since: datetime | None = None) -> int:
        """How many exchanges may be learned from, of those logged after `since`."""
        condition = "" if since is None else "WHERE logged_at > ?"
        rows = self._rows(f"SELECT count(*) AS n FROM learnable {condition}", [] if since is None else [since])
        return int(rows[0]["n"])

    def stats(self, since: datetime | None = None) -> Stats:
        """Counts; `waiting` are the learnable exchanges logged after `since` (the last training). Raises LogError."""
        tiers = self._rows(
            "SELECT tier, count(*) AS n, median(latency_ms) AS ms, coalesce(sum(cost_usd), 0) AS usd "
            "FROM exchanges GROUP BY tier ORDER BY n DESC"
        )
        counts = self._rows(
            "SELECT (SELECT count(*) FROM exchanges) AS exchanges, (SELECT count(*) FROM feedback) AS feedback, "
            "(SELECT count(*) FROM runs) AS runs"
        )[0]
        return Stats(
            exchanges=counts["exchanges"],
            learnable=self.learnable_count(),
            waiting=self.learnable_count(since),
            per_tier={row["tier"]: (row["n"], row["ms"], row["usd"]) for row in tiers},
            feedback=counts["feedback"],
            runs=counts["runs"],
            spooled=len(_read_spool(self._home.spool)[0]) if self._home.spool.exists() else 0,
        )

    def runs(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest training runs, newest first, `figures` parsed."""
        rows = self._rows("SELECT * FROM runs ORDER BY started DESC LIMIT ?", [limit])
        return [{**row, "figures": json.loads(row["figures"])} for row in rows]

    def snapshot(self, path: Path) -> tuple[str, int, datetime]:
        """Write what may be learned from to a Parquet file and let go of the database at once.

        Returns (sha256 of the file, rows, the time up to which rows are in it). Raises LogError.
        """
        self._settle()
        with self._open(write=False, wait=10.0) as connection:
            row = connection.execute("SELECT count(*), max(logged_at) FROM learnable").fetchone()
            quoted = str(path).replace("'", "''")
            connection.execute(
                "COPY (SELECT id::VARCHAR AS id, created_at, session, turn, query, context, target, tier, source, rating, "
                f"weight, logged_at FROM learnable ORDER BY created_at, turn, id) TO '{quoted}' (FORMAT parquet)"
            )
        assert row is not None  # an aggregate always returns a row
        path.chmod(PRIVATE_FILE)
        return sha256(path), int(row[0]), row[1] or _now()


class LogTakenError(LogError):
    """Another process holds the database; waiting or spooling is the cure."""


def read_snapshot(path: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot, oldest first."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def context_of(row: dict[str, Any]) -> tuple[Message, ...]:
    """The earlier turns of a row."""
    return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(row["context"]))


def _exchange_row(exchange: Exchange) -> dict[str, Any]:
    row = {name: getattr(exchange, name) for name, _ in _EXCHANGE_COLUMNS if name != "logged_at"}
    row["created_at"] = _utc(exchange.created_at)
    row["context"] = json.dumps([asdict(message) for message in exchange.context], ensure_ascii=False)
    return row


def _logged(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    # Stamped when it reaches the database, not the spool: a night's snapshot is what was logged before it.
    return [{**row, "logged_at": _now()} for row in rows]


def _attempt_rows(exchange: Exchange) -> list[dict[str, Any]]:
    return [_attempt_row(exchange.id, n, attempt) for n, attempt in enumerate(exchange.attempts)]


def _attempt_row(exchange_id: str, position: int, attempt: Attempt) -> dict[str, Any]:
    return {"exchange_id": exchange_id, "position": position, **asdict(attempt)}


def _insert_rows(
    connection: "duckdb.DuckDBPyConnection", table: str, columns: Sequence[tuple[str, str]], rows: Sequence[dict[str, Any]]
) -> int:
    """Insert rows column by column (DuckDB's executemany takes a millisecond a row); returns how many were new."""
    if not rows:
        return 0
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(f"unnest(?::VARCHAR[])::{kind} AS {name}" for name, kind in columns)
    lists = [[None if row[name] is None else str(row[name]) for row in rows] for name, _ in columns]
    done = connection.execute(f"INSERT OR IGNORE INTO {table} ({names}) SELECT {values}", lists).fetchone()
    return int(done[0]) if done else 0


def _insert(connection: "duckdb.DuckDBPyConnection", exchanges: Sequence[Exchange]) -> int:
    connection.execute("BEGIN")
    # The same exchange twice in one statement would break the key even under OR IGNORE.
    unique = {exchange.id: exchange for exchange in exchanges}
    new = _insert_rows(connection, "exchanges", _EXCHANGE_COLUMNS, _logged(_exchange_row(e) for e in unique.values()))
    attempts = [row for exchange in unique.values() for row in _attempt_rows(exchange)]
    _insert_rows(connection, "attempts", _ATTEMPT_COLUMNS, attempts)
    connection.execute("COMMIT")
    return new


def _apply(connection: "duckdb.DuckDBPyConnection", records: Sequence[dict[str, Any]]) -> None:
    connection.execute("BEGIN")
    for table, columns, rows in (
        ("exchanges", _EXCHANGE_COLUMNS, _logged(r["exchange"] for r in records if "exchange" in r)),
        ("attempts", _ATTEMPT_COLUMNS, [a for r in records for a in r.get("attempts", ())]),
        ("feedback", _FEEDBACK_COLUMNS, [r["feedback"] for r in records if "feedback" in r]),
    ):
        _insert_rows(connection, table, columns, rows)
    connection.execute("COMMIT")


def _read_spool(path: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    records, torn = [], []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            torn.append(line)
            continue
        records.append(record)
    return records, torn


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
