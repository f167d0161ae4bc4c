import hashlib
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fakes.processes import Holder, killed
from shammah_data import schema
from shammah_data.errors import LogError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, RunRecord, Tier
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, context_of, read_snapshot
from shammah_data.queries import Selection
from shammah_data.remote import TOKEN_VARIABLE
from shammah_data.repair import repair
from shammah_data.session import LogTakenError, Session
from shammah_data.settings import PrivacySettings, Settings

Spawn = Callable[..., "subprocess.Popen[str]"]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def asked(query: str = "What?", answer: str = "That.", tier: Tier = "teacher", **more: Any) -> Exchange:
    return Exchange(query=query, answer=answer, tier=tier, **more)


def targets(log: ExchangeLog) -> dict[str, str]:
    return {row["query"]: row["target"] for row in log.learnable()}


@pytest.fixture
def hold(home: Home, log: ExchangeLog) -> Iterator[Callable[[str], Holder]]:
    log.recent()  # makes the database
    started: list[Holder] = []

    def start(how: str = "writing") -> Holder:
        started.append(Holder(home.log, how))
        return started[-1]

    yield start
    for holder in started:
        holder.let_go()


# -- one process ---------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_found(log: ExchangeLog) -> None:
    exchange = asked(
        "Wo?\0 “👩‍👩‍👧”\n\\",
        "Dort 'drüben'; DROP TABLE exchanges",
        created_at=START,
        session="s",
        turn=2,
        context=(Message("user", "Hallo"), Message("assistant", 'Ja "bitte"?')),
        confidence=0.25,
        latency_ms=float("inf"),
        prompt_tokens=7,
        cost_usd=0.0125,
        attempts=(Attempt("neural", "declined", "not sure", 0.25, 0.9, 12.5), Attempt("teacher", "accepted", "asked")),
    )
    assert log.append(exchange) is True
    row, attempts = log.find(exchange.id[:13].upper())
    assert str(row["id"]) == exchange.id
    assert row["created_at"] == START.replace(tzinfo=None)
    for name in ("query", "answer", "tier", "session", "turn", "confidence", "latency_ms", "prompt_tokens", "cost_usd"):
        assert row[name] == getattr(exchange, name), name
    assert (row["complete"], row["trainable"], row["model_version"], row["rating"]) == (True, True, None, None)
    assert context_of(row) == exchange.context
    assert [(a["tier"], a["outcome"], a["threshold"], a["latency_ms"]) for a in attempts] == [
        ("neural", "declined", 0.9, 12.5),
        ("teacher", "accepted", None, 0.0),
    ]


def test_half_a_surrogate_pair_is_replaced_not_refused(log: ExchangeLog) -> None:
    assert log.append(asked("a\ud800b"))
    assert log.recent()[0]["query"] == "a?b"


def test_an_exchange_appended_twice_is_there_once(log: ExchangeLog) -> None:
    exchange = asked(attempts=(Attempt("teacher", "accepted", "asked"),))
    assert log.append(exchange)
    assert log.append(replace(exchange, answer="Another."))
    assert [row["answer"] for row in log.recent()] == ["That."]
    assert len(log.find(exchange.id)[1]) == 1


@pytest.mark.parametrize("prefix", ["", "zz", "%", "\udcff", "ffff"])
def test_what_begins_no_id_is_not_found(log: ExchangeLog, prefix: str) -> None:
    log.append(asked(id="00000000-0000-4000-8000-000000000001"))
    with pytest.raises(LogError, match="no exchange"):
        log.find(prefix)


def test_an_ambiguous_beginning_is_refused(log: ExchangeLog) -> None:
    for n in (1, 2):
        log.append(asked(id=f"abcdef00-0000-4000-8000-00000000000{n}"))
    with pytest.raises(LogError, match="beginning of several ids"):
        log.find("abc")


