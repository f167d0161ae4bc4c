"""What processes of a home tell each other: every reader gets each id once, whatever is cut meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

from shammah_data import log as log_module
from shammah_data.announced import Announced, announce
from shammah_data.exchange import Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

LINE = len(b'{"id": "0000"}\n')
MOST = 40 * LINE


def name(number: int) -> str:
    return f"{number:04}"


def test_the_ratings_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_MOST_ANNOUNCED", 1000)
    home = Home(tmp_path / "home").create()
    log, exchange = ExchangeLog(home), Exchange("Who?", "Ann.", "teacher")
    log.append(exchange)
    reader, told = Announced(home.ratings), []
    given = [Feedback(exchange.id, "good") for _ in range(60)]
    for feedback in given:
        log.rate(feedback)
        told += reader.fresh()
    assert home.ratings.stat().st_size <= 1000
    assert home.ratings.stat().st_mode & 0o777 == 0o600
    assert told == [feedback.id for feedback in given]


@pytest.mark.parametrize("step", [1, 3, 7, 15])
def test_readers_get_each_id_once_whatever_was_cut(tmp_path: Path, step: int) -> None:
    path = tmp_path / "told.jsonl"
    early, told = Announced(path), []
    for number in range(500):
        announce(path, [name(number)], MOST)
        if number % step == 0:
            told += early.fresh()
            assert early.fresh() == []
    told += early.fresh()
    assert told == [name(number) for number in range(500)]
    late = Announced(path, anew=True)
    assert late.fresh() == []
    announce(path, ["new"], MOST)
    assert late.fresh() == early.fresh() == ["new"]


def test_who_looks_seldom_gets_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    reader = Announced(path)
    for number in range(500):
        announce(path, [name(number)], MOST)
    told = reader.fresh()
    assert 20 <= len(told) <= 40
    assert told == [name(number) for number in range(500 - len(told), 500)]


def test_what_is_told_at_once_is_all_there(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    reader = Announced(path)
    announce(path, map(name, range(500)), MOST)
    assert reader.fresh() == [name(number) for number in range(500)]


def test_a_file_that_was_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    announce(path, ["a", "b"])
    reader = Announced(path, anew=True)
    path.unlink()
    assert reader.fresh() == []
    announce(path, ["c"])
    assert reader.fresh() == ["c"]


def test_processes_that_tell_at_once_lose_nothing_to_each_other(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    code = (
        "import sys; from pathlib import Path; from shammah_data.announced import announce\n"
        "for n in range(200): announce(Path(sys.argv[1]), [f'{sys.argv[2]}{n:03}'], int(sys.argv[3]))"
    )
    # So large that a reader that never rests is not behind by half of it.
    tellers = [subprocess.Popen([sys.executable, "-c", code, str(path), who, str(10 * MOST)]) for who in "ab"]
    reader, told = Announced(path), []
    while any(teller.poll() is None for teller in tellers):
        told += reader.fresh()
    told += reader.fresh()
    assert sorted(told) == sorted(f"{who}{n:03}" for who in "ab" for n in range(200))
    assert path.stat().st_size <= 10 * MOST
