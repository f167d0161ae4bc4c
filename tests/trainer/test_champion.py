"""Which questions are fair to the version that serves, and what is remembered of its answers."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shammah_data.home import Home
from shammah_data.manifest import CacheShape, Calibration, ChatFormat, FileEntry, Golden, GraphEntry, Manifest
from shammah_runtime.engine.backing import Backing
from shammah_runtime.engine.confidence import features
from shammah_trainer.champion import Remembered, past_of
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.evaluate import Outcome

MORNING, EVENING = datetime(2030, 1, 1, 8), datetime(2030, 1, 1, 20)
TAUGHT = Example("1", "How does the scanner work?", "Ask Marta.", group=0)
HELD_OUT_THEN = Example("2", "Explain scanner to a newcomer", "Ask Marta.", group=0)
TAUGHT_THEN = Example("3", "Tell me about the scanner in the hall", "Ask Marta.", group=0)
NEARLY_THE_SAME = Example("4", "Tell me about the scanner in the hall!", "Ask Marta.", group=0)
NEW_PHRASING = Example("5", "Who knows the scanner rules?", "Ask Marta.", group=0)
NEW_GROUP = Example("6", "What about our garage here?", "Use level 2.", group=1)
NEW_TAUGHT = Example("7", "Any news on garage?", "Use level 2.", group=1)
DATASET = Dataset((TAUGHT, NEW_TAUGHT), (HELD_OUT_THEN, TAUGHT_THEN, NEARLY_THE_SAME, NEW_PHRASING, NEW_GROUP), (), groups=2)
OLD = (TAUGHT, HELD_OUT_THEN, TAUGHT_THEN)


def manifest(until: datetime = datetime(2030, 1, 1, 12)) -> Manifest:
    calibration = Calibration({"mean": 1.0}, 0.0, 0.5, 0.95, 20, 10, 10, certified=False)
    return Manifest(
        version="v0001",
        created="2030-01-01T12:00:00+00:00",
        run="night",
        base="tiny",
        base_sha256="0" * 64,
        snapshot_sha256="0" * 64,
        snapshot_rows=3,
        snapshot_until=until.isoformat(),
        shape=CacheShape(1, 1, 8, 64, 128),
        chat=ChatFormat("", "U:", "\n", "A:", "\n"),
        stop_ids=(0,),
        graphs=(GraphEntry("int8/model.onnx", "cpu", "int8", (Golden((1,), (2,)),), calibration),),
        files=(FileEntry("int8/model.onnx", 1, "0" * 64),),
        evaluation={},
        oldest_runtime="0.1.0",
    )


def rows() -> list[dict[str, Any]]:
    everything = (*DATASET.train, *DATASET.heldout_phrasings)
    return [{"id": e.id, "query": e.query, "logged_at": MORNING if e in OLD else EVENING} for e in everything]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The record of the version's night: one question was held out, and one was nobody's."""
    (tmp_path / "night").mkdir()
    lines = [{"kind": "phrasing", "query": HELD_OUT_THEN.query}, {"kind": "outside", "query": TAUGHT_THEN.query}]
    (tmp_path / "night" / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_what_it_was_trained_on_is_no_fair_question(runs: Path) -> None:
    past = past_of(manifest(), runs, rows(), DATASET)
    assert past.seen == {TAUGHT_THEN.id, NEARLY_THE_SAME.id}
    assert past.older == {0}


def test_without_its_record_all_of_its_snapshot_counts_as_trained_on(tmp_path: Path) -> None:
    assert past_of(manifest(), tmp_path, rows(), DATASET).seen == {HELD_OUT_THEN.id, TAUGHT_THEN.id, NEARLY_THE_SAME.id}


def test_to_a_version_that_saw_nothing_every_question_is_fair(runs: Path) -> None:
    past = past_of(manifest(datetime(2029, 1, 1)), runs, rows(), DATASET)
    assert (past.seen, past.older) == (frozenset(), frozenset())


def answered(example: Example, text: str) -> Outcome:
    return Outcome(example, "phrasing", text, features((-0.1, -0.2), Backing(0.3)), True, False, "", 12.0, 2)


def test_answers_are_remembered_and_judged_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    remembered = Remembered(home, "v0001")
    known = Backing(0.4)

    def backs(query: str, answer: str) -> Backing:
        return known

    assert remembered.outcome("phrasing", NEW_PHRASING, 64, backs) is None
    assert remembered.loss(NEW_PHRASING) == (False, None)
    remembered.add([answered(NEW_PHRASING, "Ask Marta.")], 64, [(NEW_PHRASING, (3.5, 7)), (NEW_GROUP, None)])
    remembered.write(["v0001"])
    again = Remembered(home, "v0001")
    known = Backing(1.0, 0.8, 0.3)
    found = again.outcome("phrasing", NEW_PHRASING, 64, backs)
    assert found is not None
    assert (found.text, found.right, found.finished, found.tokens) == ("Ask Marta.", True, True, 2)
    assert found.features["mean"] == answered(NEW_PHRASING, "").features["mean"]
    # How well an answer is backed depends on what is known today.
    assert [found.features[name] for name in ("support", "near", "gap")] == [1.0, 0.8, 0.3]
    assert again.loss(NEW_PHRASING) == (True, (3.5, 7))
    assert again.loss(NEW_GROUP) == (True, None)
    # Another length, another reference, another kind of question.
    assert again.outcome("phrasing", NEW_PHRASING, 32, backs) is None
    corrected = Example("5", NEW_PHRASING.query, "Ask Petra on day 4.", group=0)
    changed = again.outcome("phrasing", corrected, 64, backs)
    assert changed is not None
    assert not changed.right
    assert again.loss(corrected) == (False, None)
    outside = again.outcome("outside", NEW_PHRASING, 64, backs)
    assert outside is not None
    assert not outside.right


def test_versions_that_are_gone_are_forgotten_and_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for version in ("v0001", "v0002"):
        remembered = Remembered(home, version)
        remembered.add([answered(NEW_PHRASING, "Ask Marta.")], 64, [])
        remembered.write([version])
    (file,) = (home.cache / "heldout").iterdir()
    assert file.name == "v0002.json"
    assert not file.stat().st_mode & 0o077
    file.write_text("{")
    assert Remembered(home, "v0002").outcome("phrasing", NEW_PHRASING, 64, lambda *_: Backing()) is None


@pytest.mark.parametrize("other", [{}, [], 5, "x", None, {"text": "Ask Marta."}, {"text": 5, "features": [], "finished": 1}])
def test_what_has_another_shape_is_asked_again(tmp_path: Path, other: object) -> None:
    home = Home(tmp_path)
    remembered = Remembered(home, "v0001")
    remembered.add([answered(NEW_PHRASING, "Ask Marta.")], 64, [(NEW_PHRASING, (3.5, 7))])
    remembered.write(["v0001"])
    (file,) = (home.cache / "heldout").iterdir()
    keys = json.loads(file.read_text())
    file.write_text(json.dumps(dict.fromkeys(keys, other)))
    again = Remembered(home, "v0001")
    assert again.outcome("phrasing", NEW_PHRASING, 64, lambda *_: Backing()) is None
    # An answer of which nothing can be encoded has no loss.
    assert again.loss(NEW_PHRASING) == ((True, None) if other is None else (False, None))
    file.write_text(json.dumps([other]))
    assert Remembered(home, "v0001").loss(NEW_PHRASING) == (False, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", None),
        ("features", {"mean": "x", "least": 0.0, "opening": 0.0}),
        ("features", {"mean": 0.0}),
        ("finished", "yes"),
        ("ms", "1"),
        ("tokens", None),
    ],
)
def test_a_part_of_another_kind_is_asked_again(tmp_path: Path, name: str, value: object) -> None:
    home = Home(tmp_path)
    remembered = Remembered(home, "v0001")
    remembered.add([answered(NEW_PHRASING, "Ask Marta.")], 64, [])
    remembered.write(["v0001"])
    (file,) = (home.cache / "heldout").iterdir()
    ((key, found),) = json.loads(file.read_text()).items()
    file.write_text(json.dumps({key: found}))
    assert Remembered(home, "v0001").outcome("phrasing", NEW_PHRASING, 64, lambda *_: Backing()) is not None
    file.write_text(json.dumps({key: {**found, name: value}}))
    assert Remembered(home, "v0001").outcome("phrasing", NEW_PHRASING, 64, lambda *_: Backing()) is None
