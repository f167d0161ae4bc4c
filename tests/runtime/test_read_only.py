"""A home that can only be read, such as a mounted backup: what it holds can be looked at."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.versions import Tiny
from shammah_data import rows
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.spool import Spool
from shammah_runtime.doctor import examine

Run = Callable[..., tuple[int, str, str]]
# Root may write anywhere, unless it gives that up.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
pytestmark = pytest.mark.skipif(
    os.name == "nt" or bool(WITHOUT_RIGHTS and not shutil.which("setpriv")), reason="no home that can only be read here"
)


@pytest.fixture
def run(home: Home, tiny: Tiny) -> Iterator[Run]:
    """Run a command on a home with one exchange, one in the spool, one version, and what a killed session left."""
    ExchangeLog(home).append(Exchange("When does it open?", "At nine.", "teacher"))
    Spool(home.spool).append(rows.exchange_record(Exchange("Where is it?", "In Bonn.", "teacher")))
    tiny.publish(home)
    (home.models / f".using-v0001-{'0' * 32}").touch(0o400)
    folders = [home.root, home.models]
    for folder in folders:
        folder.chmod(0o500)

    def call(module: str, *arguments: str) -> tuple[int, str, str]:
        command = [*WITHOUT_RIGHTS, sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout, done.stderr

    yield call
    for folder in folders:
        folder.chmod(0o700)


def test_what_is_logged_can_be_read(run: Run) -> None:
    code, out, err = run("shammah_data.cli", "list")
    assert (code, err) == (0, "")
    assert "When does it open?" in out
    assert "1 more waits in the spool" in run("shammah_data.cli", "stats")[1]


def test_the_versions_can_be_read(run: Run) -> None:
    assert run("shammah_trainer.cli", "versions") == (0, "v0001 champion, in use\n", "")


def test_what_has_to_write_says_so_in_a_line_and_leaves_no_copy(run: Run, home: Home, tmp_path: Path) -> None:
    for command in ("export", "backup"):
        code, out, err = run("shammah_data.cli", command, str(tmp_path / command))
        assert (code, out) == (2, "")
        assert err.startswith(f"shammah-log: {home.root}/")
        assert err.endswith(": Permission denied\n")
        assert not (tmp_path / command).exists()


def test_the_doctor_says_all_there_is_to_say_of_a_home_that_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.write_text("no folder", encoding="utf-8")
    found = {check.name: check for check in examine(home)}
    assert found["home"].level == "fail"
    assert found["guard"].level == "fail"
    assert found["model"].level == "fail"
    assert "key" in found


@pytest.mark.parametrize("closed", ["root", "models"])
def test_a_folder_that_may_not_be_looked_into_ends_no_check(run: Run, home: Home, closed: str) -> None:
    folder = {"root": home.root, "models": home.models}[closed]
    folder.chmod(0o000)
    code, out, err = run("shammah_runtime.cli", "doctor")
    assert (code, err) == (1, "")
    told = {line.split()[1]: line for line in out.splitlines()}
    assert told["model"].startswith("fail model")
    assert told["guard"].startswith("fail guard")
    assert "key" in told
    if closed == "models":
        code, out, err = run("shammah_data.cli", "verify")
        assert (code, err) == (1, "")
        assert f"problem versions   Permission denied: {home.models}" in out
    home.root.chmod(0o700)
