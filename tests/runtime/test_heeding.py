"""What users of other machines say, where a server keeps the log of all of them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shammah_data import remote
from shammah_data.database import FileDatabase
from shammah_data.exchange import Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.session import LogTakenError, Session
from shammah_data.settings import ServeSettings, Settings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.conversation import fill
from shammah_runtime.heeding import Heeding
from shammah_runtime.learned import LearnedIndex

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
    heeding = Heeding(log, index, lambda: now)
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
    heeding = Heeding(log, index, lambda: now)
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
