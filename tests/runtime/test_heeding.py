"""What users of other machines say and forget, where a server keeps the log of all of them."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.log_server import Server
from shammah_data import remote
from shammah_data.announced import Announced
from shammah_data.database import FileDatabase
from shammah_data.exchange import Exchange, Feedback
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.session import LogTakenError, Session
from shammah_data.settings import ServeSettings, Settings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.conversation import fill
from shammah_runtime.heeding import Heeding
from shammah_runtime.learned import Known, LearnedIndex

SETTINGS = Settings(log="quack:localhost:9494", serve=ServeSettings(threads=1, max_tokens=24))


class Shared:
    """A server's database, as every home reaches it; counts what it is asked."""

    def __init__(self, path: Path) -> None:
        self._file = FileDatabase(path)
        self.asked = 0
        self.away = False

    def run(self, work: Callable[[Session], Any], *, write: bool, wait: float) -> Any:
        self.asked += 1
        if self.away:
            raise LogTakenError("the log server is away")
        return self._file.run(work, write=write, wait=5.0)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    """What every log with these settings is kept in."""
    made = Shared(tmp_path / "shared.duckdb")
    monkeypatch.setattr(remote, "RemoteDatabase", lambda _address, _token: made)
    return made


@pytest.fixture
def elsewhere(shared: Shared, tmp_path: Path) -> ExchangeLog:
    """The log as another machine has it."""
    return ExchangeLog(Home(tmp_path / "elsewhere").create(), SETTINGS)


def test_what_is_corrected_on_another_machine_is_given_from_then_on(home: Home, elsewhere: ExchangeLog) -> None:
    exchange = Exchange("Who is the boss?", "Ann.", "teacher")
    elsewhere.append(exchange)
    elsewhere.rate(Feedback(exchange.id, "good"))
    warnings: list[str] = []
    appliance = Appliance(home, SETTINGS, Options(offline=True), warnings.append)
    try:
        appliance.start()
        assert appliance.conversation.ask("Who is the boss?", lambda _: None).text == "Ann."
        elsewhere.rate(Feedback(exchange.id, "bad", correction="Zoe."))
        deadline = time.monotonic() + 30.0
        while (known := appliance.index.get(exchange.id)) is None or known.answer != "Zoe.":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert appliance.conversation.ask("Who is the boss?", lambda _: None).text == "Zoe."
    finally:
        appliance.close()
    assert warnings == []


def test_a_server_is_asked_now_and_then_and_each_rating_counts_once(home: Home, shared: Shared, elsewhere: ExchangeLog) -> None:
    given = Exchange("Who is the boss?", "Ann.", "learned")
    elsewhere.append(given)
    now, index, log = 0.0, LearnedIndex(), ExchangeLog(home, SETTINGS)
    heeding = Heeding(log, index, lambda _: (), lambda: now)
    heeding.begin()
    fill(index, log)
    asked = shared.asked
    elsewhere.rate(Feedback(given.id, "bad"))
    heeding.look()
    assert (shared.asked - asked, index.record("Ann.", "v0001").wrong) == (1, 0)
    now = 6.0
    heeding.look()
    assert index.record("Ann.", "v0001").wrong == 1
    now = 12.0
    heeding.look()
    assert index.record("Ann.", "v0001").wrong == 1
    # A process of this home says when there is something.
    ExchangeLog(home, SETTINGS).rate(Feedback(given.id, "bad"))
    heeding.look()
    assert index.record("Ann.", "v0001").wrong == 2


def test_a_server_that_is_away_is_called_seldom_and_what_came_meanwhile_is_heeded(
    home: Home, shared: Shared, elsewhere: ExchangeLog
) -> None:
    exchange = Exchange("Who is the boss?", "Ann.", "teacher")
    elsewhere.append(exchange)
    now, index, log = 0.0, LearnedIndex(), ExchangeLog(home, SETTINGS)
    heeding = Heeding(log, index, lambda _: (), lambda: now)
    heeding.begin()
    fill(index, log)
    elsewhere.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    shared.away, now = True, 6.0
    heeding.look()
    asked, now = shared.asked, 12.0
    heeding.look()
    assert shared.asked == asked
    shared.away, now = False, 40.0
    heeding.look()
    known = index.get(exchange.id)
    assert known is not None
    assert known.answer == "Zoe."


@pytest.fixture
def server(home: Home, tmp_path: Path) -> Iterator[Server]:
    """A real server, of which the test's home and one elsewhere know the token."""
    with contextlib.ExitStack() as stack:
        running = Server(Home(tmp_path / "server").create())
        stack.callback(lambda: running.process.poll() is None and running.stop(signal.SIGKILL))
        for other in (home, Home(tmp_path / "elsewhere").create()):
            other.log_token.write_text(running.home.log_token.read_text())
            other.log_token.chmod(0o600)
            other.settings.write_text(f'log = "{running.address}"\n')
        yield running


def test_what_another_machine_forgets_an_open_session_repeats_no_more(home: Home, server: Server, tmp_path: Path) -> None:
    settings, other = dataclasses.replace(SETTINGS, log=server.address), Home(tmp_path / "elsewhere")
    exchange = Exchange("Who is the boss?", "Ann.", "import")
    ExchangeLog(other, settings, wait=5.0).append(exchange)
    warnings: list[str] = []
    appliance = Appliance(home, settings, Options(offline=True), warnings.append)
    try:
        appliance.start()
        assert appliance.conversation.ask("Who is the boss?", lambda _: None).text == "Ann."
        told = shammah_log(other, "forget", "--yes", exchange.id)
        assert (told.returncode, told.stderr) == (0, "")
        deadline = time.monotonic() + 30.0
        while appliance.index.get(exchange.id) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        reply = appliance.conversation.ask("Who is the boss?", lambda _: None)
        assert (reply.text, reply.answered) == ("", False)
    finally:
        appliance.close()
    # Nor after a start without the server, when a version brings it along.
    server.stop(signal.SIGKILL)
    begun = Appliance(home, settings, Options(offline=True, watch=False), warnings.append)
    try:
        begun.start()
        begun.index.seed([Known(exchange.id, exchange.query, exchange.answer)])
        assert not begun.conversation.ask("Who is the boss?", lambda _: None).answered
    finally:
        begun.close()


def test_what_is_forgotten_while_the_server_is_away_is_heeded_once_it_is_back(
    home: Home, shared: Shared, elsewhere: ExchangeLog
) -> None:
    exchange, other = Exchange("Who is the boss?", "Ann.", "teacher"), Exchange("Who is ill?", "Bob.", "teacher")
    elsewhere.write([exchange, other])
    forgotten: list[str] = []
    now, index, log = 0.0, LearnedIndex(), ExchangeLog(home, SETTINGS)

    def drop(ids: Collection[str]) -> Collection[str]:
        forgotten.extend(ids)
        return ids

    heeding = Heeding(log, index, drop, lambda: now)
    heeding.begin()
    fill(index, log)
    forget(elsewhere, elsewhere.home, Selection(ids=(exchange.id,)))
    shared.away, now = True, 6.0
    heeding.look()
    assert forgotten == []
    shared.away, now = False, 40.0
    heeding.look()
    assert forgotten == [exchange.id]
    # The other processes of this home need no server to know.
    assert Announced(home.tombstones).fresh() == [exchange.id]
    now = 50.0
    heeding.look()
    assert forgotten == [exchange.id]


def shammah_log(home: Home, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command, in a home."""
    command = [sys.executable, "-m", "shammah_data.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, "SHAMMAH_HOME": str(home.root)}, capture_output=True, text=True, check=False
    )
