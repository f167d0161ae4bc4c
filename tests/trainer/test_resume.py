"""A night that is killed in its training: the next one goes on where it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from fakes.tiny import Night, Said, TinyHome
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_trainer.checkpoints import FOLDER, read

QUICK = {"checkpoint_seconds": 0, "epochs": 12, "keep_versions": 100}


@pytest.fixture
def killed(night: Night, tmp_path: Path) -> TinyHome:
    """A home whose last run was killed after a checkpoint."""
    shutil.copytree(night.home.root, tmp_path / "home")
    home = TinyHome(tmp_path / "home", night.home.base)
    home.configure(**QUICK)
    with home.start("shammah-train", "--force") as process:
        assert process.stderr is not None
        assert any(line.startswith("train: step ") for line in process.stderr)
        while not checkpoints(home):
            assert process.poll() is None
        process.kill()
    return home


def checkpoints(home: TinyHome) -> list[Path]:
    return sorted(home.root.glob(f"runs/*/{FOLDER}/state.pt"))


def figures(home: TinyHome) -> dict[str, object]:
    found: dict[str, object] = ExchangeLog(Home(home.root)).runs(1)[0]["figures"]
    return found


def test_the_next_run_goes_on_where_a_killed_one_was(
    killed: TinyHome, train: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    (left,) = checkpoints(killed)
    state = read(left.parent)
    assert state is not None
    said = train(killed, "--force")
    assert said.code == 0, said.err
    earlier = left.parent.parent.name
    assert f"run {earlier} was interrupted: going on after its step {state['step']}" in said.err
    found = figures(killed)
    assert found["resumed"] == {"run": earlier, "step": state["step"]}
    assert not checkpoints(killed)
    # The same night, never interrupted, and timed alike.
    AcceleratorState._reset_state()
    monkeypatch.setattr("shammah_trainer.tune.mixed_precision", lambda: found["mixed_precision"])
    again = train(killed, "--force")
    assert again.code == 0, again.err
    whole = figures(killed)
    assert "resumed" not in whole
    assert whole["loss_curve"] == found["loss_curve"]
    assert whole["loss_after_torch"] == found["loss_after_torch"]


def test_another_recipe_begins_anew(killed: TinyHome, train: Callable[..., Said]) -> None:
    said = train(killed, "--force", "--epochs", "0.5")
    assert said.code == 0, said.err
    assert "interrupted" not in said.err
    assert not checkpoints(killed)
