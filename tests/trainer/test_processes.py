"""One run on two processes, as `accelerate launch` starts them: gloo on the CPU."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from fakes.tiny import Night, Said, TinyHome, script
from fakes.training import train
from shammah_data.errors import TrainingError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_trainer.base import Base
from shammah_trainer.following import follow
from shammah_trainer.processes import Processes

LAUNCH = (
    *("launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"),
    *("--dynamo_backend", "no", "--main_process_port", "0", "-m"),
)
TESTS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
# Relative; 2e-7 were measured, in float32, over twenty steps.
TOLERANCE = 1e-5
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def launch(environment: dict[str, str], *module: str) -> Said:
    """Run a module on two processes."""
    alone = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [script("accelerate"), *LAUNCH, *module]
    done = subprocess.run(
        command, env=os.environ | environment | alone, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
@PEFT_WARNS
def test_two_processes_come_to_the_loss_of_one(method: str, base: Base, tmp_path: Path) -> None:
    """The same batches, divided; in the last of each epoch one process has no example. Sums are made in another order."""
    one = train(base.folder, tmp_path / "one", method, every_step=False, report=False)
    (tmp_path / "two").mkdir()
    said = launch(TESTS, "fakes.training", str(base.folder), str(tmp_path / "two"), method)
    assert said.code == 0, said.err
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    assert two["processes"] == 2
    assert [point["step"] for point in two["curve"]] == [point["step"] for point in one.curve]
    for ours, theirs in zip(two["curve"], one.curve, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=TOLERANCE)
        assert (ours["heldout_loss"] or 0.0) == pytest.approx(theirs["heldout_loss"] or 0.0, rel=TOLERANCE)
    assert two["step"] == one.step


@pytest.fixture
def home(night: Night, tmp_path: Path) -> TinyHome:
    """The exchanges of the first night, quickly trained on."""
    shutil.copytree(night.home.root, tmp_path / "home")
    home = TinyHome(tmp_path / "home", night.home.base)
    home.configure(epochs=3, batch_size=7, start="base", keep_versions=100)
    return home


def test_one_process_writes_and_speaks(home: TinyHome) -> None:
    runs = len(list((home.root / "runs").glob("2*")))
    said = launch(home.environment, "shammah_trainer.cli", "--force")
    assert said.code == 0, said.err
    assert len(list((home.root / "runs").glob("2*"))) == runs + 1
    assert len([line for line in said.out.splitlines() if line.strip()]) == 1
    assert said.err.count("held-out loss before") == 1
    found = ExchangeLog(Home(home.root)).runs(1)[0]["figures"]
    assert found["processes"] == 2
    assert found["loss_after"] < found["loss_before"]


def test_with_nothing_to_do_both_leave(home: TinyHome) -> None:
    with FileLock(home.root / "runs" / ".lock"):
        said = launch(home.environment, "shammah_trainer.cli", "--force")
    assert said.code == 0, said.err
    assert said.out.strip() == "skipped: another run is in progress"


def test_where_another_process_fails_the_run_is_recorded(home: TinyHome) -> None:
    """The launcher ends the first one, which need not have noticed."""
    said = launch(home.environment | TESTS, "fakes.lonely", "--force")
    assert said.code != 0
    assert "shammah-train, process 1: /bases/one: cannot be loaded" in said.err
    assert "internal error" not in said.err
    record = ExchangeLog(Home(home.root)).runs(1)[0]
    assert record["status"] == "failed"
    assert record["reason"] == "ended by SIGTERM: another process of the run failed, or it was told to end"
    assert (home.root / "runs" / str(record["id"]) / "snapshot.parquet").exists()


def test_a_process_by_itself_leads_and_shares_with_nobody() -> None:
    alone = Processes({})
    assert alone.leads
    assert alone.count == 1
    alone.share("something")
    alone.dismiss()
    assert not Processes({"RANK": "1", "WORLD_SIZE": "2"}).leads


def test_what_only_another_process_lacks_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first process waits for it, and is ended without a word."""

    def lacking(*_: object, **__: object) -> None:
        raise TrainingError("/bases/one: cannot be loaded")

    processes = Processes({"RANK": "1", "WORLD_SIZE": "2"})
    monkeypatch.setattr(processes, "receive", lambda: "an order")
    monkeypatch.setattr("shammah_trainer.tune.tune", lacking)
    with pytest.raises(SystemExit) as ending:
        follow(processes)
    assert ending.value.code == TrainingError.exit_code
    assert capsys.readouterr().err == "shammah-train, process 1: /bases/one: cannot be loaded\n"


def test_the_first_of_several_heeds_sigterm_until_they_part() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        for found in ({}, {"RANK": "1", "WORLD_SIZE": "2"}):
            Processes(found).heed()
            assert signal.getsignal(signal.SIGTERM) is before
        first = Processes({"RANK": "0", "WORLD_SIZE": "2"})
        first.heed()
        with pytest.raises(SystemExit) as ending:
            signal.raise_signal(signal.SIGTERM)
        assert ending.value.code == 143
        # What is written down then is not cut short by another one.
        first.ignore()
        signal.raise_signal(signal.SIGTERM)
        first.part()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_importing_torch_is_put_off(tmp_path: Path) -> None:
    """A run with nothing to do answers at once."""
    code = (
        "import sys; from shammah_trainer.processes import Processes; Processes().dismiss(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([script("python"), "-c", code], env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
