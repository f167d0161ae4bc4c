"""Disks and folders that refuse: nothing breaks, and what was acknowledged is kept."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.processes import Holder
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.session import LogTakenError

Spawn = Callable[..., "subprocess.Popen[str]"]

# A file may grow no further, as on a full disk: a write stores what fits and then fails.
FULL = """
import resource, sys
from pathlib import Path
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
home = Home(Path(sys.argv[1]))
log = ExchangeLog(home)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for number in range(40):
    exchange = Exchange(f"q{number}", "x" * 5000, "teacher")
    try:
        log.append(exchange)
        print("kept", exchange.id, flush=True)
    except LogError as error:
        assert "\\n" not in str(error)
        if "is kept in" in str(error):
            print("kept", exchange.id, flush=True)
        else:
            print("not", exchange.id, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits on file sizes are POSIX")
def test_a_full_disk_loses_nothing_that_was_acknowledged(home: Home, log: ExchangeLog, spawn: Spawn) -> None:
    log.append(Exchange("first", "a", "teacher"))
    # Room in the spool for some rows only, and in the database for none.
    out, error = spawn(FULL, home.root, 60_000).communicate()
    assert error == ""
    kept = {line.split()[1] for line in out.splitlines() if line.startswith("kept")}
    refused = {line.split()[1] for line in out.splitlines() if line.startswith("not")}
    assert kept
    assert refused
    found = {str(row["id"]) for row in log.recent(100)}
    assert kept <= found
    assert not refused & found
    # The line that did not fit is kept aside.
    assert log.append(Exchange("later", "a", "teacher"))


READ_ONLY = """
import os, sys
from pathlib import Path
import duckdb, filelock
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
if os.geteuid() == 0:
    os.seteuid(65534)  # nothing is read-only to root
log = ExchangeLog(Home(Path(sys.argv[1])))
for number in range(3):
    try:
        log.append(Exchange("q", "a", "teacher"))
        print("kept")
    except LogError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_a_read_only_folder_is_one_line(spawn: Spawn) -> None:
    # Where others may look: pytest's own folders are private.
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").create()
        ExchangeLog(home).append(Exchange("first", "a", "teacher"))
        Path(folder).chmod(0o755)
        for path in [*home.root.iterdir(), home.root]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        out, error = spawn(READ_ONLY, home.root).communicate()
        home.root.chmod(0o755)
        assert error == ""
        assert len(out.splitlines()) == 3
        for line in out.splitlines():
            assert "the spool cannot be written either" in line
        home.log.chmod(0o600)
        assert len(ExchangeLog(home).recent()) == 1


def test_a_lock_is_waited_for_once_and_not_for_every_row(home: Home, log: ExchangeLog) -> None:
    log.recent()
    holder = Holder(home.log)
    now = 0.0
    waits: list[float] = []

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    patient = ExchangeLog(home, wait=0.2, clock=clock)
    for _ in range(5):
        before = now
        assert patient.append(Exchange("q", "a", "teacher")) is False
        waits.append(now - before)
    assert waits[0] >= 0.2
    assert max(waits[1:]) < 0.02
    now += 5.0  # after a while it is worth waiting again
    before = now
    assert patient.append(Exchange("q", "a", "teacher")) is False
    assert now - before >= 0.2
    with pytest.raises(LogTakenError):
        patient.read(lambda session: None, wait=0.1)
    holder.let_go()
    assert patient.append(Exchange("q", "a", "teacher")) is True
    assert len(log.recent()) == 7
