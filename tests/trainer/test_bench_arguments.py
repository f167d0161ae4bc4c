"""The benchmarks that train say in one line what cannot be, before they begin what takes hours."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is wanted, of which only the answers are read before the arguments are."""
    folder = tmp_path_factory.mktemp("data")
    answers = [
        {"cluster_id": "b77:a", "answer": "It takes 5 days.", "facts": ["5"]},
        {"cluster_id": "clinc:a", "answer": "It is 7.", "facts": ["7"]},
        {"cluster_id": "shell:a", "answer": "ls"},
    ]
    (folder / "faq_answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    (folder / "make_stream.py").write_text("raise SystemExit('it began')\n")
    for name in ("faq_queries", "out_of_scope"):
        (folder / f"{name}.jsonl").write_text("")
    home = Home(folder / "homes" / "seed-0-events-500").create()
    ExchangeLog(home).add_many([Exchange("Why?", "So.", "teacher")])
    return folder


Run = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Code, output and what went to stderr of a benchmark that ends before it has begun."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def ended(script: str, *arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr("sys.argv", [script, *arguments])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(script).main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return ended


@pytest.mark.parametrize("script", ["bench_forward", "bench_night", "bench_thresholds"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "0,0"], "0,0: each of them once"),
        (["--seeds", ""], "'' is not a whole number"),
        (["--sources", "b77,nowhere"], "nowhere: no such clusters"),
        (["--sources", "shell"], "shell: its answers name no facts"),
        (["--heldout", "0"], "at least 1"),
        (["--homes", "DATA/none"], "seed-0-events-500: no such home"),
        (["--homes", "DATA/homes", "--seeds", "0"], "seed-0-events-500: nothing was published there"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(script: str, arguments: list[str], told: str, data: Path, run: Run) -> None:
    given = ["--data", str(data), *(one.replace("DATA", str(data)) for one in arguments)]
    if script == "bench_thresholds" and "--homes" not in given:
        given += ["--homes", str(data / "homes")]
    if script == "bench_night" and "--homes" in given:
        given += ["--milestones", "500"]
    code, out, errors = run(script, *given)
    assert (code, out) == (2, "")
    assert told in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("bench_forward", ["--json", "/nowhere/figures.json"], "its folder is not there"),
        ("bench_forward", ["--html", "/"], "a folder"),
        ("bench_forward", ["--events", "-5"], "not a whole number"),
        ("bench_night", ["--json", "/nowhere/figures.json"], "its folder is not there"),
        ("bench_night", ["--milestones", "0,50"], "each at least 1"),
        ("bench_night", ["--set", "epochs=three"], "--set epochs=three"),
        ("bench_nights", ["--json", "/nowhere/figures.json"], "its folder is not there"),
        ("bench_nights", ["--sources", "nowhere"], "nowhere: no such clusters"),
        ("bench_nights", ["--threads", "0"], "at least 1"),
        ("bench_thresholds", ["--targets", "95"], "shares above 0 and below 1"),
        ("bench_thresholds", ["--splits", "0"], "at least 1"),
        ("bench_thresholds", ["--keep", "/nowhere/asked.json"], "its folder is not there"),
        ("bench_thresholds", ["--asked", "/nowhere/asked.json"], "/nowhere/asked.json: no such file"),
        ("bench_quantization", ["--events", "0"], "at least 1"),
        ("bench_quantization", ["--json", "/nowhere/figures.json"], "its folder is not there"),
        ("bench_trials", ["--runs", "0"], "at least 1"),
        ("bench_learned", ["--lookups", "0"], "at least 1"),
        ("bench_learned", ["--rows", "2"], "--rows: at least 3"),
        ("bench_learned", ["--home", "/nowhere"], "/nowhere: no such home"),
        ("bench_learned", ["--json", "/nowhere/figures.json"], "its folder is not there"),
    ],
)
def test_what_this_one_is_given_too(script: str, arguments: list[str], told: str, data: Path, run: Run) -> None:
    where = [] if script in ("bench_trials", "bench_learned") else ["--data", str(data)]
    code, out, errors = run(script, *where, *arguments)
    assert (code, out) == (2, "")
    assert told in errors.splitlines()[-1]


def test_pairs_need_their_files(data: Path, run: Run) -> None:
    code, _, errors = run("bench_learned", "--data", str(data), "--rows", "10", "--lookups", "2")
    assert code == 2
    assert "hard_negatives.jsonl: no such file" in errors


def test_pairs_need_an_embedder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    (tmp_path / "home").mkdir()
    for name in ("hard_negatives", "faq_queries", "faq_answers"):
        (tmp_path / f"{name}.jsonl").write_text("")
    given = ["--data", str(tmp_path), "--home", str(tmp_path / "home"), "--rows", "20", "--lookups", "2"]
    monkeypatch.setattr("sys.argv", ["bench_learned", *given])
    assert importlib.import_module("bench_learned").main() == 2
    assert "there is no embedder" in capsys.readouterr().err.splitlines()[-1]


def test_a_home_of_another_stream_is_not_taken(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    arguments: Any = importlib.import_module("arguments")
    home = Home(data / "homes" / "seed-0-events-500")
    arguments.same_user(home, ["Why?", "When?"])
    with pytest.raises(SystemExit) as ended:
        arguments.same_user(home, ["When?"])
    assert ended.value.code == 2
    assert "most of its log is of another stream" in capsys.readouterr().err
