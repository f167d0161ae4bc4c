"""scripts/bench nights: what is asked, and how nights are compared."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("bench_nights", SCRIPTS / "bench_nights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def asked(*right: bool) -> list[dict[str, Any]]:
    """Ten groups in turn."""
    return [{"cluster": str(n % 10), "right": one} for n, one in enumerate(right)]


def test_a_difference_is_paired_and_drawn_by_groups(bench: ModuleType) -> None:
    before, after = asked(*[True] * 100), asked(*[n % 10 != 3 for n in range(100)])
    mean, low, high = bench.difference(before, after, seed=0)
    assert mean == pytest.approx(-0.1)
    # One group was lost as a whole: that may be none or three of ten in another draw.
    assert low <= -0.2
    assert high == 0.0
    assert bench.difference(before, before, seed=0) == (0.0, 0.0, 0.0)
    assert bench.difference([], after, seed=0) is None


def test_only_what_the_first_nights_taught_is_asked_and_nothing_that_was_logged(bench: ModuleType, tmp_path: Path) -> None:
    queries = [
        {"cluster_id": cluster, "query": f"{cluster} {n}", "split": "heldout" if n else "stream"}
        for cluster in ("a", "b", "c")
        for n in range(4)
    ]
    answers = [{"cluster_id": cluster, "facts": [cluster]} for cluster in ("a", "b", "c")]
    (tmp_path / "faq_queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / "faq_answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    days = [[{"cluster_id": "a", "query": "a 0"}], [{"cluster_id": "b", "query": "b 0"}], [{"cluster_id": "c", "query": "a 2"}]]
    given = argparse.Namespace(seed=0, data=tmp_path, first=2, asked=100)
    found = bench._questions(given, days)
    assert {question.query for question in found} == {"a 1", "a 3", "b 1", "b 2", "b 3"}
    # Even over the groups as long as they last.
    assert {question.cluster for question in found[:2]} == {"a", "b"}
    assert all(question.facts == (question.cluster,) for question in found)


def test_a_night_that_was_killed_begins_as_the_one_before_left_it(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "none"))
    work = bench.Work(tmp_path / "work", {"seed": 1}, stays=True)
    home = work.begin(1)
    (home.root / "log").write_text("first")
    work.keep([{"night": 1}])
    home = work.begin(2)
    (home.root / "log").write_text("half a second night")
    again = bench.Work(tmp_path / "work", {"seed": 1}, stays=True)
    assert again.told == [{"night": 1}]
    home = again.begin(2)
    assert (home.root / "log").read_text() == "first"
    (home.root / "log").write_text("second")
    again.keep([{"night": 1}, {"night": 2}])
    last = bench.Work(tmp_path / "work", {"seed": 1}, stays=True)
    assert (last.begin(3).root / "log").read_text() == "second"
    with pytest.raises(SystemExit) as ended:
        bench.Work(tmp_path / "work", {"seed": 2}, stays=True)
    assert ended.value.code == 2
    assert "another command" in capsys.readouterr().err


def test_nights_are_compared_by_the_same_questions_only(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are drawn from a folder that may have changed since the first of these nights."""
    first = [{"night": 1, "asked": [{"query": "What is it?"}]}, {"night": 2, "asked": []}]
    bench.Work(tmp_path, {"seed": 1}, stays=True).keep(first)
    work = bench.Work(tmp_path, {"seed": 1}, stays=True)
    work.asks(["What is it?"])
    with pytest.raises(SystemExit) as ended:
        work.asks(["What was it?"])
    assert ended.value.code == 2
    assert "other questions" in capsys.readouterr().err


def test_of_how_many_questions_a_share_is_and_none_is_told_where_nothing_serves(
    bench: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    night = {"seconds": 9.0, "cpu_seconds": 9.0, "train_seconds": 5.0, "start": None, "steps": None}
    told: list[dict[str, Any]] = [{**night, "night": 1, "status": "refused", "asked": []}]
    bench._tell(told, 1)
    told.append({**night, "night": 2, "status": "published", "asked": asked(*[True] * 9, False)})
    bench._tell(told, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("first nights' groups right: none asked, for nothing serves")
    assert lines[1].endswith("first nights' groups right 90.0% of 10")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--data", "/nowhere"], "no such file"), ([], "--data"), (["--data", ".", "--nights", "0"], "at least 1")],
)
def test_what_is_missing_is_told(arguments: list[str], told: str) -> None:
    command = [sys.executable, str(SCRIPTS / "bench_nights.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
