"""A checkpoint that a kill cuts short: every place where a block can be torn, and the database with every row."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from shammah_data.database import FileDatabase
from shammah_data.errors import LogError
from shammah_data.exchange import Attempt, Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.torn import is_torn, mend

Spawn = Callable[..., "subprocess.Popen[str]"]
PAGE, BLOCK, FIRST = 4096, 256 * 1024, 3 * 4096

KILLED = """
import os, signal, sys
import duckdb
from shammah_data import rows
from shammah_data.exchange import Exchange
from shammah_data.session import LocalSession
connection = duckdb.connect(sys.argv[1])
for number in range(5):
    rows.insert(LocalSession(connection), [rows.exchange_record(Exchange(f"in the wal {number}", "a", "teacher"))])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def torn(log: ExchangeLog, home: Home, spawn: Spawn, tmp_path: Path) -> list[bytes]:
    """The database as kills at different moments of one checkpoint leave it; its write-ahead log lies beside it."""
    for number in range(30):
        exchange = Exchange(f"q{number}", "a" * 50, "teacher", attempts=(Attempt("teacher", "accepted", "asked"),))
        log.append(exchange)
        log.rate(Feedback(exchange.id, "good"))
    spawn(KILLED, home.log).wait()
    before, wal = home.log.read_bytes(), FileDatabase(home.log).wal.read_bytes()
    after = tmp_path / "after.duckdb"
    after.write_bytes(before)
    after.with_name("after.duckdb.wal").write_bytes(wal)
    duckdb.connect(str(after)).close()  # the checkpoint
    written = after.read_bytes()
    found = []
    for start in range(FIRST, min(len(before), len(written)), BLOCK):
        if before[start : start + BLOCK] != written[start : start + BLOCK]:
            for pages in (1, 7, 63):
                cut = start + pages * PAGE
                found.append(before[:start] + written[start:cut] + before[cut:])
    return found


def refused(path: Path) -> bool:
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        return is_torn(str(error))
    return False


def test_wherever_a_block_is_torn_no_row_is_lost(
    log: ExchangeLog, home: Home, torn: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    wal = FileDatabase(home.log).wal
    content = wal.read_bytes()
    mended = 0
    for image in torn:
        home.log.write_bytes(image)
        wal.write_bytes(content)
        was_refused = refused(home.log)
        with caplog.at_level(logging.WARNING):
            found = {row["query"] for row in log.recent(100)}
        assert found == {f"q{n}" for n in range(30)} | {f"in the wal {n}" for n in range(5)}
        assert log.stats().feedback == 30
        if was_refused:
            mended += 1
            folder = max(home.damaged.iterdir())
            assert (folder / home.log.name).read_bytes() == image
            assert (folder / wal.name).read_bytes() == content
    assert mended >= 2, "else this shows nothing"
    assert len(caplog.records) == mended
    assert "mended with every row" in caplog.text
    assert log.append(Exchange("after", "a", "teacher"))


def test_a_kill_while_the_mended_file_is_put_in_place_loses_nothing(log: ExchangeLog, home: Home, torn: list[bytes]) -> None:
    image = next(each for each in torn if home.log.write_bytes(each) and refused(home.log))
    home.log.write_bytes(image)
    wal = FileDatabase(home.log).wal
    mended = home.log.with_name(f".{home.log.name}.mended")
    assert mend(home.log, wal, mended)
    wal.unlink()  # and then it was killed
    assert len(log.recent(100)) == 35
    assert not mended.exists()


def test_without_a_write_ahead_log_a_wrong_checksum_is_damage(log: ExchangeLog, home: Home, torn: list[bytes]) -> None:
    image = next(each for each in torn if home.log.write_bytes(each) and refused(home.log))
    home.log.write_bytes(image)
    FileDatabase(home.log).wal.unlink()
    with pytest.raises(LogError, match="shammah-log repair"):
        log.recent()
    assert home.log.read_bytes() == image


def test_damage_of_another_kind_is_not_papered_over(log: ExchangeLog, home: Home, torn: list[bytes], tmp_path: Path) -> None:
    image = bytearray(torn[0])
    for start in range(FIRST, len(image), BLOCK):
        image[start + 100 : start + 200] = b"\xff" * 100
    home.log.write_bytes(image)
    with pytest.raises(LogError, match="shammah-log repair"):
        log.recent()
    assert home.log.read_bytes() == bytes(image)
    assert not mend(home.log, FileDatabase(home.log).wal, tmp_path / "target.duckdb")
    assert not (tmp_path / "target.duckdb").exists()
