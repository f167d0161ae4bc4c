"""scripts/bench thresholds: what it counts, and that it finds a promise that is not kept."""

import importlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench_thresholds")


def labels(bench: Any, count: int, right: Callable[[float, random.Random], bool]) -> list[Any]:
    """Questions whose answers are backed more or less, each of a cluster of its own."""
    rng = random.Random(0)
    made = []
    for n in range(count):
        sure = rng.random()
        found = {
            "mean": -1.0 + sure,
            "least": -3.0 + 3 * sure,
            "opening": -1.0 + sure,
            "support": sure,
            "odds": -5.0 + 10.0 * sure,
        }
        made.append(bench.Label("heldout", f"c{n}", found, right(sure, rng), ()))
    return made


def test_thresholds_of_a_confidence_that_ranks_keep_the_promise(bench: Any) -> None:
    some = labels(bench, 400, lambda sure, rng: rng.random() < min(1.0, 1.6 * sure))
    rng = random.Random(1)
    found = [bench.split(bench.Asked(some), 120, 0.95, rng)[0] for _ in range(12)]
    assert sum(kept.coverage for kept in found) / 12 > 0.2
    assert sum(kept.below(0.95) for kept in found) <= 3


def test_a_promise_that_was_not_kept_is_found(bench: Any) -> None:
    none = {"reserved": (0, 20), "outside": (0, 20)}
    assert bench.Kept(0.5, 100, 85, certified=True, **none).below(0.95)
    assert not bench.Kept(0.5, 100, 93, certified=True, **none).below(0.95)
    assert not bench.Kept(0.0, 0, 0, certified=False, **none).below(0.95)


def test_answers_to_what_had_to_be_declined_are_counted_apart(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is as sure of them as of what it knows; half of all that is asked has to be declined."""
    kinds = ("heldout", "heldout", "reserved", "outside")
    some = [replace(one, kind=kinds[n % 4], right=n % 4 < 2) for n, one in enumerate(labels(bench, 800, lambda *_: True))]
    kept = bench.split(bench.Asked(some), 400, 0.5, random.Random(0))[0]
    assert kept.given - kept.right == kept.reserved[0] + kept.outside[0] > 0
    assert kept.coverage == kept.right / (400 - kept.reserved[1] - kept.outside[1])
    bench.tell([bench.Asked(some)], 400, 0.5, 1)
    told = re.search(r"the model alone .* never logged +([0-9.]+)%, out of scope +([0-9.]+)%", capsys.readouterr().out)
    assert told is not None
    assert [float(share) for share in told.groups()] == pytest.approx(
        [100 * answered / asked for answered, asked in (kept.reserved, kept.outside)], abs=0.06
    )


def test_what_was_asked_is_read_again(bench: Any, tmp_path: Path) -> None:
    some = labels(bench, 120, lambda sure, rng: sure > 0.4)
    right = sum(label.right for label in some)
    (tmp_path / "asked.json").write_text(json.dumps([asdict(bench.Asked(some))]))
    command = [sys.executable, str(SCRIPTS / "bench_thresholds.py"), "--asked", str(tmp_path / "asked.json")]
    told = subprocess.run([*command, "--labels", "60", "--splits", "4"], capture_output=True, text=True, check=True).stdout
    assert f"120 questions, 120 other phrasings, {right / 120:.0%} of them right" in told
    assert told.count("below ") == 2


def test_what_cannot_be_split_is_told(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    kept = tmp_path / "asked.json"
    some = [replace(one, kind="reserved") for one in labels(bench, 20, lambda *_: False)]
    for text, told in (
        (json.dumps([asdict(bench.Asked(labels(bench, 100, lambda sure, _: sure > 0.4)))]), "--labels 240: 100 questions"),
        (json.dumps([asdict(bench.Asked(some))]), "no other phrasings"),
        ("[]", "not what --keep writes"),
        ("{", "not what --keep writes"),
    ):
        kept.write_text(text)
        monkeypatch.setattr("sys.argv", ["bench", "--asked", str(kept)])
        with pytest.raises(SystemExit) as ended:
            bench.main()
        assert ended.value.code == 2
        assert told in capsys.readouterr().err.splitlines()[-1]


def test_where_nothing_is_answered_there_is_no_precision(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.tell([bench.Asked(labels(bench, 80, lambda *_: False))], 40, 0.95, 2)
    told = capsys.readouterr().out
    assert "nan" not in told
    assert "precision   none" in told


def test_the_curve_of_earlier_answers_is_fitted_to_all_of_it(bench: Any, tmp_path: Path) -> None:
    names = ("similarity", "gap", "share", "relevance", "mean", "least", "opening", "lift")
    some = labels(bench, 300, lambda sure, rng: True)
    for n, label in enumerate(some):
        near = n / len(some)
        tried = bench.Tried("A.", dict.fromkeys(names, 0.0) | {"similarity": near}, near > 0.6)
        some[n] = replace(label, earlier=(tried,))
    (tmp_path / "asked.json").write_text(json.dumps([asdict(bench.Asked(some))]))
    command = [sys.executable, str(SCRIPTS / "bench_thresholds.py"), "--asked", str(tmp_path / "asked.json"), "--curve"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    found = {name: float(number) for name, number in re.findall(r"(\w+) (-?[0-9.]+)", told)}
    assert told.endswith("; 300 questions")
    # As likely right as wrong where it turns.
    assert -found["intercept"] / found["similarity"] == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "--data and --homes, or --asked"), (["--data", "/nowhere", "--homes", "/nowhere"], "no such file")],
)
def test_arguments_that_cannot_be_are_told(arguments: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS / "bench_thresholds.py"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