def test_recent_is_newest_first_and_limited(log: ExchangeLog) -> None:
    log.add_many(asked(str(n), created_at=START + timedelta(seconds=n % 7)) for n in range(7))
    assert [row["query"] for row in log.recent(3)] == ["6", "5", "4"]


@pytest.mark.parametrize(
    ("exchange", "learned"),
    [
        (asked(tier="teacher"), True),
        (asked(tier="import"), True),
        (asked(tier="neural"), False),
        (asked(tier="learned"), False),
        (asked(tier="template"), False),
        (asked(complete=False), False),
        (asked(trainable=False), False),
        (asked(answer=""), False),
        (asked(answer=" \n\t"), False),
    ],
)
def test_what_may_be_learned_unasked(log: ExchangeLog, exchange: Exchange, learned: bool) -> None:
    log.append(exchange)
    assert (log.learnable_count() == 1) is learned
    assert len(log.recent()) == 1


@pytest.mark.parametrize(
    ("exchange", "feedback", "target"),
    [
        (asked(), [("good", None)], "That."),
        (asked(), [("bad", None)], None),
        (asked(tier="neural"), [("good", None)], "That."),
        (asked(tier="neural"), [("bad", None)], None),
        (asked(), [("bad", "This.")], "This."),
        (asked(tier="neural"), [("bad", "This.")], "This."),
        (asked(complete=False), [("bad", "This.")], "This."),
        (asked(complete=False), [("good", None)], None),
        (asked(trainable=False), [("bad", "This.")], None),
        (asked(), [("bad", " \n")], None),
        (asked(), [("bad", None), ("good", None)], "That."),
        (asked(), [("good", None), ("bad", None)], None),
        (asked(), [("bad", "Older."), ("bad", "Newer.")], "Newer."),
        (asked(), [("bad", "This."), ("good", None)], "This."),
        (asked(), [("bad", "This."), ("bad", None)], None),
        (asked(tier="neural"), [("bad", "This."), ("good", None), ("bad", None)], None),
        (asked(), [("bad", "Older."), ("bad", None), ("bad", "Newer.")], "Newer."),
        (asked(), [("bad", "This."), ("bad", None), ("good", None)], "This."),
    ],
)
def test_what_ratings_change(
    log: ExchangeLog, exchange: Exchange, feedback: list[tuple[Any, str | None]], target: str | None
) -> None:
    log.append(exchange)
    for n, (rating, correction) in reversed(list(enumerate(feedback))):  # the moment counts, not the order of arrival
        moment = START + timedelta(seconds=n)
        assert log.rate(Feedback(exchange.id, rating, 2.0 + n, correction, created_at=moment))
    assert targets(log) == ({} if target is None else {"What?": target})
    row, _ = log.find(exchange.id)
    assert (row["rating"], row["weight"]) == (feedback[-1][0], 1.0 + len(feedback))
    assert row["answer"] == exchange.answer


def test_stats_count_everything(log: ExchangeLog) -> None:
    log.append(asked(cost_usd=0.5, latency_ms=100))
    log.append(asked(cost_usd=0.25, latency_ms=300))
    neural = asked(tier="neural")
    log.append(neural)
    log.rate(Feedback(neural.id, "good"))
    log.record_run(RunRecord("r", START, START, "refused", "too few", None, {"loss": [1.5]}))
    stats = log.stats()
    assert stats.per_tier == {"teacher": (2, 200.0, 0.75), "neural": (1, None, 0.0)}
    assert (stats.exchanges, stats.learnable, stats.waiting, stats.feedback, stats.runs, stats.spooled) == (3, 3, 3, 1, 1, 0)


def test_runs_are_replaced_by_their_id(log: ExchangeLog) -> None:
    run = RunRecord("r", START, START, "failed", "killed", None, {})
    log.record_run(run)
    log.record_run(replace(run, status="published", version="v0001", figures={"right": 0.5}))
    log.record_run(replace(run, id="s", started=START + timedelta(days=1)))
    runs = log.runs()
    assert [row["id"] for row in runs] == ["s", "r"]
    assert (runs[1]["status"], runs[1]["version"], runs[1]["figures"]) == ("published", "v0001", {"right": 0.5})
    # The clock was ahead by years: no later run is older than that one.
    log.record_run(replace(run, id="ahead", started=datetime.now(UTC) + timedelta(days=700)))
    assert [row["id"] for row in log.runs()] == ["s", "r", "ahead"]


