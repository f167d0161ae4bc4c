"""The embedder of the engine: vectors as the model makes them, in any batch, and nothing loaded that was not checked."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel, BertTokenizer

from fakes.bert import make_bert
from fakes.blocked import block
from shammah_data.embedder import EmbedderCard, describe_files, digest_of
from shammah_data.errors import ArtifactError
from shammah_export.embedder import export_embedder
from shammah_runtime.engine import embedder as engine
from shammah_runtime.engine.embedder import Embedder

TEXTS = ["How do I reset my password?", "", "a", "what is the password", "你好, résumé", "the " * 60, "15 + 27 = 42"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"), as_vocabulary=True)


@pytest.fixture(scope="session")
def made(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder in float32; not to be changed."""
    folder = tmp_path_factory.mktemp("embedder")
    export_embedder(bert, folder, "fp32", name="tiny")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_vectors_are_those_of_transformers(bert: Path, made: Path) -> None:
    found = Embedder(made, threads=1).embed(TEXTS)
    assert found.shape == (len(TEXTS), 64)
    assert found.dtype == np.float32
    tokenizer = BertTokenizer(str(bert / "vocab.txt"))
    model = BertModel.from_pretrained(bert, dtype=torch.float32).eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=48, return_tensors="pt").input_ids
        with torch.inference_mode():
            mean = model(ids).last_hidden_state[0].mean(dim=0).numpy()
        assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 2e-6


def test_of_a_long_text_only_the_beginning_is_read(made: Path) -> None:
    beginning, longer, beyond = Embedder(made, threads=1).embed(
        ["how", "how" + 3000 * " " + "many", "how" + 4000 * " " + "many"]
    )
    assert np.abs(longer - beginning).max() > 1e-2
    assert np.abs(beyond - beginning).max() < 2e-6


def test_the_batch_does_not_matter(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(made, threads=1)
    texts = [text + " a" * (number % 9) for number in range(30) for text in TEXTS]
    together = embedder.embed(texts)
    assert np.abs(together[10] - embedder.embed(texts[10:11])[0]).max() < 2e-6
    monkeypatch.setattr(engine, "_TOKENS_AT_ONCE", 10)
    assert np.abs(embedder.embed(texts) - together).max() < 2e-6
    assert embedder.embed([]).shape == (0, 64)


def test_batches_hold_every_row_once_within_their_bounds() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(2, 257, 500)]
    batches = engine._batches(lengths)
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    for batch in batches:
        assert len(batch) * max(lengths[row] for row in batch) <= engine._TOKENS_AT_ONCE
        assert len(batch) <= engine._TEXTS_AT_ONCE
    assert engine._batches([5000, 3]) == [[0], [1]]
    tokens = sum(lengths)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.1 * tokens


def test_progress_counts_to_the_end(made: Path) -> None:
    told: list[int] = []
    Embedder(made, threads=1).embed(["a"] * 150, told.append)
    assert told == [64, 128, 150]


def test_a_mark_in_a_text_is_text(made: Path) -> None:
    embedder = Embedder(made, threads=1)
    spelled, mark, without = embedder.embed(["a [SEP] b", "a [ sep ] b", "a b"])
    assert np.abs(spelled - mark).max() < 2e-6
    assert np.abs(spelled - without).max() > 1e-3


def test_nothing_is_read_before_it_is_needed(tmp_path: Path, made: Path) -> None:
    embedder = Embedder(tmp_path / "later", threads=1)
    with pytest.raises(ArtifactError, match="there is no embedder: run `shammah-train embedder`"):
        embedder.embed(["a"])
    shutil.copytree(made, tmp_path / "later")
    assert embedder.embed(["a"]).shape == (1, 64)
    shutil.rmtree(tmp_path / "later")
    assert embedder.card.name == "tiny"


def _graph(folder: Path) -> None:
    path = folder / "embedder.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def _missing(folder: Path) -> None:
    (folder / "embedder.onnx").unlink()


def _card(folder: Path) -> None:
    (folder / "embedder.json").write_bytes(b"{")


@pytest.mark.parametrize("damage", [_graph, _tokenizer, _missing, _card])
def test_a_damaged_embedder_is_refused_with_the_cure(damage: Callable[[Path], None], copy: Path) -> None:
    damage(copy)
    with pytest.raises(ArtifactError, match="run `shammah-train embedder`") as caught:
        Embedder(copy, threads=1).embed(["a"])
    assert len(str(caught.value).splitlines()) == 1


def _sign(folder: Path, **changes: object) -> None:
    """Make a card that agrees with whatever the files are."""
    files = describe_files(folder)
    raw = json.loads((folder / "embedder.json").read_text()) | changes
    raw["files"] = [{"path": one.path, "bytes": one.bytes, "sha256": one.sha256} for one in files]
    (folder / "embedder.json").write_text(json.dumps(raw | {"digest": digest_of(files)}))
    EmbedderCard.verify(folder)


@pytest.mark.parametrize(
    ("name", "said"), [("embedder.onnx", "ONNX Runtime refuses it"), ("tokenizer.json", "not a tokenizer")]
)
def test_a_file_that_is_no_such_thing_is_one_line(name: str, said: str, copy: Path) -> None:
    (copy / name).write_bytes(b"{}")
    _sign(copy)
    with pytest.raises(ArtifactError, match=said) as caught:
        Embedder(copy, threads=1).embed(["a"])
    assert len(str(caught.value).splitlines()) == 1


def test_a_graph_of_another_size_is_refused(copy: Path) -> None:
    _sign(copy, dimensions=32)
    with pytest.raises(ArtifactError, match="not those of an embedder"):
        Embedder(copy, threads=1).embed(["a"])


def test_it_needs_nothing_of_training_and_no_database(made: Path, tmp_path: Path) -> None:
    names = {"torch", "transformers", "onnx", "peft", "accelerate", "safetensors", "duckdb"}
    code = (
        "import sys, pathlib; from shammah_runtime.engine.embedder import Embedder; "
        "print(Embedder(pathlib.Path(sys.argv[1])).embed(['a']).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made)],
        env={"PYTHONPATH": str(block(tmp_path / "site", names, "RuntimeError"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("(1, 64)\n", "")
