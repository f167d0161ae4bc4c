"""The exchange log: what serving and training may do with it. Knows records, the spool and which database is meant.

Writes that find the database taken go to an fsynced spool of JSON lines, drained by the next successful write; ids make
that exactly once.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from shammah_data import queries, rows
from shammah_data.announced import announce
from shammah_data.database import Database, FileDatabase
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import IMPORTED, Audited, Exchange, Feedback, Message, Rival, RunRecord
from shammah_data.home import Home
from shammah_data.personal import redact_personal
from shammah_data.queries import Selection, Stats
from shammah_data.secrets import redact, redact_all
from shammah_data.session import LogTakenError, Session, fetch, transaction
from shammah_data.settings import Settings
from shammah_data.spool import Spool
from shammah_data.trying import refused

T = TypeVar("T")
_BATCH = 2000
# Some twenty thousand ratings, of which sessions read the new ones within seconds.
_MOST_ANNOUNCED = 2**20
# Who found the database taken a moment ago need not wait for it again before the next row is spooled.
_STILL_TAKEN_SECONDS = 1.0


class ExchangeLog:
    """The log of one home, in its file or on the server that the settings name.

    `wait` is how long, in seconds, a write waits for the database before it goes to the spool.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings | None = None,
        wait: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or Settings()
        self._home = home
        self._privacy = settings.privacy
        self._wait = wait
        self._clock = clock
        self._spool = Spool(home.spool)
        self._taken_until = clock()
        self._rated_here: set[str] = set()
        self._remote = bool(settings.log)
        self._database: Database = FileDatabase(home.log, clock)
        if settings.log:
            from shammah_data.remote import RemoteDatabase

            self._database = RemoteDatabase(settings.log, home.log_token)

    @property
    def home(self) -> Home:
        """The home whose log this is."""
        return self._home

    @property
    def file(self) -> FileDatabase | None:
        """The database file; None where a server keeps the log."""
        return self._database if isinstance(self._database, FileDatabase) else None

    def exists(self) -> bool:
        """Whether there is anything to read."""
        return self._remote or self._home.log.exists() or self._spool.exists()

    def clean(self, text: str) -> str:
        """A text as the log keeps it: without secrets and, where the settings say so, without personal data."""
        text = redact(text)
        return redact_personal(text) if self._privacy.personal_data == "mask" else text

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, exchange: Exchange, audit_of: str | None = None) -> bool:
        """Make one exchange durable before returning; False when it went to the spool because the database was taken.

        `audit_of`: the exchange that it is an audit of; where that is forgotten by then, this one is not kept.
        Raises LogError when neither the database nor the spool can be written.
        """
        return self._write([self._record(exchange) | ({"audit_of": audit_of} if audit_of else {})])

    def rate(self, feedback: Feedback) -> bool:
        """Make one rating durable before returning; False when it went to the spool."""
        return self.write([feedback])

    def write(self, records: Sequence[Exchange | Feedback]) -> bool:
        """The same for several at once, in one transaction. Other processes of this home are told of ratings."""
        rated = [one.id for one in records if isinstance(one, Feedback)]
        self._rated_here.update(rated)
        try:
            return self._write(
                [self._record(one) if isinstance(one, Exchange) else rows.feedback_record(one, self.clean) for one in records]
            )
        finally:
            if rated:
                # They learn of it when they begin anew.
                with contextlib.suppress(OSError):
                    announce(self._home.ratings, rated, _MOST_ANNOUNCED)

    def rated_here(self, feedback_id: str) -> bool:
        """Whether this object wrote a rating; says so once."""
        here = feedback_id in self._rated_here
        self._rated_here.discard(feedback_id)
        return here

    def audit(self, *audited: Audited) -> bool:
        """Make what an audit found durable before returning, in one transaction; False when it went to the spool.

        The first word on a version's answer to a query stands. Raises InputError for a probability that is none.
        """
        for each in audited:
            _check(each.probability)
        return self._write([rows.outcome_record(each, self.clean) for each in audited])

    def compare(self, rival: Rival) -> bool:
        """Make what another version would have answered durable before returning; False when it went to the spool.

        Raises InputError for a probability that is none.
        """
        _check(rival.probability)
        return self._write([rows.rival_record(rival, self.clean)])

    def record_run(self, run: RunRecord) -> None:
        """Store the record of a training run; an existing one with this id is replaced.

        Waits up to ten seconds for the database. Raises LogError.
        """
        values = (
            run.id,
            rows.utc(run.started),
            rows.utc(run.finished),
            run.status,
            self.clean(run.reason),
            run.version,
            json.dumps(redact_all(run.figures)),
        )

        def store(session: Session) -> None:
            with transaction(session):
                session.execute("INSERT OR REPLACE INTO runs VALUES (?, ?::TIMESTAMP, ?::TIMESTAMP, ?, ?, ?, ?)", values)

        self._change(store)

    def add_many(self, exchanges: Iterable[Exchange], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """Append many exchanges in batches; those that are there already, or were forgotten, are left alone.

        Returns (new, known). Waits up to ten seconds for the database. Raises LogError.
        """
        return self.add_records((self._record(exchange) for exchange in exchanges), progress)

    def add_records(self, records: Iterable[dict[str, Any]], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """The same for records as `rows` makes them."""

        def add(session: Session) -> tuple[int, int]:
            new = seen = 0
            batch: list[dict[str, Any]] = []
            for record in records:
                batch.append(record)
                if len(batch) == _BATCH:
                    new, seen = new + self._insert(session, batch), seen + len(batch)
                    batch = []
                    if progress:
                        progress(seen)
            new, seen = new + self._insert(session, batch), seen + len(batch)
            if progress:
                progress(seen)
            return new, seen - new

        return self._change(add)

    def count_new(self, exchanges: Iterable[Exchange], progress: Callable[[int], None] | None = None) -> tuple[int, int]:
        """What `add_many` would return for these exchanges; writes nothing. Raises LogError."""
        sql = "SELECT id FROM exchanges UNION SELECT exchange_id FROM tombstones"
        known = {str(row["id"]) for row in self._read(lambda session: fetch(session, sql), wait=10.0)}
        new = seen = 0
        for exchange in exchanges:
            seen += 1
            if exchange.id not in known:
                known.add(exchange.id)
                new += 1
            if progress and seen % _BATCH == 0:
                progress(seen)
        return new, seen - new

    def set_trainable(self, selection: Selection, trainable: bool) -> int:
        """Say of the selected exchanges whether they may be trained on; returns how many changed. Raises LogError.

        Audits of those that must not be are not trained on either. A yes is not for them: the settings may say no.
        """
        changed = "true" if trainable else "false"
        condition = selection.condition if trainable else queries.with_audits(selection.condition)

        def change(session: Session) -> int:
            with transaction(session):
                found = fetch(
                    session,
                    f"UPDATE exchanges SET trainable = {changed} WHERE trainable <> {changed} AND id IN "
                    f"(SELECT id FROM rated WHERE {condition}) RETURNING id",
                )
            return len(found)

        return self._change(change)

    def change(self, work: Callable[[Session], T]) -> T:
        """What `work` makes of a session that may write, after everything spooled has been stored. Raises LogError."""
        return self._change(work)

    def may_train_on(self, exchange: Exchange) -> bool:
        """Whether the settings let a night learn from an exchange of this origin."""
        imported = exchange.tier == "import" or exchange.source.startswith(IMPORTED)
        teacher = exchange.tier == "teacher" and not self._privacy.train_on_teacher
        return not teacher and not (imported and not self._privacy.train_on_imports)

    def _record(self, exchange: Exchange) -> dict[str, Any]:
        exchange = replace(exchange, trainable=exchange.trainable and self.may_train_on(exchange))
        return rows.exchange_record(exchange, self.clean)

    def _change(self, work: Callable[[Session], T]) -> T:
        def drained(session: Session) -> T:
            self._drain(session)
            return work(session)

        return self._database.run(drained, write=True, wait=10.0)

    def _insert(self, session: Session, records: Sequence[dict[str, Any]]) -> int:
        new = rows.insert(session, records)
        # An answer from a server is a claim until the rows have been seen there.
        if self._remote and (lost := rows.missing(session, records)):
            raise LogError(f"the log server took {len(records)} records, and {lost} of them are not there")
        return new

    def _write(self, records: Sequence[dict[str, Any]]) -> bool:
        def store(session: Session) -> None:
            self._drain(session)
            self._insert(session, records)

        try:
            self._database.run(store, write=True, wait=0.0 if self._clock() < self._taken_until else self._wait)
        except LogError as error:
            try:
                self._spool.append(*records)
            except OSError as spool_error:
                raise LogError(f"{error}; the spool cannot be written either: {spool_error}", lost=True) from error
            if isinstance(error, LogTakenError):
                self._taken_until = self._clock() + _STILL_TAKEN_SECONDS
                return False
            raise LogError(f"{error}; the exchange is kept in {self._home.spool}") from error
        return True

    def _drain(self, session: Session) -> None:
        import duckdb

        try:
            while self._spool.exists():
                with self._spool.drain() as lines:
                    if not lines:
                        return  # another process is at it
                    torn = [line for line, record in lines if not rows.is_record(record)]
                    good = [(line, record) for line, record in lines if rows.is_record(record)]
                    try:
                        self._insert(session, [record for _, record in good])
                    except (duckdb.DataError, duckdb.IntegrityError):
                        bad = refused(record for _, record in good)
                        # Else it is not the records: a server tells in the same way that its disk is full.
                        if not bad:
                            raise
                        # One record that the tables refuse must not hold up all the others for ever.
                        self._insert(session, [record for place, (_, record) in enumerate(good) if place not in bad])
                        torn += [good[place][0] for place in sorted(bad)]
                    if torn:
                        self._spool.set_aside(torn)
        except OSError as error:
            raise LogError(f"{self._home.spool}: cannot be drained: {error.strerror}") from error

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, work: Callable[[Session], T], wait: float = 2.0) -> T:
        """What `work` makes of a session; what is spooled is drained first unless another process holds the database.

        In a home that can only be read it stays in the spool.
        """
        if self._spool.exists() and os.access(self._home.root, os.W_OK):
            try:
                self._database.run(self._drain, write=True, wait=wait if self._remote else min(wait, self._wait))
            except LogTakenError:
                pass  # it may be a reader, beside which this one can read
            except LogError:
                # A server whose disk is full can be read. What else is wrong shows in a moment.
                if not self._remote:
                    raise
        return self._database.run(work, write=False, wait=wait)

    def read(self, work: Callable[[Session], T], wait: float = 2.0) -> T:
        """What `work` makes of a session that only reads. Raises LogError."""
        return self._read(work, wait)

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest exchanges as rows of the `rated` view, newest first. Raises LogError."""
        return self._read(lambda session: queries.recent(session, limit))

    def search(self, words: Sequence[str], limit: int = 20) -> list[dict[str, Any]]:
        """The newest exchanges that hold every one of the words in query, answer or correction, in any case."""
        return self._read(lambda session: queries.search(session, words, limit))

    def find(self, id_or_prefix: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One exchange and its attempts, by id or an unambiguous beginning of it. Raises LogError."""
        return self._read(lambda session: queries.find(session, id_or_prefix))

    def learnable(self, wait: float = 2.0) -> list[dict[str, Any]]:
        """Every exchange that may be learned from, what was said or corrected last at the end; see `queries.learnable`."""
        return self._read(queries.learnable, wait)

    def rejected(self) -> list[dict[str, Any]]:
        """Every complete answer that was rated bad or corrected: id, query, context, answer; oldest first."""
        return self._read(queries.rejected, wait=10.0)

    def learnable_count(self, since: datetime | None = None) -> int:
        """How many exchanges may be learned from, of those logged after `since` (UTC where it names no zone)."""
        return self._read(lambda session: queries.learnable_count(session, since))

    def stats(self, since: datetime | None = None, wait: float = 2.0) -> Stats:
        """Counts; `waiting` are the learnable exchanges logged after `since` (the last training). Raises LogError."""
        return self._read(lambda session: queries.stats(session, since, self.spooled()), wait)

    def spooled(self) -> int:
        """How many records wait in the spool."""
        return len(self._spool.read())

    def runs(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest training runs, newest first, `figures` parsed.

        One that began while the clock was ahead, and still is to come, comes last.
        """
        sql = "SELECT * FROM runs ORDER BY started > ?::TIMESTAMP, started DESC LIMIT ?"
        found = self._read(lambda session: fetch(session, sql, [rows.now(), limit]))
        return [{**row, "figures": json.loads(row["figures"])} for row in found]

    def news(self, since: datetime) -> int:
        """How many exchanges that may be learned from, and ratings, came after a time (UTC where it names no zone)."""
        return self._read(lambda session: queries.news(session, since))

    def outcomes(self, versions: Sequence[str], limit: int = 1000, wait: float = 2.0) -> list[Audited]:
        """What audits of these versions found: the newest, at most `limit` of each version; oldest first. Raises LogError."""
        return self._read(lambda session: queries.outcomes(session, versions, limit), wait)

    def local_share(self, last: int) -> list[tuple[int, int]]:
        """(answers, local ones) of the newest `last` given while serving, then of as many before them. Raises LogError."""
        return self._read(lambda session: queries.local_share(session, last))

    def snapshot(self, path: Path) -> tuple[str, int, datetime]:
        """Write what may be learned from to a Parquet file and let go of the database at once.

        Returns (sha256 of the file, rows, the time up to which exchanges are in it). Raises LogError.
        """
        return self._read(lambda session: queries.snapshot(session, path), wait=10.0)


def read_snapshot(path: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot, what was said or corrected last at the end."""
    import duckdb

    from shammah_data.session import LocalSession

    with duckdb.connect(":memory:") as connection:
        return fetch(LocalSession(connection), "SELECT * FROM read_parquet(?)", [str(path)])


def _check(probability: float) -> None:
    if not 0.0 < probability <= 1.0:
        raise InputError(f"an audit's probability must lie above 0 and up to 1, not at {probability}")


def context_of(row: dict[str, Any]) -> tuple[Message, ...]:
    """The earlier turns of a row."""
    return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(row["context"]))