WAITING = """
import sys
from datetime import timedelta, timezone
from pathlib import Path
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot
log = ExchangeLog(Home(Path(sys.argv[1])))
_, _, until = log.snapshot(Path(sys.argv[1]) / "s.parquet")
zoned = until.replace(tzinfo=timezone.utc)
hour = timedelta(hours=1)
print(*[log.learnable_count(moment) for moment in (until, until - hour, zoned, zoned - hour, zoned + hour)])
"""


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_what_waits_is_the_same_in_every_time_zone(log: ExchangeLog, home: Home, spawn: Spawn, zone: str) -> None:
    log.append(asked())
    out, error = spawn(WAITING, home.root, TZ=zone).communicate()
    assert out == "0 1 0 1 0\n", error


def test_forgetting_removes_every_trace(log: ExchangeLog, home: Home) -> None:
    gone, kept = asked("gone", attempts=(Attempt("teacher", "accepted", "asked"),)), asked("kept")
    for exchange in (gone, kept):
        log.append(exchange)
        log.rate(Feedback(exchange.id, "good", correction="Else."))
    assert forget(log, home, Selection(ids=(gone.id,))).exchanges == 1
    assert forget(log, home, Selection(ids=(gone.id,))).exchanges == 0
    with pytest.raises(LogError, match="no exchange"):
        log.find(gone.id)
    assert targets(log) == {"kept": "Else."}
    with duckdb.connect(str(home.log), read_only=True) as connection:
        for table, key in (("exchanges", "id"), ("attempts", "exchange_id"), ("feedback", "exchange_id")):
            found = connection.execute(f"SELECT count(*) FROM {table} WHERE {key} = ?::UUID", [gone.id]).fetchone()
            assert found == (0,), table


def test_what_waits_in_the_spool_is_forgotten_too(log: ExchangeLog, home: Home, hold: Callable[[str], Holder]) -> None:
    holder = hold("writing")
    exchange = asked("secret")
    assert log.append(exchange) is False
    holder.let_go()
    assert forget(log, home, Selection(ids=(exchange.id,))).exchanges == 1
    assert log.recent() == []
    assert not home.spool.exists()


# -- many at once --------------------------------------------------------------------------------------------------------


def test_adding_many_again_adds_nothing(log: ExchangeLog) -> None:
    exchanges = [asked(str(n), attempts=(Attempt("teacher", "accepted", "x"),)) for n in range(4500)]
    seen: list[int] = []
    assert log.add_many(iter(exchanges), seen.append) == (4500, 0)
    assert seen == [2000, 4000, 4500]
    assert log.add_many([*exchanges, exchanges[0], asked("new")]) == (1, 4501)
    assert log.stats().exchanges == 4501


def test_the_same_exchange_twice_in_a_batch_is_one(log: ExchangeLog) -> None:
    exchange = asked("first")
    assert log.add_many([exchange, replace(exchange, id=exchange.id.upper(), query="second")]) == (1, 1)
    assert targets(log) == {"first": "That."}


def test_adding_none_is_nothing(log: ExchangeLog) -> None:
    assert log.add_many([]) == (0, 0)


def test_what_was_added_before_a_fault_stays(log: ExchangeLog) -> None:
    def faulty() -> Any:
        yield from (asked(str(n)) for n in range(2500))
        raise LogError("no more")

    with pytest.raises(LogError, match="no more"):
        log.add_many(faulty())
    assert log.stats().exchanges == 2000
    assert log.append(asked())


