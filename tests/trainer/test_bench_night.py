"""scripts/bench night: its figures, its questions, and one night of it on the tiny model."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("night_figures")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("streams")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return _load("bench_night")


def answers(figures: Any, *said: tuple[str, float, bool]) -> list[Any]:
    """(kind, confidence, right), each of a cluster of its own; accepted from 0.5 on."""
    return [figures.Asked(kind, f"c{n}", "q", "a", right, sure, sure >= 0.5, 1) for n, (kind, sure, right) in enumerate(said)]


def test_auroc_is_the_share_of_pairs_in_order(figures: Any) -> None:
    some = answers(figures, ("heldout", 0.9, True), ("heldout", 0.5, True), ("reserved", 0.5, False), ("outside", 0.1, False))
    assert figures.auroc(some) == pytest.approx((2 + 1.5) / 4)
    assert math.isnan(figures.auroc(some[:2]))


def test_coverage_counts_heldout_queries_and_every_mistake(figures: Any) -> None:
    some = answers(
        figures,
        ("heldout", 0.9, True),
        ("heldout", 0.8, True),
        ("outside", 0.7, False),
        ("heldout", 0.6, True),
        ("heldout", 0.2, False),
    )
    assert figures.coverage(some, 0.99) == 0.5
    assert figures.coverage(some, 0.75) == 0.75
    assert figures.coverage(some, 0.0) == 1.0
    assert figures.deployed(some) == {"coverage": 0.75, "precision": 0.75}


def test_equal_confidences_are_accepted_together(figures: Any) -> None:
    some = answers(figures, ("heldout", 0.9, True), ("reserved", 0.9, False))
    assert figures.coverage(some, 0.95) == 0.0
    assert figures.coverage(some, 0.5) == 1.0


def test_an_interval_holds_its_value_and_is_a_point_where_all_are_the_same(figures: Any) -> None:
    some = answers(figures, *[("heldout", 0.1 + 0.08 * n, n % 3 > 0) for n in range(10)], ("outside", 0.3, False))
    found = figures.measure(some, 200, 0)
    assert found["right"]["low"] < found["right"]["value"] < found["right"]["high"]
    same = figures.measure(answers(figures, *[("heldout", 0.9, True)] * 5), 50, 0)
    assert same["right"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found == figures.measure(some, 200, 0)


def test_phrasings_of_one_question_are_drawn_together(figures: Any) -> None:
    apart = answers(figures, *[("heldout", 0.9, n < 10) for n in range(20)])
    joined = [figures.Asked("heldout", f"c{n % 2}", "q", "a", n % 2 == 0, 0.9, True, 1) for n in range(20)]
    of_apart, of_joined = (figures.measure(some, 300, 0)["right"] for some in (apart, joined))
    assert of_joined["high"] - of_joined["low"] > 1.5 * (of_apart["high"] - of_apart["low"])


def test_bands_are_by_logged_phrasings(figures: Any) -> None:
    some = [figures.Asked("heldout", "c", "q", "a", n > 4, 0.9, n > 8, n) for n in (1, 3, 4, 5, 12, 40)]
    found = figures.by_logged(some)
    assert {name: band["asked"] for name, band in found.items()} == {"1": 1, "2-4": 2, "5-9": 1, "10+": 2}
    assert found["10+"] == {"asked": 2, "right": 1.0, "accepted": 1.0}


def test_what_nothing_was_measured_of_is_no_figure(figures: Any, bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A night that gave no answer has no precision, and one that published nothing no ranking either; both cover nothing."""
    sure = answers(figures, *[("heldout", 0.9, True)] * 3, ("heldout", 0.1, False))
    unsure = answers(figures, *[("heldout", 0.4, True)] * 3, ("heldout", 0.1, False))
    nights = [
        {"seed": n, "events": 50, "exchanges": 40, "status": "published", "reason": "", **figures.figures(said, 20, 0)}
        for n, said in enumerate((sure, unsure))
    ]
    nights.append({"seed": 2, "events": 50, "exchanges": 40, "status": "refused", "reason": "no better"})
    for found in nights:
        bench.tell(found)
    bench.over_seeds(50, nights)
    told = capsys.readouterr().out
    assert "nan" not in told
    lines = {" ".join(line.split()) for line in told.splitlines()}
    assert "the model alone deployed precision none" in lines
    assert "the model alone deployed precision 1.000 (1.000 to 1.000), 1 of 3 nights" in lines
    assert "the model alone auroc 1.000 (1.000 to 1.000), 2 of 3 nights" in lines
    assert "the model alone deployed coverage 0.250 (0.000 to 0.750)" in lines
    # Nor is it one in a file: NaN is no JSON.
    written = json.loads(json.dumps(figures.plain(nights), allow_nan=False))
    assert written[1]["measures"]["deployed precision"] == {"value": None, "low": None, "high": None}


def test_facts_in_either_spelling(streams: Any) -> None:
    assert not streams.holds("It takes 5 days.", ())
    assert streams.holds("It takes 5-10 days after the Original  Payment.", ("5 to 10 days|5-10 days", "original payment"))
    assert streams.holds("It takes 5–10 Working Days.", ("5 to 10 working days|5–10 working days",))
    assert not streams.holds("It takes 5 days.", ("5", "weeks"))


STREAM = """
import json, sys
seed, events, out, sources = sys.argv[1:]
with open(out, "w") as sink:
    for n in range(int(events)):
        c = n % 3
        event = {"cluster_id": f"x:{c}", "query": f"thing {c} number {n}", "answer": f"It is about {c}.", "n": n, "day": n / 30}
        sink.write(json.dumps(event if c else {**event, "cluster_id": None, "answer": None}) + chr(10))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A stream of two clusters, a third never logged, and one question out of scope that the stream has asked."""
    (tmp_path / "make_stream.py").write_text(STREAM)
    rows: dict[str, list[dict[str, Any]]] = {
        "faq_answers": [{"cluster_id": f"x:{n}", "facts": [str(n)], "reserved": n == 3} for n in range(4)],
        "faq_queries": [
            {"cluster_id": f"x:{n % 4}", "query": f"what of {n % 4}, {n}", "split": "heldout" if n < 24 else "stream"}
            for n in range(40)
        ],
        "out_of_scope": [{"query": "thing 0 number 0"}, {"query": "the weather"}],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_what_is_asked(streams: Any, data: Path) -> None:
    stream = streams.stream(data, 0, 9, "x", data / "out.jsonl")
    assert [one.query for one in streams.exchanges(stream, "test")] == [f"thing {n % 3} number {n}" for n in range(9) if n % 3]
    asked = streams.questions(data, "x", stream, 8, 4, 5, 0)
    assert [one.kind for one in asked] == ["heldout"] * 8 + ["reserved"] * 4 + ["outside"]
    assert {one.cluster for one in asked[:8]} == {"x:1", "x:2"}
    assert {one.logged for one in asked[:8]} == {3}
    assert {one.cluster for one in asked[8:12]} == {"x:3"}
    assert asked[12].query == "the weather"
    assert len({one.query for one in asked}) == 13
    assert asked == streams.questions(data, "x", stream, 8, 4, 5, 0)


def test_a_missing_file_and_an_unknown_setting_are_told(
    bench: Any, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in (
        (["--data", str(data / "nowhere")], "make_stream.py: no such file"),
        (["--data", str(data), "--set", "epoch=3"], "[train] has no 'epoch'"),
    ):
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            bench.main()
        assert ended.value.code == 2
        assert told in capsys.readouterr().err
