"""A run may be killed at any moment: the log and the version that serves stay, and the next run completes."""

import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.tiny import Night, Said, TinyHome, exchanges, other_phrasings
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.store import ModelStore

# Standard error tells how far a run has come: in the training, before the evaluation, before the publishing.
MOMENTS = (re.compile(r"train: step 1/"), re.compile(r"exported "), re.compile(r"answer: (\d+)/\1$"))
RANDOM_ROUNDS = 50


@dataclass(frozen=True)
class State:
    """What a killed run must leave as it is."""

    exchanges: list[dict[str, Any]]
    versions: dict[str, bytes]


def state(home: TinyHome) -> State:
    log = ExchangeLog(Home(home.root), wait=5.0)
    kept = sorted(log.recent(1000), key=lambda row: str(row["id"]))
    models = home.root / "models"
    store = ModelStore(models)
    files = [path for name in store.versions() for path in sorted((models / name).rglob("*")) if path.is_file()]
    return State(kept, {str(path.relative_to(models)): path.read_bytes() for path in files})


def assert_untouched(home: TinyHome, before: State) -> None:
    """The log is what it was; every listed version is whole, and those from before are what they were."""
    now = state(home)
    assert now.exchanges == before.exchanges
    store = ModelStore(home.root / "models")
    assert store.pointer().champion in store.versions()
    for version in store.versions():
        store.verify(version)
    assert all(now.versions[name] == content for name, content in before.versions.items())


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def home(night: Night, tmp_path: Path) -> TinyHome:
    """A copy of a home that has published once."""
    shutil.copytree(night.home.root, tmp_path / "home")
    home = TinyHome(tmp_path / "home", night.home.base)
    # Without them a new version would be no better than the one that is there.
    home.import_(other_phrasings())
    return home


def complete(home: TinyHome, before: State, train: Callable[..., Said], as_good: str | None = None) -> None:
    """Let a run come to its end after the killed ones: it publishes, or is no better than a champion `as_good`."""
    said = train(home, "--force")
    assert said.code == 0, said.err
    published = said.out.startswith("published: ")
    assert published or said.out.startswith(f"refused: no better than {as_good}: "), said
    assert_untouched(home, before)
    assert home.pointer()["champion"] == (said.out.split()[1].rstrip(":") if published else as_good)
    # What the killed runs left half made is gone.
    assert not [path.name for path in (home.root / "models").iterdir() if path.name.startswith((".staging", ".deleted"))]
    assert not list((home.root / "bases").glob(".*"))


def test_killed_at_each_stage(home: TinyHome, train: Callable[..., Said]) -> None:
    before = state(home)
    for moment in MOMENTS:
        with home.start("shammah-train", "--force", "--epochs", "1") as process:
            assert process.stderr is not None
            seen = ""
            for seen in process.stderr:
                if moment.match(seen):
                    break
            kill(process)
        assert moment.match(seen)
        assert process.returncode != 0
        assert_untouched(home, before)
    complete(home, before, train)


def test_killed_while_the_base_is_made(make_home: Callable[..., TinyHome], train: Callable[..., Said]) -> None:
    home = make_home()
    home.import_(exchanges())
    with home.start("shammah-train") as process:
        assert process.stderr is not None
        assert any("converting" in line for line in process.stderr)
        kill(process)
    assert home.pointer() == {}
    said = train(home, "--epochs", "0.1")
    assert said.code == 0, said.err
    assert len([path for path in (home.root / "bases").iterdir() if (path / "base.json").exists()]) == 1


def test_what_killed_runs_left_is_gone_after_a_refused_one(home: TinyHome, train: Callable[..., Said]) -> None:
    """Each is as large as a version: nights that are killed and then refused must not fill the disk."""
    half = home.root / "models" / ".staging-0123"
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half")
    said = train(home, "--force", "--epochs", "0.1")
    assert said.out.startswith("refused: "), said
    assert not half.exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random(home: TinyHome, train: Callable[..., Said]) -> None:
    # With a checkpoint as often as may be, a run that is killed goes on in the next: over the rounds, some are taken up twice.
    home.configure(keep_versions=100, checkpoint_seconds=0)
    began = time.monotonic()
    assert home.train("--force", "--epochs", "6").code == 0
    whole = time.monotonic() - began
    before = state(home)
    rng = random.Random(0)
    killed = 0
    for _ in range(RANDOM_ROUNDS):
        with home.start("shammah-train", "--force", "--epochs", "6") as process:
            try:
                process.communicate(timeout=rng.uniform(0.1, whole))
            except subprocess.TimeoutExpired:
                killed += 1
            kill(process)
        assert_untouched(home, before)
    assert killed >= RANDOM_ROUNDS // 2
    complete(home, before, train, as_good=str(home.pointer()["champion"]))
