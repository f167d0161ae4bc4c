"""scripts/bench forward: its figures, its peers, and what it says of arguments that cannot be."""

import importlib
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.learned import Known
from shammah_trainer.dataset import Example

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_a_confidence_that_keeps_its_word_has_no_error(scripts: Any) -> None:
    figures = scripts("forward_figures")
    kept = [(0.25, n % 4 == 0) for n in range(600)] + [(0.75, n % 4 != 0) for n in range(600)]
    found = figures.calibration_error(kept)
    assert found["questions"] == 1200
    assert found["debiased"] == pytest.approx(0.0, abs=0.02)
    bold = [(0.9, n % 2 == 0) for n in range(600)]
    assert figures.calibration_error(bold)["plain"] == pytest.approx(0.4, abs=0.01)
    assert figures.calibration_error(bold)["debiased"] == pytest.approx(0.4, abs=0.01)
    assert figures.calibration_error(bold)["rms"] == pytest.approx(0.4, abs=0.01)


def test_noise_of_small_bins_is_taken_off(scripts: Any) -> None:
    draw = random.Random(0).random
    kept = [(sure, draw() < sure) for sure in (draw() for _ in range(300))]
    found = scripts("forward_figures").calibration_error(kept)
    assert found["plain"] > 0.05
    assert found["debiased"] < 0.9 * found["plain"]
    assert found["rms"] < found["plain"]


def asked(scripts: Any, *said: tuple[float, bool]) -> list[Any]:
    made = scripts("night_figures").Asked
    return [made("heldout", f"c{n}", "q", "a", right, sure, sure >= 0.5, 1) for n, (sure, right) in enumerate(said)]


def test_risk_rises_with_coverage_where_the_wrong_answers_are_the_least_sure(scripts: Any) -> None:
    curve = scripts("forward_figures").risk_coverage
    points, area = curve(asked(scripts, (0.9, True), (0.8, True), (0.3, False), (0.2, False)))
    assert points == [(0.25, 0.0), (0.5, 0.0), (0.75, pytest.approx(1 / 3)), (1.0, 0.5)]
    assert area == pytest.approx((1 / 3 + 1 / 2) / 4)
    # One threshold cannot part equals.
    points, _ = curve(asked(scripts, (0.9, True), (0.9, False)))
    assert points == [(1.0, 0.5)]


def test_in_which_order_equals_were_asked_changes_no_area(scripts: Any) -> None:
    """Held-out questions are asked first: a contestant that is equally sure of all must gain nothing by that."""
    curve = scripts("forward_figures").risk_coverage
    some = [(0.9, True), *[(0.5, True)] * 4, *[(0.5, False)] * 4, (0.1, False)]
    _, area = curve(asked(scripts, *some))
    assert curve(asked(scripts, *reversed(some)))[1] == pytest.approx(area)
    # What it is on average, over every order of the eight equals.
    assert area == pytest.approx((sum((n / 2) / (n + 1) for n in range(1, 9)) + 5 / 10) / 10)


