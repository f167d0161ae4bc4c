"""SIGKILL at random moments while the log is appended to, drained into, migrated and rewritten.

Nothing that was acknowledged may be lost or be there twice. Twenty rounds in the fast lane, two hundred in the slow one;
SHAMMAH_KILL_ROUNDS=2000 does as many as it says.
"""

import json
import os
import random
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from fakes.processes import killed
from shammah_data import rows, schema
from shammah_data.exchange import Attempt, Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.spool import Spool

Spawn = Callable[..., "subprocess.Popen[str]"]

CHILD = """
import sys
from pathlib import Path
from shammah_data.exchange import Attempt, Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
import duckdb
log = ExchangeLog(Home(Path(sys.argv[1])))
how = sys.argv[2]
print("ready", flush=True)
while True:
    exchange = Exchange(query="q", answer="a", tier="teacher", attempts=(Attempt("teacher", "accepted", "asked"),))
    log.append(exchange)
    print(exchange.id, flush=True)
    log.rate(Feedback(exchange.id, "good"))
    if how == "rewriting":
        log.file.rewrite(5.0)
"""


def spool_some(home: Home, count: int) -> set[str]:
    """What a session would leave that found the database taken."""
    spool = Spool(home.spool)
    ids = set()
    for _ in range(count):
        exchange = Exchange("q", "a", "teacher", attempts=(Attempt("teacher", "accepted", "asked"),))
        spool.append(rows.exchange_record(exchange))
        spool.append(rows.feedback_record(Feedback(exchange.id, "good")))
        ids.add(exchange.id)
    return ids


def make_old(home: Home, count: int) -> set[str]:
    """A database of the first schema, as an earlier release left it."""
    ids = {str(uuid.uuid4()) for _ in range(count)}
    with duckdb.connect(str(home.log)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
        connection.execute(schema.MIGRATIONS[0])
        connection.execute("INSERT INTO schema_version VALUES (1, now()::TIMESTAMP)")
        connection.executemany(
            "INSERT INTO exchanges SELECT ?, now()::TIMESTAMP, now()::TIMESTAMP, 's', 0, 'q', '[]', 'a', 'teacher', 'serve', "
            "NULL, NULL, true, true, NULL, NULL, NULL, NULL, NULL, NULL",
            [[one] for one in ids],
        )
        connection.execute(
            "INSERT INTO attempts SELECT id, 0, 'teacher', 'accepted', 'asked', NULL, NULL, 0 FROM exchanges;"
            "INSERT INTO feedback SELECT uuid(), id, created_at, 'good', 1, NULL FROM exchanges"
        )
    return ids


def kill_rounds(folder: Path, spawn: Spawn, count: int, seed: int) -> tuple[int, float]:
    """Kill that many times; returns the rows that were acknowledged, and the longest reopening in seconds."""
    chance = random.Random(seed)
    total = 0
    slowest = 0.0
    home = Home(folder / "none")
    acknowledged: set[str] = set()
    for number in range(count):
        how = ("appending", "draining", "migrating", "rewriting")[number % 4]
        # A kill may also meet the making of the database, and what earlier kills left.
        if how == "migrating" or number % 12 == 0:
            total += len(acknowledged)
            home, acknowledged = Home(folder / str(number)).create(), set()
        if how == "migrating":
            acknowledged |= make_old(home, 50)
        elif how == "draining":
            acknowledged |= spool_some(home, 40)
        process = spawn(CHILD, home.root, how)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.15))
        out, error = killed(process)
        assert error == "", how
        before = set(acknowledged)
        acknowledged |= {line.strip() for line in out.splitlines(keepends=True) if line.endswith("\n")}

        log = ExchangeLog(home)
        began = time.monotonic()
        found = [str(row["id"]) for row in log.recent(100_000)]
        slowest = max(slowest, time.monotonic() - began)
        assert acknowledged <= set(found), (how, number)
        assert len(found) == len(set(found)), (how, number)
        assert len(set(found) - acknowledged) <= 1, "no more than the one row that was under way"
        assert not Spool(home.spool).exists()
        assert not Spool(home.spool).torn.exists()
        with duckdb.connect(str(home.log), read_only=True) as connection:
            for table, key in (("attempts", "exchange_id"), ("feedback", "exchange_id")):
                of_each = connection.execute(f"SELECT {key}::VARCHAR, count(*) FROM {table} GROUP BY 1").fetchall()
                assert all(number == 1 for _, number in of_each), table
                # What was rated before the kill is rated; the rating of the last row may have been under way.
                assert before | (acknowledged if table == "attempts" else set()) <= {one for one, _ in of_each}, (table, how)
        acknowledged = set(found)
        with duckdb.connect(str(home.log)) as connection:
            # The one row under way may lack its rating, which the next round would ask for.
            connection.execute(
                "INSERT INTO feedback SELECT uuid(), id, created_at, 'good', 1, NULL FROM exchanges "
                "WHERE id NOT IN (SELECT exchange_id FROM feedback)"
            )
    return total + len(acknowledged), slowest


def test_kills_lose_nothing(tmp_path: Path, spawn: Spawn) -> None:
    acknowledged, _ = kill_rounds(tmp_path, spawn, 20, seed=1)
    assert acknowledged > 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_kills_lose_nothing(tmp_path: Path, spawn: Spawn, capsys: pytest.CaptureFixture[str]) -> None:
    count = int(os.environ.get("SHAMMAH_KILL_ROUNDS", "200"))
    acknowledged, slowest = kill_rounds(tmp_path, spawn, count, seed=2)
    with capsys.disabled():
        print(json.dumps({"kills": count, "acknowledged": acknowledged, "slowest_reopening_s": round(slowest, 3)}))
    assert acknowledged > count
