import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.training import EXAMPLES, STEPS, recipe, train
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.checkpoints import FOLDER, Checkpoints, adopt, read, sweep
from shammah_trainer.finetune import finetune, load_model
from shammah_trainer.loop import Progress

PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def start(base: Base, run: Path, method: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fakes.training", str(base.folder), str(run), method]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def killed_after(process: "subprocess.Popen[str]", step: int) -> None:
    with process:
        assert process.stdout is not None
        seen = any(line.startswith(f"step {step}\n") for line in process.stdout)
        process.kill()
    assert seen


@PEFT_WARNS
@pytest.mark.parametrize("method", ["rounded", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_killed_training_comes_to_the_same_end_to_the_last_bit(method: str, base: Base, tmp_path: Path) -> None:
    whole = train(base.folder, tmp_path / "whole", method, every_step=False, report=False)
    assert 8 < whole.steps <= STEPS
    run = tmp_path / "run"
    run.mkdir()
    killed_after(start(base, run, method), random.Random(method).randrange(3, whole.steps))
    state = read(run / FOLDER)
    assert state is not None
    assert not (run / "weights.pt").exists()
    with start(base, run, method) as process:
        first = process.stdout.readline() if process.stdout else ""
        process.communicate()
    assert process.returncode == 0
    result = json.loads((run / "result.json").read_text())
    assert first == f"step {state['step'] + 1}\n"
    assert result["resumed"] == state["step"] > 1
    assert result["curve"] == whole.curve
    assert result["epochs"] == whole.epoch_losses
    assert result["step"] == whole.step
    weights = torch.load(run / "weights.pt")
    assert weights.keys() == whole.model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.model.state_dict().items())


def test_a_state_of_another_training_is_not_taken_up(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "a", "one").save({"step": 3})
    assert Checkpoints(tmp_path / "a", "other").load() is None
    assert not (tmp_path / "a").exists()


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"step": 3, "rng": random.Random(0).getstate(), "weights": {"w": torch.arange(4.0)}, "none": None}
    Checkpoints(tmp_path / "a", "key").save(state)
    found = Checkpoints(tmp_path / "a", "key").load()
    assert found is not None
    assert found["rng"] == state["rng"]
    assert torch.equal(found["weights"]["w"], torch.arange(4.0))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["state.pt"]
    assert (tmp_path / "a" / "state.pt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 cut"])
def test_what_cannot_be_read_is_no_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    assert read(tmp_path) is None