# -- two processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["writing", "reading"])
def test_what_finds_the_database_taken_is_spooled_and_drained_once(
    log: ExchangeLog, home: Home, hold: Callable[[str], Holder], how: str
) -> None:
    holder = hold(how)
    exchange = asked("spooled", attempts=(Attempt("teacher", "accepted", "asked"),))
    assert log.append(exchange) is False
    assert log.append(exchange) is False
    assert log.rate(Feedback(exchange.id, "bad", correction="Über.")) is False
    assert home.spool.stat().st_mode & 0o777 == 0o600
    spooled = home.spool.read_bytes()
    holder.let_go()
    assert log.append(asked("direct")) is True
    assert not home.spool.exists()
    assert targets(log) == {"spooled": "Über.", "direct": "That."}
    home.spool.write_bytes(spooled)  # as after a kill between the commit and the removal
    stats = log.stats()
    assert (stats.exchanges, stats.feedback, stats.spooled) == (2, 1, 0)
    assert not home.spool.with_suffix(".torn").exists()


def test_beside_a_reader_one_reads_what_was_there_before(log: ExchangeLog, hold: Callable[[str], Holder]) -> None:
    log.append(asked("before"))
    holder = hold("reading")
    assert log.append(asked("spooled")) is False
    assert list(targets(log)) == ["before"]
    assert log.stats().spooled == 1
    holder.let_go()
    assert log.stats().spooled == 0
    assert set(targets(log)) == {"before", "spooled"}


def test_reading_beside_a_writer_says_who_is_in_the_way(home: Home, hold: Callable[[str], Holder]) -> None:
    holder = hold("writing")
    moments = iter(range(0, 10_000, 5))
    log = ExchangeLog(home, clock=lambda: float(next(moments)))
    with pytest.raises(LogTakenError, match=f"in use by process {holder.pid}"):
        log.recent()


@pytest.mark.parametrize(
    "torn", [b'{"exchange": {"id": "00', b"12", b"[]", b"{}", b'{"exchange": {}}', b"\xff\xfe", b"[" * 9999]
)
def test_a_torn_line_is_set_aside_and_costs_nothing_else(log: ExchangeLog, home: Home, hold: Any, torn: bytes) -> None:
    holder = hold("writing")
    log.append(asked("first"))
    with home.spool.open("ab") as file:
        file.write(torn)
    log.append(asked("second"))
    holder.let_go()
    assert set(targets(log)) == {"first", "second"}
    assert home.spool.with_suffix(".torn").read_bytes() == torn + b"\n"
    assert not home.spool.exists()


def test_a_record_that_the_tables_refuse_holds_up_no_other(log: ExchangeLog, home: Home, hold: Any) -> None:
    holder = hold("writing")
    log.append(asked("first"))
    log.append(asked("bad", id="not a UUID"))
    log.append(asked("turned", turn=2**40))
    log.append(asked("second"))
    holder.let_go()
    assert set(targets(log)) == {"first", "second"}
    aside = home.spool.with_suffix(".torn").read_text()
    assert [json.loads(line)["exchange"]["query"] for line in aside.splitlines()] == ["bad", "turned"]


def test_a_record_that_is_refused_at_once_says_so(log: ExchangeLog) -> None:
    with pytest.raises(LogError, match="the exchange is kept in"):
        log.append(asked("bad", id="not a UUID"))
    assert log.append(asked("good"))
    assert list(targets(log)) == ["good"]


def test_with_neither_database_nor_spool_the_error_says_both(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=r"cannot be written.*the spool cannot be written either"):
        ExchangeLog(Home(tmp_path / "file")).append(asked())


APPEND = """
import sys
from pathlib import Path
from shammah_data.exchange import Attempt, Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
log = ExchangeLog(Home(Path(sys.argv[1])), wait=float(sys.argv[2]))
while True:
    exchange = Exchange(query="q", answer="a", tier="teacher", attempts=(Attempt("teacher", "accepted", "asked"),))
    log.append(exchange)
    print(exchange.id, flush=True)
"""


