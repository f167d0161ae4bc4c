"""Forgetting: exchanges taken out of the log and of everything that was made from it. Knows where copies lie.

The log's file is written anew, for DuckDB only marks what it deletes. Versions that learned from a forgotten exchange serve
until the next run has published one that did not; that run deletes them. What is to be done is kept in a file until it is done:
one that was interrupted is finished by the next.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shammah_data import copies, embeddings, queries, rows
from shammah_data.announced import announce
from shammah_data.database import FileDatabase
from shammah_data.durable import PRIVATE_FILE, atomic_write, fsync_folder, sha256
from shammah_data.errors import ArtifactError, LogError
from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog
from shammah_data.past import RECORD
from shammah_data.queries import Selection
from shammah_data.session import LocalSession, LogTakenError, Session, fetch, literal, transaction
from shammah_data.spool import Spool
from shammah_data.store import ModelStore
from shammah_data.text import counted
from shammah_data.tombstones import tombstones, versions_that_saw
from shammah_data.unlearn import unlearn
from shammah_data.unnamed import unname, unname_record, untell

Pair = tuple[str, str]
_WAIT = 10.0
# What may stand before a question or an answer in a line that was typed.
_COMMANDS = ("/fix ", "/critical ", "/teacher ")


@dataclass
class Forgotten:
    """What came of it: `removed` names files that were rewritten or deleted, `remaining` what the user must see to."""

    exchanges: int = 0
    quoted: int = 0
    removed: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)


def forget(log: ExchangeLog, home: Home, selection: Selection | None) -> Forgotten:
    """Forget the selected exchanges with their audits, and what an interrupted call left.

    Those that are already forgotten are no error; None selects nothing. Raises LogError.
    """
    with _alone(home):
        return _forget(log, home, selection)


def doomed(session: Session, selection: Selection) -> list[dict[str, Any]]:
    """What goes when these exchanges are forgotten, with its audits, oldest first.

    Words are also looked for in the earlier turns of an exchange, for a client brings some along that were logged nowhere
    else; those that repeat a forgotten exchange are taken out of it, and it stays.
    """
    found = _with_audits(session, selection.condition)
    pairs, words = _pairs(found), [word.lower() for word in selection.words]
    ids = {str(row["id"]) for row in found}
    if words:
        for row in fetch(session, f"SELECT id, context FROM rated WHERE {selection.after_turns}"):
            context = str(row["context"])
            said = "\n".join(turn["content"] for turn in json.loads(without(context, pairs) or context)).lower()
            if all(word in said for word in words):
                ids.add(str(row["id"]))
    return found if len(ids) == len(found) else _with_audits(session, Selection(ids=tuple(ids)).condition)


def _with_audits(session: Session, condition: str) -> list[dict[str, Any]]:
    return fetch(session, f"SELECT * FROM rated WHERE {queries.with_audits(condition)} ORDER BY created_at, turn, id")


def _pairs(rows: Iterable[dict[str, Any]]) -> set[Pair]:
    return {(row["query"], answer) for row in rows for answer in (row["answer"], row["correction"] or row["answer"])}


def _forget(log: ExchangeLog, home: Home, selection: Selection | None) -> Forgotten:
    told = Forgotten()
    chosen = log.read(lambda session: doomed(session, selection), wait=_WAIT) if selection else []
    left, pairs = _unfinished(home)
    ids = list(dict.fromkeys([*left, *(str(row["id"]) for row in chosen)]))
    if not ids:
        return told
    pairs |= _pairs(chosen)
    try:
        announce(home.tombstones, ids)
    except OSError as error:
        raise LogError(f"{home.tombstones}: cannot be written: {error.strerror}") from error
    try:
        atomic_write(home.forgetting, json.dumps({"ids": ids, "pairs": sorted(pairs)}).encode())
    except OSError as error:
        raise LogError(f"{home.forgetting}: cannot be written: {error.strerror}") from error
    told.exchanges = len(ids)
    told.quoted = log.change(lambda session: erase(session, ids, pairs))
    if log.file is not None:
        log.file.rewrite(_WAIT)
    else:
        told.remaining.append("the server's database file: run `shammah-log compact` there")
    _runs(home, set(ids), pairs, told)
    _torn(home, ids, told)
    _typed(home, pairs, told)
    if vectors := embeddings.forget(home, ids):
        told.removed.append(f"{counted(vectors, 'vector of a question', 'vectors of questions')}, for the search by likeness")
    if (answers := home.cache / "heldout").exists():
        shutil.rmtree(answers)
        told.removed.append("what versions answered to held-out questions; the next run asks them again")
    _indexes(home, ids, told)
    for copy in log.read(copies.noted, wait=_WAIT):
        _copy(log, copy, ids, pairs, told)
    if home.damaged.exists():
        told.remaining.append(f"{home.damaged} may hold it: delete that folder when you no longer need it")
    told.versions = versions_that_saw(ModelStore(home.models), log.read(tombstones, wait=_WAIT))
    for done in (*home.root.glob(f".{home.forgetting.name}.*"), home.forgetting):
        done.unlink(missing_ok=True)
    fsync_folder(home.root)
    return told


def unfinished(home: Home) -> list[str]:
    """The ids that an interrupted call has still to forget. Raises LogError."""
    return _unfinished(home)[0]


def _unfinished(home: Home) -> tuple[list[str], set[Pair]]:
    try:
        kept = json.loads(home.forgetting.read_bytes())
        return [str(one) for one in kept["ids"]], {(str(question), str(answer)) for question, answer in kept["pairs"]}
    except FileNotFoundError:
        return [], set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LogError(f"{home.forgetting}: cannot be read ({error}): delete it, and forget again what was not") from error


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One at a time: what is still to be done is in one file."""
    lock = FileLock(home.root / f".{home.forgetting.stem}.lock", timeout=_WAIT, mode=PRIVATE_FILE)
    try:
        lock.acquire()
    except Timeout as error:
        raise LogTakenError(f"{home.root}: another process is forgetting; try again in a moment") from error
    except OSError as error:
        raise LogError(f"{home.root}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def erase(session: Session, ids: Sequence[str], pairs: set[Pair]) -> int:
    """Delete exchanges with their audits, attempts and ratings, and take them out of the context of later turns.

    Returns how many later turns quoted them. In one transaction.
    """
    listed = json.dumps(list(ids))
    chosen = """(SELECT unnest(from_json_strict(?, '["VARCHAR"]'))::UUID)"""
    with transaction(session):
        # An audit may have come since they were chosen.
        audited = fetch(session, f"SELECT id FROM rated WHERE {queries.with_audits(f'id IN {chosen}')}", [listed, listed])
        listed = json.dumps(list({*ids, *(str(row["id"]) for row in audited)}))
        session.execute(
            f"INSERT OR IGNORE INTO tombstones SELECT id, logged_at, ?::TIMESTAMP, "
            f"tier IN ('teacher', 'import') OR rating IS NOT NULL FROM rated WHERE id IN {chosen}",
            [str(rows.now()), listed],
        )
        for table, key in (
            ("attempts", "exchange_id"),
            ("feedback", "exchange_id"),
            ("outcomes", "exchange_id"),
            ("rivals", "exchange_id"),
            ("exchanges", "id"),
        ):
            session.execute(f"DELETE FROM {table} WHERE {key} IN {chosen}", [listed])
        for table in ("attempts", "rivals"):
            untell(session, table, {question for question, _ in pairs})
        unname(session, {question for question, _ in pairs})
        return _unquote(session, "exchanges", pairs)


def _unquote(session: Session, table: str, pairs: set[Pair]) -> int:
    quoting = 0
    for row in fetch(session, f"SELECT id, context FROM {table} WHERE context::VARCHAR <> '[]'"):
        left = without(str(row["context"]), pairs)
        if left is not None:
            quoting += 1
            session.execute(f"UPDATE {table} SET context = ? WHERE id = ?", [left, str(row["id"])])
    return quoting


def without(context: str, pairs: set[Pair]) -> str | None:
    """A context without the turns that repeat one of these exchanges; None where it has none of them."""
    turns = json.loads(context)
    gone: set[int] = set()
    for n, (question, answer) in enumerate(pairwise(turns)):
        if (question["content"], answer["content"]) in pairs and question["role"] == "user":
            gone |= {n, n + 1}
    if not gone:
        return None
    return json.dumps([turn for n, turn in enumerate(turns) if n not in gone], ensure_ascii=False)


def _runs(home: Home, ids: set[str], pairs: set[Pair], told: Forgotten) -> None:
    """Snapshots and weights that hold a forgotten exchange go as a whole; of a run's answers only the lines about it."""
    questions, texts = {normalize(question) for question, _ in pairs}, {normalize(answer) for _, answer in pairs}
    for folder in sorted(home.runs.glob("*/")) if home.runs.exists() else ():
        snapshot = folder / "snapshot.parquet"
        if snapshot.exists() and _holds(snapshot, ids, pairs):
            for weights in ("merged", "learned", "checkpoint"):
                shutil.rmtree(folder / weights, ignore_errors=True)
            (folder / "lineage.json").unlink(missing_ok=True)
            # The last to go: it is what tells an interrupted call's successor that the others must.
            snapshot.unlink()
            told.removed.append(f"{snapshot} and the weights made from it")
        if unname_record(folder / RECORD, {question for question, _ in pairs}):
            told.removed.append(f"its name in {folder / RECORD}")
        answers = folder / "heldout.jsonl"
        if answers.exists():
            lines = answers.read_bytes().splitlines()
            kept = [line for line in lines if not _tells(line, questions, texts)]
            if len(kept) < len(lines):
                atomic_write(answers, b"".join(line + b"\n" for line in kept))
                told.removed.append(f"{counted(len(lines) - len(kept), 'line')} of {answers}")


def _tells(line: bytes, questions: set[str], texts: set[str]) -> bool:
    """Whether a held-out answer is to one of these questions, or it, or what stands beside it, is one of these texts."""
    try:
        answer = json.loads(line)
        said = (answer.get("answer"), answer.get("reference"), (answer.get("repeated") or {}).get("answer"))
        asked = normalize(str(answer.get("query", "")))
        return asked in questions or any(normalize(str(text or "")) in texts - {""} for text in said)
    except (ValueError, AttributeError, RecursionError):
        return True  # no report can read it, and it cannot be shown to be clean


def _indexes(home: Home, ids: Sequence[str], told: Forgotten) -> None:
    store = ModelStore(home.models)
    for version in store.versions():
        try:
            count = unlearn(store, version, set(ids))
        except (ArtifactError, OSError) as error:
            told.remaining.append(f"{version} may hold it as text ({error}): the next run that publishes deletes it")
            continue
        if count:
            told.removed.append(f"{counted(count, 'exchange')} in the learned index of {version}")


def _holds(snapshot: Path, ids: set[str], pairs: set[Pair]) -> bool:
    import duckdb

    with duckdb.connect(":memory:") as connection:
        try:
            found = connection.execute("SELECT id, context FROM read_parquet(?)", [str(snapshot)]).fetchall()
        except duckdb.Error:
            return True  # what cannot be read cannot be shown to be clean
    return any(identity in ids or without(context, pairs) is not None for identity, context in found)


def _torn(home: Home, ids: Sequence[str], told: Forgotten) -> None:
    torn = Spool(home.spool).torn
    if not torn.exists():
        return
    lines = torn.read_bytes().splitlines()
    kept = [line for line in lines if not any(one.encode() in line for one in ids)]
    if len(kept) < len(lines):
        atomic_write(torn, b"".join(line + b"\n" for line in kept))
        told.removed.append(f"{counted(len(lines) - len(kept), 'line')} of {torn}")


def _typed(home: Home, pairs: set[Pair], told: Forgotten) -> None:
    """What a user typed, question or correction, is in a session's history as well, perhaps after a command."""
    if not home.history.exists():
        return
    gone = {text.strip() for pair in pairs for text in pair} - {""}
    lines = home.history.read_bytes().splitlines()
    kept = [line for line in lines if not _says(line, gone)]
    if len(kept) < len(lines):
        atomic_write(home.history, b"".join(line + b"\n" for line in kept))
        told.removed.append(f"{counted(len(lines) - len(kept), 'line')} of {home.history}")


def _says(line: bytes, texts: set[str]) -> bool:
    """Whether a line of the history is one of these texts."""
    try:
        typed = json.loads(line)
    except ValueError:
        return True  # the session passes over what cannot be read, and it cannot be shown to be clean
    if not isinstance(typed, str):
        return False
    typed = typed.strip()
    rests = (typed.removeprefix(command).strip() for command in _COMMANDS if typed.startswith(command))
    return typed in texts or any(rest in texts for rest in rests)


def _copy(log: ExchangeLog, copy: dict[str, Any], ids: Sequence[str], pairs: set[Pair], told: Forgotten) -> None:
    path = Path(copy["path"])
    if not path.exists():
        told.remaining.append(f"{path} ({copy['kind']} of {copy['made_at']:%Y-%m-%d}) was moved or deleted: see to it")
        log.change(lambda session: copies.drop_note(session, copy["path"]))
        return
    try:
        changed = sha256(path) != copy["sha256"]
    except OSError as error:
        told.remaining.append(f"{path} ({copy['kind']}) cannot be read ({error.strerror}): see to it")
        return
    if changed:
        told.remaining.append(f"{path} ({copy['kind']}) was changed since it was made: delete it, or take it out by hand")
        return
    if copy["kind"] == "report":
        # It can be made again at any time.
        try:
            path.unlink()
        except OSError as error:
            told.remaining.append(f"{path} (report) cannot be deleted ({error.strerror}): delete it")
            return
        told.removed.append(f"the report {path}")
        log.change(lambda session: copies.drop_note(session, copy["path"]))
        return
    strip: dict[str, Callable[[Path, Sequence[str], set[Pair]], None]] = {
        "json": _json_without,
        "parquet": _parquet_without,
        "markdown": _markdown_without,
        "backup": _backup_without,
    }
    try:
        strip[copy["kind"]](path, ids, pairs)
    except OSError as error:
        told.remaining.append(f"{path} ({copy['kind']}) cannot be rewritten ({error.strerror}): delete it")
        return
    told.removed.append(f"out of the {'backup' if copy['kind'] == 'backup' else 'export'} {path}")
    log.change(lambda session: copies.note(session, path, copy["kind"]))


def _json_without(path: Path, ids: Sequence[str], pairs: set[Pair]) -> None:
    gone = set(ids)
    made = path.with_name(f".{path.name}.new")
    with path.open("rb") as source, made.open("wb") as target:
        for line in source:
            row = json.loads(line)
            if row["id"] in gone:
                continue
            left = without(json.dumps(row["context"], ensure_ascii=False), pairs) if row["context"] else None
            if left is not None:
                row["context"] = json.loads(left)
                line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            target.write(line)
    made.chmod(PRIVATE_FILE)
    os.replace(made, path)


def _parquet_without(path: Path, ids: Sequence[str], pairs: set[Pair]) -> None:
    import duckdb

    made = path.with_name(f".{path.name}.new")
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE kept AS SELECT * FROM read_parquet(?)", [str(path)])
        connection.execute("DELETE FROM kept WHERE list_contains(?::VARCHAR[], id)", [list(ids)])
        _unquote(LocalSession(connection), "kept", pairs)
        connection.execute(f"COPY kept TO {literal(str(made))} (FORMAT parquet)")
    made.chmod(PRIVATE_FILE)
    os.replace(made, path)


def _markdown_without(path: Path, ids: Sequence[str], pairs: set[Pair]) -> None:
    start = "\n" + copies.MARKER.split("{}")[0]
    title, *sections = path.read_text(encoding="utf-8").split(start)
    kept = [section for section in sections if section.split(" ", 1)[0] not in ids]
    atomic_write(path, start.join([title, *kept]).encode("utf-8"))


def _backup_without(path: Path, ids: Sequence[str], pairs: set[Pair]) -> None:
    database = FileDatabase(path)
    database.run(lambda session: erase(session, ids, pairs), write=True, wait=_WAIT)
    database.rewrite(_WAIT)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