def test_what_nobody_chose_or_measured_is_no_figure(scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench, figures = scripts("bench_forward"), scripts("night_figures").figures
    some = asked(scripts, *((n / 40, n > 15) for n in range(40)))
    flat = asked(scripts, *((0.0, False) for _ in range(40)))
    said = {"cascade": some, "untuned model": some, "always Claude": flat}
    measured = {name: bench.in_hindsight(figures(one, 20, 0), name) for name, one in said.items()}
    counts = {"asked": 1, "local": 0, "wrong": 0, "saved_usd": 0.0}
    found = {"seed": 0, "version": "v0001", "seconds": 1.0, "served": {"cascade": counts}, "asked": said, "figures": measured}
    found |= {"risk_coverage_area": dict.fromkeys(said, 0.5), "calibration": bench.calibration_error([(0.5, True)] * 4)}
    bench.tell(found)
    bench.together([found])
    told = capsys.readouterr().out
    assert "nan" not in told
    # Once for the seed and once for all: nothing was answered; and nobody chose a threshold for the base model.
    assert len(re.findall("always Claude +deployed precision +none", told)) == 1
    assert len(re.findall("cascade +deployed coverage ", told)) == 1
    assert not re.findall("untuned model +deployed", told)


def test_the_page_draws_every_contestant_that_ranks(scripts: Any) -> None:
    some = asked(scripts, *((n / 40, n > 15) for n in range(40)))
    flat = asked(scripts, *((0.0, False) for _ in range(40)))
    page = scripts("forward_plots").page({"cascade": some, "nearest words": some, "always Claude": flat})
    assert page.count("<svg viewBox") == 2
    assert "nearest words" in page
    assert "always Claude" not in page
    assert "http" not in page


def test_the_peers_repeat_what_they_learned(scripts: Any) -> None:
    bench = scripts("forward_caches")
    exact, words = bench.exact(), bench.words()
    for cache in (exact, words):
        assert cache.find("When does it open?").text == ""
        cache.learn(Known("1", "When does it open?", "At 9."))
    assert exact.find("when does it open").text == "At 9."
    assert exact.find("when does the shop open").text == ""
    near = words.find("when does the shop open")
    assert near.text == "At 9."
    assert 0.0 < near.sure < words.find("When does it open?").sure == 1.0
    # Nobody chose a threshold yet: nothing is given.
    assert exact.threshold > 1.0


def test_peers_too_are_held_against_questions_as_if_never_logged(scripts: Any) -> None:
    bench = scripts("forward_caches")
    taught = [
        Example("1", "when does the shop open", "The shop opens at 9.", group=1),
        Example("2", "when does the shop open today", "The shop opens at 9.", group=1),
        Example("3", "when does the bar open", "The bar opens at 18.", group=2),
        Example("4", "where is the shop", "The shop opens at 9.", group=3),
    ]

    def shared_words() -> Any:
        known: list[Known] = []

        def find(query: str) -> Any:
            words = set(query.split())
            found = max(known, key=lambda one: len(words & set(one.query.split())), default=None)
            return bench.Answer(found.answer, len(words & set(found.query.split()))) if found else bench.Answer()

        return bench.Cache(find, known.append)

    # What the fourth says is right for the first two, and the other way round: the bar's is their one wrong answer.
    assert sorted(bench.as_if_new(shared_words, taught, seed=0)) == [1, 4, 4, 4]
    assert list(bench.as_if_new(bench.exact, taught, seed=0)) == []


def test_peers_know_all_that_was_logged(scripts: Any, tmp_path: Path) -> None:
    """A night merges what is nearly the same; a cache would not, and the version beside it knows it all again as it serves."""
    home = Home(tmp_path).create()
    queries = [f"when does the {place} open" for place in ("bakery", "library", "museum", "pool", "gym", "theatre")]
    queries += ["i can't get my virtual card to work at all", "where is my new card"]
    log = ExchangeLog(home)
    log.add_many([Exchange(query, f"Answer {n}.", "teacher") for n, query in enumerate(queries[:6])])
    log.add_many([Exchange(query, "Type it in by hand.", "teacher") for query in queries[6:]])
    log.add_many([Exchange("i cant get my virtual card to work at all", "Type it in by hand.", "teacher")])
    (home.runs / "night").mkdir(parents=True)
    _, _, until = log.snapshot(home.runs / "night" / "snapshot.parquet")
    memory = SimpleNamespace(embedder=SimpleNamespace(embed=lambda texts: np.ones((len(texts), 2)) / 2**0.5))
    manifest = SimpleNamespace(snapshot_until=until.isoformat(), run="night")
    found = scripts("forward_caches").caches(SimpleNamespace(model=SimpleNamespace(manifest=manifest, memory=memory)), home)
    for query in (*queries, "i cant get my virtual card to work at all"):
        assert found["exact cache"].find(query).sure >= found["exact cache"].threshold
        assert found["nearest words"].find(query).sure == pytest.approx(1.0)
    # No question that a night holds out is asked in the same words, so none can tell how far these are to be trusted.
    assert found["exact cache"].find("when does the zoo open").sure < found["exact cache"].threshold


def test_a_cache_is_as_sure_as_its_answers_were_right(scripts: Any) -> None:
    promised = scripts("forward_caches").promised
    scored = [(0.9, n % 10 != 0) for n in range(200)] + [(0.6, n % 2 == 0) for n in range(200)]
    chances = dict(zip((sure for sure, _ in scored), (chance for chance, _ in promised(scored)), strict=True))
    assert chances[0.9] == pytest.approx(0.9, abs=0.03)
    assert chances[0.6] == pytest.approx(0.5, abs=0.03)
    assert [right for _, right in promised(scored)] == [right for _, right in scored]
    # An exact cache that never found anything is sure of nothing.
    assert all(chance < 0.5 for chance, _ in promised([(0.0, False)] * 20))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--data", "/nowhere"], "make_stream.py: no such file"), ([], "--data"), (["--trained", "0"], "--data")],
)
def test_what_is_missing_is_told(arguments: list[str], told: str) -> None:
    command = [sys.executable, str(SCRIPTS / "bench_forward.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