def test_two_processes_that_append_at_once_lose_nothing(home: Home, spawn: Spawn) -> None:
    code = APPEND.replace("while True", "for _ in range(12)")
    processes = [spawn(code, home.root, wait) for wait in (0.0, 0.05)]
    acknowledged = set()
    for process in processes:
        out, error = process.communicate()
        assert error == ""
        acknowledged |= set(out.split())
    log = ExchangeLog(home)
    assert len(acknowledged) == 24
    assert {str(row["id"]) for row in log.recent(100)} == acknowledged
    assert log.stats().exchanges == 24


# -- the file ------------------------------------------------------------------------------------------------------------


def test_logs_of_one_process_wait_for_each_other(log: ExchangeLog, home: Home) -> None:
    """What another connection is just closing is refused by DuckDB in words of their own, once in some hundred times."""
    log.append(asked())

    def use(number: int) -> int:
        mine = ExchangeLog(home, wait=60.0)
        if number == 0:
            return sum(mine.change(lambda _: 1) for _ in range(60))
        return sum(mine.read(lambda _: 1, wait=60.0) for _ in range(60))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [60, 60, 60, 60]


def test_the_log_is_private(log: ExchangeLog, home: Home) -> None:
    log.append(asked())
    assert home.log.stat().st_mode & 0o777 == 0o600


def test_an_empty_database_is_completed_even_for_a_reader(log: ExchangeLog, home: Home) -> None:
    duckdb.connect(str(home.log)).close()
    assert log.recent() == []


def test_a_half_made_database_is_made_anew(log: ExchangeLog, home: Home) -> None:
    made = home.log.with_name(f".{home.log.name}.new")
    made.write_bytes(b"half")
    made.with_name(made.name + ".wal").write_bytes(b"half")
    assert log.append(asked())
    assert log.learnable_count() == 1
    assert not made.exists()


@pytest.mark.parametrize("content", [b"not a database", b"\0" * 20_000])
def test_a_damaged_database_is_left_alone_and_what_comes_is_kept(log: ExchangeLog, home: Home, content: bytes) -> None:
    home.log.write_bytes(content)
    with pytest.raises(LogError, match=r"cannot be opened: .*: run `shammah-log repair`") as caught:
        log.recent()
    assert "\n" not in str(caught.value)
    with pytest.raises(LogError, match=r"cannot be opened.*the exchange is kept in"):
        log.append(asked("kept"))
    assert home.log.read_bytes() == content
    home.log.unlink()
    assert list(targets(log)) == ["kept"]


@pytest.mark.parametrize("length", [100, 5000, 13_000])
def test_a_database_that_was_cut_off_is_told_with_its_cure(log: ExchangeLog, home: Home, length: int) -> None:
    log.append(asked())
    home.log.write_bytes(home.log.read_bytes()[:length])
    for use in (log.recent, lambda: log.append(asked("kept"))):
        with pytest.raises(LogError, match=r"cannot be opened: .*: run `shammah-log repair`"):
            use()
    repair(home)
    assert list(targets(log)) == ["kept"]


def test_ctrl_c_in_a_statement_is_ctrl_c(log: ExchangeLog) -> None:
    """DuckDB wraps what a signal's handler raises while a statement runs."""

    def interrupted(_: Session) -> None:
        raise RuntimeError("Query interrupted") from KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        log.change(interrupted)
    assert log.append(asked())