def test_a_state_with_a_damaged_name_is_none(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "key").save({"step": 3})
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes().replace(b"step", b"st\xffp", 1))
    assert read(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_a_state_that_was_taken_up_leaves_the_disk_with_the_next_one(base: Base, encoder: Encoder, tmp_path: Path) -> None:
    """Mapped, it would take its place on the disk until the run ends: of the default base 1.6 GB."""

    def tuned(report: Callable[[Progress], None]) -> None:
        kept = Checkpoints(tmp_path, "key", 0.0, share=1.0)
        finetune(load_model(base.folder), encoder, EXAMPLES[:29], recipe(), 2, report, checkpoints=kept, mixed="no")

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    def look(progress: Progress) -> None:
        mapped.append("state.pt" in Path("/proc/self/maps").read_text(encoding="utf-8"))

    mapped: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        tuned(stop)
    tuned(look)
    assert len(mapped) < STEPS
    assert not mapped[-1]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, nothing more is written."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    return lambda: monkeypatch.setattr("shammah_trainer.checkpoints.os.fsync", full)


def test_a_state_that_cannot_be_written_is_the_last_and_makes_room(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    told: list[str] = []
    ticks = iter(range(0, 10**6, 1000))
    kept = Checkpoints(tmp_path / "a", "key", 0.0, share=0.5, clock=lambda: float(next(ticks)), say=told.append)
    assert kept.save_best("best-00000001.pt", {"w": torch.ones(1)})
    kept.save({"step": 1, "best_file": "best-00000001.pt"})
    assert kept.due
    full_disk()
    kept.save({"step": 2, "best_file": "best-00000001.pt"})
    assert not kept.due
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["best-00000001.pt"]
    assert kept.load_best("best-00000001.pt")["w"] == 1
    assert not kept.save_best("best-00000002.pt", {"w": torch.ones(1)})
    assert not (tmp_path / "a").exists()
    assert len(told) == 1


def test_torch_s_own_word_for_a_failed_write_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos 704 vs 598\nframe #0")

    monkeypatch.setattr("torch.save", fail)
    told: list[str] = []
    assert not Checkpoints(tmp_path / "a", "key", say=told.append).save_best("best-00000001.pt", {})
    assert "unexpected pos 704 vs 598)" in told[0]


def test_only_the_best_weights_that_a_state_names_stay(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "a", "key")
    for name in ("best-00000001.pt", "best-00000002.pt"):
        kept.save_best(name, {"w": torch.zeros(1)})
    kept.save({"best_file": "best-00000002.pt"})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["best-00000002.pt", "state.pt"]


def slow(clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every write take so long."""
    monkeypatch.setattr(Checkpoints, "_write", lambda *_: setattr(clock, "now", clock.now + seconds))


def test_the_interval_grows_with_what_a_write_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    slow(clock, monkeypatch, 5.0)
    kept = Checkpoints(tmp_path, "key", seconds=60.0, clock=clock)
    spent = 0.0
    while clock.now < 3600:
        clock.now += 1.0
        if kept.due:
            kept.save({})
            spent += 5.0
    assert 0.03 < spent / clock.now < 0.05


def test_a_large_state_waits_longer_for_its_first_write(tmp_path: Path) -> None:
    clock = Clock()
    kept = Checkpoints(tmp_path, "key", seconds=10.0, size=2 * 10**9, clock=clock)
    clock.now = 200.0
    assert not kept.due
    clock.now = 250.0
    assert kept.due


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Path]:
    """Make run folders with a checkpoint each."""

    def make(*names: str) -> Path:
        for name in names:
            Checkpoints(tmp_path / "runs" / name / FOLDER, "key").save({"step": int(name)})
        (tmp_path / "runs" / "9").mkdir(parents=True)
        return tmp_path / "runs"

    return make


def test_the_newest_checkpoint_is_adopted(runs: Callable[..., Path]) -> None:
    folder = runs("1", "2")
    assert adopt(folder, folder / "9") == "2"
    state = read(folder / "9" / FOLDER)
    assert state is not None
    assert state["step"] == 2
    assert not (folder / "2" / FOLDER).exists()


def test_what_is_of_no_use_any_more_makes_room(runs: Callable[..., Path]) -> None:
    """Before the room on the disk is looked at: a state that was half written is as large as a whole one."""
    folder = runs("1", "2", "3")
    (folder / "3" / FOLDER / "state.pt").rename(folder / "3" / FOLDER / ".state.pt.half")
    (folder / "2" / FOLDER / ".state.pt.half").write_bytes(b"half")
    assert adopt(folder, folder / "9") == "2"
    assert [path.name for path in (folder / "9" / FOLDER).iterdir()] == ["state.pt"]
    assert not (folder / "1" / FOLDER).exists()
    assert not (folder / "3" / FOLDER).exists()


def test_without_a_checkpoint_nothing_is_adopted(runs: Callable[..., Path]) -> None:
    folder = runs()
    assert adopt(folder, folder / "9") is None


def test_stale_checkpoints_are_swept(runs: Callable[..., Path]) -> None:
    folder = runs("1", "2")
    sweep(folder, folder / "2")
    assert not (folder / "1" / FOLDER).exists()
    assert (folder / "2" / FOLDER).exists()
    sweep(folder, None)
    assert not (folder / "2" / FOLDER).exists()
