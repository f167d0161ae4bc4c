"""A damaged block of the database: noticed, never papered over, and every row that can be read put back."""

import random
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from shammah_data.copies import backup, restore
from shammah_data.database import FileDatabase
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.repair import repair
from shammah_data.verify import verify

Spawn = Callable[..., "subprocess.Popen[str]"]
COUNT = 3000
FIRST, BLOCK = 3 * 4096, 256 * 1024

KILLED = """
import os, signal, sys
import duckdb
from shammah_data import rows
from shammah_data.exchange import Exchange
from shammah_data.session import LocalSession
connection = duckdb.connect(sys.argv[1])
rows.insert(LocalSession(connection), [rows.exchange_record(Exchange("in the wal", "a", "teacher"))])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def large(log: ExchangeLog) -> dict[str, str]:
    """The answers of a log of several blocks, by their questions; the first is rated."""
    rng = random.Random(0)
    answers = {f"q{n}": "".join(rng.choices(string.ascii_lowercase, k=900)) for n in range(COUNT)}
    exchanges = [Exchange(query, answer, "teacher") for query, answer in answers.items()]
    log.add_many(exchanges)
    log.rate(Feedback(exchanges[0].id, "good"))
    return answers


def damage(path: Path) -> bytes:
    """Change one byte in a block that holds some answers and nothing else; returns what the file is then."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("CHECKPOINT")
        (block,) = connection.execute(
            "SELECT block_id FROM pragma_storage_info('exchanges') WHERE block_id >= 0 GROUP BY block_id "
            "HAVING bool_and(column_name = 'answer') ORDER BY block_id LIMIT 1"
        ).fetchall()[0]
    content = bytearray(path.read_bytes())
    content[FIRST + block * BLOCK + 5000] ^= 0xFF
    path.write_bytes(content)
    return bytes(content)


def told(log: ExchangeLog, home: Home) -> str:
    return "; ".join(finding.told for finding in verify(log, home) if finding.level == "problem")


def test_the_rows_of_other_blocks_are_saved_and_a_backup_has_the_rest(
    log: ExchangeLog, home: Home, large: dict[str, str], tmp_path: Path
) -> None:
    backup(log, tmp_path / "b.duckdb")
    image = damage(home.log)
    assert "run `shammah-log repair`" in told(log, home)
    done = repair(home)
    # A block has some hundreds of such answers, and DuckDB scans 2,048 rows at once.
    assert COUNT - 500 < done.saved < done.exchanges == COUNT
    assert (done.aside / home.log.name).read_bytes() == image
    found = {row["query"]: row["answer"] for row in log.recent(COUNT + 1)}
    assert len(found) == done.saved
    assert found.items() <= large.items()
    assert log.stats().feedback == 1
    assert log.append(Exchange("after", "a", "teacher"))
    assert restore(log, tmp_path / "b.duckdb") == (COUNT - done.saved, done.saved)
    assert len(log.recent(COUNT + 2)) == COUNT + 1
    assert "damaged database" in told(log, home)


def test_a_damaged_block_gets_no_new_checksum_whatever_waits_in_the_write_ahead_log(
    log: ExchangeLog, home: Home, large: dict[str, str], spawn: Spawn
) -> None:
    image = damage(home.log)
    spawn(KILLED, home.log).wait()
    wal = FileDatabase(home.log).wal.read_bytes()
    with pytest.raises(LogError, match="is damaged: run `shammah-log repair`"):
        log.read(lambda session: session.execute("SELECT sum(hash(e)) FROM exchanges e"))
    assert (home.log.read_bytes(), FileDatabase(home.log).wal.read_bytes()) == (image, wal)
    done = repair(home)
    assert 0 < done.saved < done.exchanges == COUNT + 1
    assert done.wal_read == done.wal_bytes == len(wal)
    assert "in the wal" in {row["query"] for row in log.recent(COUNT + 1)}
