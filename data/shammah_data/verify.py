"""Whether a home is whole: the log, what waits for it, snapshots, versions, permissions. Reads, repairs nothing."""

import json
import os
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from shammah_data.durable import sha256
from shammah_data.errors import ShammahError, reason
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.past import RECORD
from shammah_data.session import Session, fetch, read_every_row
from shammah_data.spool import Spool
from shammah_data.store import ModelStore
from shammah_data.text import counted

_ORPHANS = {
    ("attempt", "attempts"): "SELECT count(*) AS n FROM attempts WHERE exchange_id NOT IN (SELECT id FROM exchanges)",
    ("rating", "ratings"): "SELECT count(*) AS n FROM feedback WHERE exchange_id NOT IN (SELECT id FROM exchanges)",
    ("audit", "audits"): "SELECT count(*) AS n FROM outcomes WHERE exchange_id NOT IN (SELECT id FROM exchanges)",
    (
        "answer of a rival",
        "answers of rivals",
    ): "SELECT count(*) AS n FROM rivals WHERE exchange_id NOT IN (SELECT id FROM exchanges)",
    ("unreadable context", "unreadable contexts"): "SELECT count(*) AS n FROM exchanges WHERE NOT json_valid(context)",
    (
        "forgotten exchange that is still there",
        "forgotten exchanges that are still there",
    ): "SELECT count(*) AS n FROM exchanges WHERE id IN (SELECT exchange_id FROM tombstones)",
}
# One row of text per exchange, with its rating: what the log says, whatever file or server holds it.
_CONTENT = (
    "SELECT coalesce(sha256(string_agg(line, chr(10) ORDER BY line)), '') AS digest, count(*) AS n FROM ("
    "SELECT concat_ws(chr(9), id::VARCHAR, created_at::VARCHAR, tier, sha256(query), sha256(answer), sha256(context), rating, "
    "sha256(correction)) AS line FROM rated)"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Literal["ok", "problem"]
    name: str
    told: str


def verify(log: ExchangeLog, home: Home) -> list[Finding]:
    """Everything that was looked at, in the order in which a problem should be solved."""
    looks = {"spool": _waiting, "snapshots": _snapshots, "versions": _versions, "privacy": _modes}
    found = _log(log)
    for name, look in looks.items():
        try:
            found += look(home)
        except OSError as error:
            found.append(Finding("problem", name, reason(error)))
    return found


def content_digest(session: Session) -> tuple[str, int]:
    """(SHA-256, exchanges) over what the log says: the same for a log and its restored backup."""
    (row,) = fetch(session, _CONTENT)
    return row["digest"], row["n"]


def _log(log: ExchangeLog) -> list[Finding]:
    try:
        log.read(read_every_row, wait=10.0)
        digest, count = log.read(content_digest, wait=10.0)
        found = [Finding("ok", "log", f"{counted(count, 'exchange')}, every row read, digest {digest[:16]}")]
        for name, sql in _ORPHANS.items():
            if number := log.read(partial(_count, sql=sql), wait=10.0):
                found.append(Finding("problem", "log", counted(number, *name)))
    except ShammahError as error:
        return [Finding("problem", "log", str(error))]
    if len(found) == 1:
        found.append(Finding("ok", "log", "no orphans: every attempt and rating has its exchange"))
    return found


def _count(session: Session, sql: str) -> int:
    return int(fetch(session, sql)[0]["n"])


def _waiting(home: Home) -> list[Finding]:
    spool = Spool(home.spool)
    waiting = len(spool.read())
    found = [Finding("ok", "spool", f"{counted(waiting, 'record waits', 'records wait')}" if waiting else "empty")]
    if spool.torn.exists():
        lines = len(spool.torn.read_bytes().splitlines())
        told = counted(lines, "line that could not be used is", "lines that could not be used are")
        found.append(Finding("problem", "spool", f"{told} kept in {spool.torn}: read {'it' if lines == 1 else 'them'}"))
    if home.forgetting.exists():
        found.append(Finding("problem", "log", "a forget was interrupted: `shammah-log forget` finishes it"))
    if home.damaged.exists():
        found.append(Finding("problem", "log", f"{home.damaged} holds a damaged database: delete it when it is of no more use"))
    return found


def _snapshots(home: Home) -> list[Finding]:
    found = []
    good = 0
    for path in sorted(home.runs.glob("*/snapshot.parquet")) if home.runs.exists() else ():
        record = path.parent / RECORD
        try:
            expected = json.loads(record.read_text(encoding="utf-8"))["figures"]["snapshot_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a run that is not finished has no record to compare with
        if sha256(path) == expected:
            good += 1
        else:
            found.append(Finding("problem", "snapshots", f"{path}: not the bytes that were trained on"))
    return [*found, Finding("ok", "snapshots", f"{good} as they were written")]


def _versions(home: Home) -> list[Finding]:
    store = ModelStore(home.models)
    found = []
    good = 0
    for name in store.versions():
        try:
            store.verify(name)
            good += 1
        except ShammahError as error:
            found.append(Finding("problem", "versions", str(error)))
    return [*found, Finding("ok", "versions", f"{good} with every byte as published")]


def _modes(home: Home) -> list[Finding]:
    if os.name == "nt":
        return [Finding("ok", "privacy", "not checked on this system")]
    open_to_others = [
        path
        for path in [home.root, *home.root.rglob("*")]
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077 and _ours(home, path)
    ]
    if open_to_others:
        more = f" and {len(open_to_others) - 1} more" if len(open_to_others) > 1 else ""
        told = f"{open_to_others[0]}{more} can be read by others: chmod -R go= {home.root}"
        return [Finding("problem", "privacy", told)]
    return [Finding("ok", "privacy", "nothing can be read by others")]


def _ours(home: Home, path: Path) -> bool:
    """Base models hold nothing of the user's."""
    return home.bases not in (path, *path.parents)