def test_a_newer_schema_is_refused_in_one_line(log: ExchangeLog, home: Home) -> None:
    log.append(asked())
    with duckdb.connect(str(home.log)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    for use in (log.recent, log.stats, lambda: log.append(asked()), lambda: log.add_many([asked()])):
        with pytest.raises(LogError, match=r"written by a newer Shammah \(schema 99 > \d+\): upgrade") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_log_of_any_earlier_schema_opens_and_means_the_same(log: ExchangeLog, home: Home, version: int) -> None:
    home.create()
    fixed, withdrawn = str(uuid.uuid4()), str(uuid.uuid4())
    with duckdb.connect(str(home.log)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
        for number, migration in enumerate(schema.MIGRATIONS[:version], 1):
            connection.execute(migration)
            connection.execute("INSERT INTO schema_version VALUES (?, now()::TIMESTAMP)", [number])
        for identity in (fixed, withdrawn):
            connection.execute(
                "INSERT INTO exchanges (id, created_at, logged_at, session, turn, query, context, answer, tier, source, "
                "complete, trainable) SELECT ?, now(), now(), 's', 0, 'q', '[]', 'a', 'teacher', 'serve', true, true",
                [identity],
            )
            connection.execute("INSERT INTO feedback VALUES (uuid(), ?, TIMESTAMP '2026-01-02', 'bad', 1, 'b')", [identity])
        connection.execute("INSERT INTO feedback VALUES (uuid(), ?, TIMESTAMP '2026-01-03', 'bad', 1, NULL)", [withdrawn])
    for _ in range(2):
        assert [(str(row["id"]), row["target"]) for row in log.learnable()] == [(fixed, "b")]
        assert {str(row["id"]): row["withdrawn"] for row in log.recent()} == {fixed: False, withdrawn: True}
        assert log.file is not None
        log.file.rewrite(1.0)


# -- snapshots -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_what_may_be_learned(log: ExchangeLog, tmp_path: Path) -> None:
    corrected, bad = asked("b", created_at=START), asked("bad")
    log.add_many([asked("c"), corrected, bad, asked("own", tier="neural"), asked("a", created_at=START - timedelta(1))])
    log.rate(Feedback(corrected.id, "bad", 3.0, "Better."))
    log.rate(Feedback(bad.id, "bad"))
    path = tmp_path / "it's a snapshot.parquet"
    digest, count, until = log.snapshot(path)
    rows = read_snapshot(path)
    assert count == 3
    assert [(row["query"], row["target"], row["weight"]) for row in rows] == [
        ("a", "That.", 1.0),
        ("c", "That.", 1.0),
        ("b", "Better.", 3.0),
    ]
    kept = ("created_at", "query", "context", "target", "weight")
    assert [[row[name] for name in kept] for row in rows] == [[row[name] for name in kept] for row in log.learnable()]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o400
    assert until > max(row["logged_at"] for row in rows)  # the ratings came later
    assert log.learnable_count(until) == 0
    log.append(asked("later"))
    assert log.stats(until).waiting == 1


def test_what_was_corrected_now_is_newer_than_what_was_asked_since(log: ExchangeLog, tmp_path: Path) -> None:
    older, newer, newest = (asked(name, created_at=START + timedelta(n)) for n, name in enumerate("abc"))
    log.add_many([older, newer, newest])
    log.rate(Feedback(newer.id, "bad", correction="B.", created_at=START + timedelta(5)))
    log.rate(Feedback(older.id, "bad", correction="A.", created_at=START + timedelta(6)))
    log.rate(Feedback(newer.id, "good", created_at=START + timedelta(7)))
    log.snapshot(tmp_path / "s.parquet")
    for rows in (log.learnable(), read_snapshot(tmp_path / "s.parquet")):
        assert [row["target"] for row in rows] == ["That.", "B.", "A."]


def test_a_snapshot_of_nothing_has_no_rows(log: ExchangeLog, tmp_path: Path) -> None:
    _, count, until = log.snapshot(tmp_path / "s.parquet")
    assert (count, read_snapshot(tmp_path / "s.parquet")) == (0, [])
    assert until.tzinfo is None


def test_a_snapshot_that_cannot_be_written_says_so(log: ExchangeLog, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="missing"):
        log.snapshot(tmp_path / "missing" / "s.parquet")


def test_a_snapshot_beside_a_process_that_appends_is_whole(home: Home, log: ExchangeLog, spawn: Spawn, tmp_path: Path) -> None:
    process = spawn(APPEND, home.root, 0.2)
    assert process.stdout is not None
    acknowledged: set[str] = set()
    for number in range(4):
        acknowledged.add(process.stdout.readline().strip())
        path = tmp_path / f"{number}.parquet"
        digest, count, until = log.snapshot(path)
        rows = read_snapshot(path)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert len(rows) == count == len({row["id"] for row in rows})
        assert all(row["logged_at"] <= until for row in rows)
    out, error = killed(process)
    assert error == ""
    acknowledged |= {str(uuid.UUID(line)) for line in out.split() if len(line) == 36}
    assert acknowledged <= {str(row["id"]) for row in log.recent(100_000)}


def test_a_question_that_nobody_answered_counts_for_no_tier(log: ExchangeLog) -> None:
    log.append(Exchange("Q1", "A1", "teacher"))
    log.append(Exchange("Q2", "", "teacher", complete=False))
    assert {who: n for who, (n, *_) in log.stats().per_tier.items()} == {"teacher": 1, "unanswered": 1}


def test_personal_data_is_masked_where_the_settings_say_so(home: Home) -> None:
    text = "Write to ann.lee@example.org or call +44 20 7946 0958"
    kept = ExchangeLog(home)
    kept.append(asked(text))
    masking = ExchangeLog(home, Settings(privacy=PrivacySettings(personal_data="mask")))
    exchange = asked(text, context=(Message("user", text),), attempts=(Attempt("learned", "declined", text),))
    masking.append(exchange)
    masking.rate(Feedback(exchange.id, "bad", correction=text))
    assert kept.clean(text) == text
    row, attempts = masking.find(exchange.id)
    said = json.dumps([row, attempts], default=str)
    assert "[personal:e-mail]" in row["query"]
    assert "[personal:phone]" in row["correction"]
    assert "ann.lee" not in said
    assert "7946" not in said


@pytest.mark.parametrize(("teacher", "imports"), [(True, False), (False, True), (False, False)])
def test_what_may_be_trained_on_is_said_by_source(home: Home, teacher: bool, imports: bool) -> None:
    log = ExchangeLog(home, Settings(privacy=PrivacySettings(train_on_teacher=teacher, train_on_imports=imports)))
    log.add_many([asked("t"), asked("i", tier="import", source="import:f"), asked("n", tier="neural", trainable=False)])
    assert set(targets(log)) == ({"t"} if teacher else set()) | ({"i"} if imports else set())
    assert log.set_trainable(Selection(source="import:f"), True) == (0 if imports else 1)
    assert "i" in targets(log)
    assert log.set_trainable(Selection(words=("t",), source="serve"), False) == (1 if teacher else 0)
    assert "t" not in targets(log)


def test_times_of_logging_grow_whatever_the_clocks_of_the_writers_say(log: ExchangeLog, tmp_path: Path) -> None:
    ahead = datetime(2999, 1, 1)
    log.append(asked("first"))
    log.change(lambda session: session.execute("UPDATE clock SET last = ?", [ahead]))
    log.append(asked("second"))
    log.append(asked("third"))
    times = {row["query"]: row["logged_at"] for row in log.recent()}
    assert times["first"] < ahead < times["second"] < times["third"]
    _, count, until = log.snapshot(tmp_path / "s.parquet")
    assert (count, until) == (3, times["third"])


def test_a_log_server_that_no_token_opens_loses_no_row(home: Home, log: ExchangeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    away = ExchangeLog(home, Settings(log="quack:localhost:1"))
    with pytest.raises(LogError, match=r"wants a token: .*; the exchange is kept in") as caught:
        away.append(asked())
    assert "\n" not in str(caught.value)
    with pytest.raises(LogError, match=r"wants a token: .*; the exchange is kept in"):
        away.rate(Feedback(str(uuid.uuid4()), "good"))
    assert away.spooled() == 2
    assert [row["query"] for row in log.recent()] == ["What?"]
