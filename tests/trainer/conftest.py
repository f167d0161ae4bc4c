"""The tiny base, made once, and what hangs on it."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fakes.memories import make_embedder
from fakes.nights import HOSTILE, a_month
from fakes.tiny import KEYS, Night, Said, TinyHome, exchanges, make_tiny_base
from shammah_data.home import Home
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer.base import Base, make_base
from shammah_trainer.batches import Encoder

# Two threads that wait for each other are slower than one on a model this small, and hopeless on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Forget the precision of the last test: accelerate takes no second one in a process."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state()


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of the tiny model."""
    return make_tiny_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def base(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny model as a base."""
    return make_base(str(tiny_folder), tmp_path_factory.mktemp("bases"), quiet)


@pytest.fixture(scope="session")
def tokenizer(base: Base) -> ChatTokenizer:
    """The tiny model's tokenizer, as serving reads it."""
    return ChatTokenizer(base.folder / "tokenizer.json", base.chat)


@pytest.fixture(scope="session")
def encoder(tokenizer: ChatTokenizer, base: Base) -> Encoder:
    """Encodes for the tiny model, within 128 tokens."""
    return Encoder(tokenizer, base.stop_ids, 128)


@pytest.fixture(scope="session")
def make_home(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TinyHome]:
    """Make a new home, with other settings of [train] where they are given."""

    def make(**train: object) -> TinyHome:
        home = TinyHome(tmp_path_factory.mktemp("home"), tiny_folder)
        home.configure(**train)
        return home

    return make


@pytest.fixture(scope="session")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedder; not to be changed."""
    return make_embedder(tmp_path_factory.mktemp("told"))


@pytest.fixture(scope="session")
def night(make_home: Callable[..., TinyHome], tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A first run over all exchanges, with an embedder that knows what they are about; not to be changed."""
    # Runs that are not killed in time may publish; nothing collected may be taken for something destroyed.
    home = make_home(keep_versions=100)
    home.import_(exchanges())
    shutil.move(make_embedder(tmp_path_factory.mktemp("told"), words=KEYS), home.root / "embedder")
    return Night(home, home.train())


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home after a month of nights, one of its questions hostile; not to be changed."""
    home = Home(tmp_path_factory.mktemp("past") / "home").create()
    a_month(home, HOSTILE)
    return home


@pytest.fixture
def month(past: Home, tmp_path: Path) -> Home:
    """A copy of it, to be changed."""
    shutil.copytree(past.root, tmp_path / "month")
    return Home(tmp_path / "month")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `shammah-train` through its entry point, in this process: a new one would import torch again each time."""

    def run(home: TinyHome, *arguments: str) -> Said:
        from shammah_trainer import cli

        monkeypatch.setenv("SHAMMAH_HOME", str(home.root))
        monkeypatch.setenv("TQDM_DISABLE", "1")
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
        monkeypatch.setattr("sys.argv", ["shammah-train", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
