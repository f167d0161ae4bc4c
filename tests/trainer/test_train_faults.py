"""What must never be published, by whole runs: nothing learned, a graph that is damaged, a split that leaks.

And what is published all the same: a version of which the log could take no record at that moment.

Answers that were dealt out at random are in test_train_run.py.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.tiny import Night, Said, TinyHome, other_phrasings
from shammah_data.exchange import RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.past import past_runs
from shammah_data.session import LogTakenError
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_export.export import ExportReport, export_model
from shammah_trainer.checkpoints import FOLDER
from shammah_trainer.dataset import Dataset, build_dataset
from shammah_trainer.processes import Processes
from shammah_trainer.progress import Reporter
from shammah_trainer.run import Result, Stages, train_once
from shammah_trainer.tune import Order

Train = Callable[..., Said]


@pytest.fixture
def after(night: Night, tmp_path: Path) -> TinyHome:
    """A home whose champion knows nearly everything, and two phrasings more of each question in the log."""
    shutil.copytree(night.home.root, tmp_path / "home")
    home = TinyHome(tmp_path / "home", night.home.base)
    home.import_(other_phrasings())
    home.configure(epochs=16)
    return home


def run(home: TinyHome, stages: Stages) -> Result:
    return train_once(Home(home.root), Settings.load(home.root / "config.toml"), Reporter(), False, stages)


def refused(home: TinyHome) -> list[str]:
    """The checks of the newest run that refused, which left everything as it was."""
    record = ExchangeLog(Home(home.root)).runs(1)[0]
    assert (record["status"], record["version"]) == ("refused", None)
    store = ModelStore(home.root / "models")
    assert store.versions() == ["v0001"]
    assert store.pointer().champion == "v0001"
    assert not list((home.root / "models").glob(".staging*"))
    return [check["name"] for check in record["figures"]["gate"] if check["reason"] is not None]


def test_the_same_run_without_a_fault_is_published(after: TinyHome, train: Train) -> None:
    """Else the refusals below would prove nothing."""
    said = train(after)
    assert said.out.startswith("published: v0002: "), said.out
    record = ExchangeLog(Home(after.root)).runs(1)[0]
    assert [check["name"] for check in record["figures"]["gate"]] == [
        "split",
        "quantization",
        "held-out loss",
        "answers follow from questions",
        "unanswerable",
        "against v0001",
        "older groups",
    ]
    champion = record["figures"]["champion"]
    assert champion["version"] == "v0001"
    # What v0001 was trained on when it was held out by none is no question to compare them with.
    assert champion["asked"] + champion["left_out"] == record["figures"]["heldout"]["phrasing"]["asked"]
    assert champion["overall"]["asked"] == champion["asked"] >= 8
    assert champion["overall"]["right"] >= champion["overall"]["before"]
    # What it had been asked on its own night was not asked again.
    asked = [line for line in said.err.splitlines() if line.startswith("v0001 answers: ")][-1]
    assert int(asked.split("/")[1]) < record["figures"]["heldout"]["phrasing"]["asked"] + 48
    footprint = record["figures"]["footprint"]
    assert footprint["tokens_per_second"] > 0
    assert footprint.get("peak_bytes", 10**7) > 10**6
    assert record["figures"]["intervals"]["phrasings right"]["low"] > 0.5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_that_learned_nothing_is_refused(after: TinyHome, train: Train) -> None:
    after.configure(method="lora", learning_rate=1e-8, epochs=1.0, start="base")
    said = train(after)
    assert said.out.startswith("refused: ")
    assert {"answers follow from questions", "against v0001", "older groups"} <= set(refused(after))
    assert "worse than v0001: 0 right" in said.out
    assert "forgot more than 2%" in said.out


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_that_learned_nothing_is_refused_as_a_first_version_too(after: TinyHome, train: Train) -> None:
    shutil.rmtree(after.root / "models")
    after.configure(method="lora", learning_rate=1e-8, epochs=0.1)
    assert train(after).out.startswith("refused: ")
    record = ExchangeLog(Home(after.root)).runs(1)[0]
    assert "answers follow from questions" in [check["name"] for check in record["figures"]["gate"] if check["reason"]]
    assert ModelStore(after.root / "models").versions() == []


def test_a_damaged_quantization_is_refused(after: TinyHome) -> None:
    def damaged(model: Path, folder: Path, precision: Any, **more: Any) -> ExportReport:
        report = export_model(model, folder, precision, **more)
        weights = np.fromfile(folder / "weights.bin", np.uint8)
        # One byte in a hundred, as a wrong block would be.
        chosen = np.random.default_rng(0).choice(len(weights), len(weights) // 100, replace=False)
        weights[chosen] ^= 0x40
        weights.tofile(folder / "weights.bin")
        return report

    after.configure(epochs=4)
    result = run(after, Stages(export=damaged))
    assert result.status == "refused"
    assert "quantization" in refused(after)
    assert "parity: " in result.reason


def test_a_split_that_leaks_is_refused(after: TinyHome) -> None:
    """By the split alone: everything else looks better than ever."""

    def leaking(rows: Sequence[dict[str, Any]], seed: int, *more: Any) -> Dataset:
        split = build_dataset(rows, seed, *more)
        return replace(split, train=(*split.train, *split.heldout_phrasings))

    result = run(after, Stages(split=leaking))
    assert result.status == "refused"
    assert refused(after) == ["split"]
    assert result.reason.startswith("the split leaks: ")
    assert "held-out questions were trained on" in result.reason


def test_a_version_whose_record_the_log_cannot_take_is_published(
    after: TinyHome, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(log: ExchangeLog, record: RunRecord) -> None:
        raise LogTakenError("in use by process 7")

    with monkeypatch.context() as during:
        during.setattr(ExchangeLog, "record_run", taken)
        said = train(after)
    assert (said.code, said.out.splitlines()[0][:17]) == (0, "published: v0002:")
    assert "the next run puts its record into the log, which could not take it now (in use by process 7)" in said.out
    log = ExchangeLog(Home(after.root))
    assert [record["version"] for record in log.runs()] == ["v0001"]
    line = train(after, "history").out.splitlines()[1].split()
    assert (line[2], line[-1]) == ("published", "v0002")
    assert train(after).out.startswith("skipped: ")
    assert [record["version"] for record in log.runs()] == ["v0002", "v0001"]
    last, _ = past_runs(Home(after.root), log)
    assert last.reason in said.out


@pytest.mark.parametrize("several", [True, False])
def test_a_run_whose_other_process_is_gone_can_be_taken_up(
    after: TinyHome, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """The first one may notice before it is told to end; by itself, the same error is its own."""

    def ending(order: Order, *_: object, **__: object) -> None:
        (order.run / FOLDER).mkdir()
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("shammah_trainer.tune.tune", ending)
    processes = Processes({"RANK": "0", "WORLD_SIZE": "2"} if several else {})
    monkeypatch.setattr(processes, "share", lambda _: None)
    home = Home(after.root)
    with pytest.raises(RuntimeError, match="closed by peer"):
        train_once(home, Settings.load(home.settings), Reporter(), True, processes=processes)
    record = ExchangeLog(home).runs(1)[0]
    assert record["status"] == "failed"
    ended = "RuntimeError: Connection closed by peer"
    told = "another process of the run failed, or it was told to end"
    assert record["reason"] == (f"ended by {ended}: {told}" if several else ended)
    assert (home.runs / str(record["id"]) / FOLDER).exists() == several
