"""Copies of the log in files: exports and backups. Each is noted, so that what is forgotten is taken out of it as well."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shammah_data import queries, rows
from shammah_data.database import FileDatabase
from shammah_data.durable import PRIVATE_FILE, atomic_write, fsync_file, fsync_folder, sha256
from shammah_data.errors import InputError, LogError
from shammah_data.log import ExchangeLog
from shammah_data.present import minute
from shammah_data.queries import Selection
from shammah_data.schema import TABLES
from shammah_data.session import LocalSession, Session, fetch, literal, transaction, write_file
from shammah_data.text import one_line, printable

if TYPE_CHECKING:
    from shammah_data.forget import Forgotten

MARKER = "<!-- exchange {} -->"
_BATCH = 2000
_LONGEST_NAME = 80


def export(log: ExchangeLog, path: Path) -> int:
    """Write every exchange with its rating and correction, oldest first; returns how many.

    .parquet gets Parquet, .md Markdown, anything else JSON lines that `shammah-log import` reads back. Raises LogError, and
    InputError where the file cannot be made.
    """
    literal(path)  # else it could not be noted
    kind = {".parquet": "parquet", ".md": "markdown"}.get(path.suffix, "json")
    try:
        # Here, as DuckDB's error would be one of the log.
        path.touch(PRIVATE_FILE, exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        if kind == "markdown":
            count = _markdown(log.read(lambda session: fetch(session, queries.EXPORTED)), path)
        else:
            count = log.read(lambda session: write_file(session, queries.EXPORTED, path, kind))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    path.chmod(PRIVATE_FILE)
    _note(log, path, kind)
    return count


def backup(log: ExchangeLog, path: Path) -> int:
    """Write the whole log to one database file; returns how many exchanges are in it. Raises LogError, InputError."""
    literal(path)  # else it could not be noted
    try:
        folder = Path(tempfile.mkdtemp(prefix=".shammah-backup-", dir=path.parent))
    except OSError as error:
        raise LogError(f"{path}: cannot be written: {error.strerror}") from error
    made = folder / "log.duckdb"

    def copy(session: Session) -> int:
        FileDatabase(made).run(lambda _: None, write=True, wait=0.0)
        engine = session.engine
        engine.execute(f"ATTACH {literal(str(made))} AS made")
        try:
            with transaction(LocalSession(engine)):
                for table in TABLES:
                    engine.execute(f"DELETE FROM made.{table}")
                    engine.execute(f"INSERT INTO made.{table} SELECT * FROM {session.source(f'SELECT * FROM {table}')}")
            (row,) = fetch(LocalSession(engine), "SELECT count(*) AS n FROM made.exchanges")
        finally:
            engine.execute("DETACH made")
        return int(row["n"])

    try:
        count = log.change(copy)
        made.chmod(PRIVATE_FILE)
        fsync_file(made)
        os.replace(made, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise LogError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _note(log, path, "backup")
    return count


def restore(log: ExchangeLog, path: Path, told: "Callable[[Forgotten], None]" = lambda _: None) -> tuple[int, int]:
    """Add what a backup holds and the log does not; nothing that is there is changed. Returns (new, known).

    What was forgotten, here or in the backup, stays so: what only the backup had forgotten is forgotten here too, and `told`
    what came of it. Raises InputError, LogError.
    """
    from shammah_data.forget import forget  # which knows the copies

    with tempfile.TemporaryDirectory(prefix="shammah-restore-") as folder:
        # A copy: an older backup is migrated on the way, and the backup itself must stay as it is.
        copy = FileDatabase(Path(folder) / "log.duckdb")
        try:
            shutil.copyfile(path, copy.path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            held = copy.run(_held, write=True, wait=0.0)
        except LogError as error:
            # What cures a log is no cure of this file.
            reason = str(error).partition(": run `")[0].removeprefix(f"{copy.path}: ").replace(str(copy.path), path.name)
            raise InputError(f"{path}: not a backup of the log: {reason}") from error

        def others(session: Session) -> None:
            with transaction(session):
                for row in held["tombstones"]:
                    session.execute(
                        "INSERT OR IGNORE INTO tombstones VALUES (?::UUID, ?::TIMESTAMP, ?::TIMESTAMP, ?::BOOLEAN)",
                        [str(value) for value in row.values()],
                    )
                for row in held["runs"]:
                    session.execute(
                        "INSERT OR IGNORE INTO runs VALUES (?, ?::TIMESTAMP, ?::TIMESTAMP, ?, ?, ?, ?)",
                        [None if value is None else str(value) for value in row.values()],
                    )

        if ids := log.read(lambda session: _still_there(session, held["tombstones"]), wait=10.0):
            told(forget(log, log.home, Selection(ids=ids)))
        log.change(others)
        total = held["count"]
        before = log.read(lambda session: fetch(session, "SELECT count(*) AS n FROM exchanges"))[0]["n"]
        with copy.session(write=False, wait=0.0) as session:
            log.add_records(_records(session))
        after = log.read(lambda session: fetch(session, "SELECT count(*) AS n FROM exchanges"))[0]["n"]
    return after - before, total - (after - before)


def _held(session: Session) -> dict[str, Any]:
    return {
        "tombstones": fetch(session, "SELECT * FROM tombstones"),
        "runs": fetch(session, "SELECT * FROM runs"),
        "count": fetch(session, "SELECT count(*) AS n FROM exchanges")[0]["n"],
    }


def _still_there(session: Session, tombstones: list[dict[str, Any]]) -> tuple[str, ...]:
    sql = """SELECT id FROM exchanges WHERE id IN (SELECT unnest(from_json_strict(?, '["VARCHAR"]'))::UUID)"""
    listed = json.dumps([str(each["exchange_id"]) for each in tombstones])
    return tuple(str(row["id"]) for row in fetch(session, sql, [listed]))


def _records(session: Session) -> Iterator[dict[str, Any]]:
    """Everything in a backup as records, exchanges first; read in pieces, for it may be large."""
    for table, record in (
        ("exchanges", lambda row: {"exchange": row}),
        ("attempts", lambda row: {"attempts": [row]}),
        ("feedback", lambda row: {"feedback": row}),
        ("outcomes", lambda row: {"outcome": row}),
        ("rivals", lambda row: {"rival": row}),
    ):
        cursor = session.engine.cursor().execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description or ()]
        while batch := cursor.fetchmany(_BATCH):
            for values in batch:
                yield record(dict(zip(names, values, strict=True)))


def noted(session: Session) -> list[dict[str, Any]]:
    """The copies that were made: path, kind, made_at, sha256."""
    return fetch(session, "SELECT * FROM copies ORDER BY made_at")


def note(session: Session, path: Path, kind: str) -> None:
    """Remember a copy, or what it has become."""
    with transaction(session):
        session.execute(
            "INSERT OR REPLACE INTO copies VALUES (?, ?, ?::TIMESTAMP, ?)",
            [str(path.absolute()), kind, str(rows.now()), sha256(path)],
        )


def drop_note(session: Session, path: str) -> None:
    """Forget about a copy that is gone."""
    with transaction(session):
        session.execute("DELETE FROM copies WHERE path = ?", [path])


def _note(log: ExchangeLog, path: Path, kind: str) -> None:
    try:
        log.change(lambda session: note(session, path, kind))
    except BaseException:
        # Nobody would take out of it what is forgotten.
        path.unlink(missing_ok=True)
        raise


def _markdown(found: list[dict[str, Any]], path: Path) -> int:
    """One section per exchange; earlier turns have their own. A quoted line cannot be taken for the marker before a section."""
    parts = ["# Exchanges\n"]
    for row in found:
        who = one_line(row["teacher_model"] or row["model_version"] or row["source"], _LONGEST_NAME)
        rated = f" · rated {row['rating']}" if row["rating"] else ""
        parts.append(f"\n{MARKER.format(row['id'])}\n## {minute(row['created_at'])} · {row['tier']} · {who}{rated}\n")
        parts.append(f"\nQuestion:\n\n{_quoted(row['query'])}\n\nAnswer:\n\n{_quoted(row['answer'])}\n")
        if row["correction"]:
            withdrawn = ", and withdrawn" if row["withdrawn"] else ""
            parts.append(f"\nCorrected{withdrawn}:\n\n{_quoted(row['correction'])}\n")
    atomic_write(path, "".join(parts).encode("utf-8", "replace"))
    return len(found)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in printable(text).splitlines() or [""])
