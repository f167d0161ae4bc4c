"""What is read from the log: one function per question, each over an open session. Knows SQL, no files and no locks."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shammah_data import rows
from shammah_data.durable import sha256
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import IMPORTED, Audited
from shammah_data.session import Session, fetch, literal, write_file

_ID_PREFIX = re.compile(r"[0-9a-f-]+")
# Of exchanges: what somebody asked here, and not a file or an audit.
ASKED_HERE = f"source <> 'audit' AND tier <> 'import' AND NOT starts_with(source, '{IMPORTED}')"
# Who answered here: what came from a file counts as that, whoever answered it where it was asked, an audit too.
WHO = f"CASE WHEN starts_with(source, '{IMPORTED}') THEN 'import' ELSE tier END"
# A snapshot never changes: not even its owner writes to it.
_READ_ONLY = 0o400


@dataclass(frozen=True)
class Stats:
    """Counts over the log. `per_tier` maps who answered to (exchanges, median latency in ms, cost in USD).

    Who answered is a tier, or "unanswered". What the teacher was asked in audits, nobody asked for: it is counted apart.
    """

    exchanges: int
    learnable: int
    waiting: int
    per_tier: dict[str, tuple[int, float | None, float]]
    feedback: int
    runs: int
    forgotten: int
    spooled: int
    audits: int
    audits_usd: float


@dataclass(frozen=True)
class Selection:
    """Which exchanges are meant: those that meet every condition given. Times are UTC, `before` not included."""

    ids: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    since: datetime | None = None
    before: datetime | None = None
    source: str | None = None
    teacher_model: str | None = None

    @property
    def condition(self) -> str:
        """The WHERE condition over `rated`. Raises InputError where nothing is asked for."""
        parts = [*self._parts, *map(holds, self.words)]
        if not parts:
            raise InputError("which exchanges? Give ids, or --search, --since, --before, --source or --teacher-model")
        return " AND ".join(parts)

    @property
    def after_turns(self) -> str:
        """The WHERE condition over `rated` for what follows earlier turns and meets all conditions but the words."""
        return " AND ".join(["context::VARCHAR <> '[]'", *self._parts])

    @property
    def _parts(self) -> list[str]:
        parts = []
        if self.ids:
            parts.append(_one_of(self.ids))
        if self.since is not None:
            parts.append(f"created_at >= {literal(rows.utc(self.since))}::TIMESTAMP")
        if self.before is not None:
            parts.append(f"created_at < {literal(rows.utc(self.before))}::TIMESTAMP")
        if self.source is not None:
            parts.append(f"source = {literal(self.source)}")
        if self.teacher_model is not None:
            parts.append(f"teacher_model = {literal(self.teacher_model)}")
        return parts


def _one_of(ids: Iterable[str]) -> str:
    """The condition that an id is one of these."""
    return f"id IN ({', '.join(f'{literal(one)}::UUID' for one in ids)})"


def holds(word: str) -> str:
    """The WHERE condition over `rated` that a word is in query, answer or correction, in any case.

    Raises InputError for an empty one, which is in every exchange.
    """
    if not word.strip():
        raise InputError("the word to search for is empty")
    return f"contains(lower(concat_ws(chr(10), query, answer, correction)), lower({literal(word)}))"


def recent(session: Session, limit: int) -> list[dict[str, Any]]:
    """The newest exchanges as rows of the `rated` view, newest first."""
    return fetch(session, "SELECT * FROM rated ORDER BY created_at DESC, turn DESC LIMIT ?", [limit])


def search(session: Session, words: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """The newest exchanges that hold every one of the words in query, answer or correction, in any case."""
    condition = " AND ".join(map(holds, words)) or "true"
    return fetch(session, f"SELECT * FROM rated WHERE {condition} ORDER BY created_at DESC, turn DESC LIMIT ?", [limit])


def selected(session: Session, selection: Selection) -> list[dict[str, Any]]:
    """The exchanges that are meant, oldest first."""
    return fetch(session, f"SELECT * FROM rated WHERE {selection.condition} ORDER BY created_at, turn, id")


def with_audits(condition: str) -> str:
    """The WHERE condition over `rated` for the same exchanges and what the teacher was asked in audits of them."""
    return (
        f"({condition} OR (source = 'audit' AND (session, turn, query) IN "
        f"(SELECT (session, turn, query) FROM rated WHERE {condition})))"
    )


def find(session: Session, id_or_prefix: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One exchange and its attempts, by id or an unambiguous beginning of it. Raises LogError."""
    prefix = id_or_prefix.lower()
    found = []
    if _ID_PREFIX.fullmatch(prefix):
        found = fetch(session, "SELECT * FROM rated WHERE starts_with(id::VARCHAR, ?) LIMIT 2", [prefix])
    if not found:
        raise LogError(f"no exchange {id_or_prefix!r}: `shammah-log list` shows the ids")
    if len(found) > 1:
        raise LogError(f"{id_or_prefix} is the beginning of several ids: give more of it")
    attempts = fetch(session, "SELECT * FROM attempts WHERE exchange_id = ?::UUID ORDER BY position", [str(found[0]["id"])])
    return found[0], attempts


# What may be learned from, `said_at`: when the answer was given, or corrected last.
_SAID = (
    "(SELECT l.*, greatest(l.created_at, f.corrected_at) AS said_at FROM learnable l LEFT JOIN "
    "(SELECT exchange_id, max(created_at) AS corrected_at FROM feedback WHERE correction IS NOT NULL GROUP BY exchange_id) f "
    "ON f.exchange_id = l.id)"
)


def learnable(session: Session, ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Every exchange that may be learned from: id, created_at, said_at, query, context, target, weight, rating, source.

    In the order in which they were said (`said_at`): what the user corrected now is newer than what was asked since. `ids`:
    of these exchanges only, of which there is one at least.
    """
    columns = "id, created_at, said_at, query, context, target, weight, rating, source"
    condition = "true" if ids is None else _one_of(ids)
    return fetch(session, f"SELECT {columns} FROM {_SAID} WHERE {condition} ORDER BY said_at, turn, id")


def questions(session: Session) -> list[dict[str, Any]]:
    """Id and query of every exchange that may be learned from and follows no earlier turn."""
    return fetch(session, "SELECT id, query FROM learnable WHERE context::VARCHAR = '[]'")


def rated_by(session: Session, feedback_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The exchanges that these ratings are about as `rated` has them now, each with the `feedback_ids` of them among these.

    `target` and `said_at` are those of `learnable`, None where it may not be learned from. What is not in the log is left out.
    """
    about: dict[str, list[str]] = {}
    for row in fetch(session, f"SELECT id, exchange_id FROM feedback WHERE {_one_of(feedback_ids)}"):
        about.setdefault(str(row["exchange_id"]), []).append(str(row["id"]))
    if not about:
        return []
    # By ids that it knows beforehand DuckDB finds them in a quarter of the time of a join of the views.
    said = fetch(session, f"SELECT id, target, said_at FROM {_SAID} WHERE {_one_of(about)}")
    nothing = {"target": None, "said_at": None}
    said_of = {row["id"]: row for row in said}
    found = fetch(session, f"SELECT * FROM rated WHERE {_one_of(about)}")
    return [{**row, **said_of.get(row["id"], nothing), "feedback_ids": about[str(row["id"])]} for row in found]


def marks(session: Session) -> tuple[tuple[int, int | None], tuple[int, int | None]]:
    """What changes whenever a rating, and whenever a tombstone comes or goes, in a row of the server's instead of all ids."""
    (row,) = fetch(
        session,
        "SELECT f.n AS ratings, f.ids AS of_ratings, t.n AS forgotten, t.ids AS of_forgotten "
        "FROM (SELECT count(*) AS n, bit_xor(hash(id)) AS ids FROM feedback) f, "
        "(SELECT count(*) AS n, bit_xor(hash(exchange_id)) AS ids FROM tombstones) t",
    )
    return (row["ratings"], row["of_ratings"]), (row["forgotten"], row["of_forgotten"])


def rating_ids(session: Session) -> set[str]:
    """The ids of all ratings."""
    return {str(row["id"]) for row in fetch(session, "SELECT id FROM feedback")}


def forgotten_ids(session: Session) -> set[str]:
    """The ids of all that was forgotten."""
    return {str(row["exchange_id"]) for row in fetch(session, "SELECT exchange_id FROM tombstones")}


def judged_answers(session: Session) -> list[dict[str, Any]]:
    """Rated or audited answers of the model and of earlier exchanges: id, query, answer, rating, model_version; oldest first.

    One that was corrected is bad, whatever was said of the correction.
    """
    return fetch(
        session,
        "SELECT id, query, answer, CASE WHEN correction IS NOT NULL THEN 'bad' WHEN rating IS NOT NULL THEN rating "
        "WHEN agrees THEN 'good' ELSE 'bad' END AS rating, model_version "
        "FROM rated LEFT JOIN outcomes ON exchange_id = id AND version = coalesce(model_version, tier) "
        "WHERE tier IN ('learned', 'neural') AND (rating IS NOT NULL OR agrees IS NOT NULL) ORDER BY created_at, turn, id",
    )


def rejected(session: Session) -> list[dict[str, Any]]:
    """Answers that were rated bad or corrected, of what may be trained on, oldest first.

    Columns: id, created_at, query, context, answer.
    """
    return fetch(
        session,
        "SELECT id::VARCHAR AS id, created_at, query, context, answer FROM rated WHERE trainable AND complete "
        r"AND regexp_matches(answer, '\S') AND (rating = 'bad' OR correction IS NOT NULL) ORDER BY created_at, turn, id",
    )


def learnable_count(session: Session, since: datetime | None) -> int:
    """How many exchanges may be learned from, of those logged after `since` (UTC where it names no zone)."""
    if since is None:
        return int(fetch(session, "SELECT count(*) AS n FROM learnable")[0]["n"])
    # DuckDB would read a TIMESTAMP column as local time to compare it with a moment that has a zone.
    after = since.isoformat() if since.tzinfo is None else rows.utc(since)
    return int(fetch(session, "SELECT count(*) AS n FROM learnable WHERE logged_at > ?::TIMESTAMP", [after])[0]["n"])


def spent_since(session: Session, since: datetime) -> float:
    """What the teacher's answers since a time have cost, in USD; those of unknown price count nothing."""
    sql = "SELECT coalesce(sum(cost_usd), 0) AS usd FROM exchanges WHERE created_at >= ?::TIMESTAMP"
    return float(fetch(session, sql, [rows.utc(since)])[0]["usd"])


def news(session: Session, since: datetime) -> int:
    """How many exchanges that may be learned from, and ratings, came after a time."""
    after = since.isoformat() if since.tzinfo is None else rows.utc(since)
    (row,) = fetch(
        session,
        "SELECT (SELECT count(*) FROM learnable WHERE logged_at > ?::TIMESTAMP) "
        "+ (SELECT count(*) FROM feedback WHERE created_at > ?::TIMESTAMP) AS n",
        [after, after],
    )
    return int(row["n"])


# Of the outcomes o: whether the version gave this answer, and whether the other one would have given none.
GIVEN = "NOT EXISTS (SELECT 1 FROM rivals r WHERE r.exchange_id = o.exchange_id AND r.version = o.version)"
OUTCOME = (
    f"o.*, {GIVEN} AS given, EXISTS (SELECT 1 FROM rivals r WHERE r.exchange_id = o.exchange_id AND r.answer IS NULL) "
    "AS rival_declined"
)


def outcomes(session: Session, versions: Sequence[str], limit: int) -> list[Audited]:
    """What audits of these versions found: the newest, at most `limit` of each version; oldest first."""
    found = fetch(
        session,
        f"""SELECT {OUTCOME} FROM outcomes o WHERE version IN (SELECT unnest(from_json_strict(?, '["VARCHAR"]')))
        QUALIFY row_number() OVER (PARTITION BY version ORDER BY audited_at DESC, exchange_id) <= ?
        ORDER BY audited_at, exchange_id, version""",
        [json.dumps(list(versions)), limit],
    )
    return [Audited(**{**row, "exchange_id": str(row["exchange_id"])}) for row in found]


def local_share(session: Session, last: int) -> list[tuple[int, int]]:
    """(answers, local ones) of the newest `last` that were given while serving, and of as many before them."""
    found = fetch(
        session,
        "SELECT n // ? AS part, count(*) AS answers, count(*) FILTER (tier <> 'teacher') AS local FROM ("
        "SELECT tier, row_number() OVER (ORDER BY logged_at DESC, turn DESC, id) - 1 AS n FROM exchanges "
        "WHERE source IN ('serve', 'http') AND complete AND trim(answer) <> '') WHERE n < 2 * ? GROUP BY part ORDER BY part",
        [last, last],
    )
    return [(int(row["answers"]), int(row["local"])) for row in found]


def stats(session: Session, since: datetime | None, spooled: int) -> Stats:
    """Counts; `waiting` are the learnable exchanges logged after `since` (the last training)."""
    tiers = fetch(
        session,
        f"SELECT CASE WHEN trim(answer) = '' THEN 'unanswered' ELSE {WHO} END AS who, count(*) AS n, "
        "median(latency_ms) AS ms, coalesce(sum(cost_usd), 0) AS usd FROM exchanges WHERE source <> 'audit' "
        "GROUP BY who ORDER BY n DESC, who",
    )
    (counts,) = fetch(
        session,
        "SELECT count(*) FILTER (source <> 'audit') AS exchanges, count(*) FILTER (source = 'audit') AS audits, "
        "coalesce(sum(cost_usd) FILTER (source = 'audit'), 0) AS audits_usd, (SELECT count(*) FROM feedback) AS feedback, "
        "(SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM tombstones) AS forgotten FROM exchanges",
    )
    return Stats(
        exchanges=counts["exchanges"],
        learnable=learnable_count(session, None),
        waiting=learnable_count(session, since),
        per_tier={row["who"]: (row["n"], row["ms"], row["usd"]) for row in tiers},
        feedback=counts["feedback"],
        runs=counts["runs"],
        forgotten=counts["forgotten"],
        spooled=spooled,
        audits=counts["audits"],
        audits_usd=counts["audits_usd"],
    )


def snapshot(session: Session, path: Path) -> tuple[str, int, datetime]:
    """Write what may be learned from, in the order of `learnable`, to a Parquet file that nobody writes to again.

    Returns (sha256 of the file, rows, the time up to which exchanges are in it): exactly those logged until then, and every
    rating that had arrived by then.
    """
    (row,) = fetch(session, "SELECT last FROM clock")
    until: datetime = row["last"]
    count = write_file(
        session,
        "SELECT id::VARCHAR AS id, created_at, session, turn, query, context, target, tier, source, rating, weight, logged_at "
        f"FROM {_SAID} WHERE logged_at <= {literal(until.isoformat())}::TIMESTAMP ORDER BY said_at, turn, id",
        path,
        "parquet",
    )
    path.chmod(_READ_ONLY)
    return sha256(path), count, until


# Every exchange with its rating and correction, oldest first. Read back elsewhere, without its ratings, a wrong answer must
# not become a right one.
EXPORTED = (
    "SELECT * REPLACE (id::VARCHAR AS id, CAST(context AS JSON) AS context, trainable AND (rating IS DISTINCT FROM 'bad' "
    "OR (correction IS NOT NULL AND NOT withdrawn)) AS trainable), "
    "CASE WHEN withdrawn THEN answer ELSE coalesce(correction, answer) END AS response "
    "FROM rated ORDER BY created_at, turn, id"
)
