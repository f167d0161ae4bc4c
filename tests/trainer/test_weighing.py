"""What the log's own questions say of words: what stands everywhere tells little."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from fakes.memories import make_embedder
from shammah_data.embedder import EmbedderCard
from shammah_data.errors import ArtifactError
from shammah_runtime.engine.embedder import Embedder
from shammah_trainer.weighing import token_weights, weigh

WORDS = ("card", "lost", "stolen", "fee")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which two texts are alike where they hold the same ones of WORDS."""
    return make_embedder(tmp_path_factory.mktemp("weighing"), words=WORDS)


@pytest.fixture
def tokenizer(embedder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(embedder / "tokenizer.json"))


def test_a_token_counts_the_less_the_more_of_all_tokens_it_is(tokenizer: Tokenizer) -> None:
    weights_V = token_weights(tokenizer, ["card lost", "card stolen", "card card fee"])
    told = {word: weights_V[tokenizer.token_to_id(word)] for word in WORDS}
    once = 0.01 / (0.01 + 1 / 7)
    assert told == pytest.approx({"card": 0.01 / (0.01 + 4 / 7), "lost": once, "stolen": once, "fee": once})
    assert weights_V[tokenizer.token_to_id("password")] == 1.0
    assert all(weights_V[tokenizer.token_to_id(mark)] < 1e-5 for mark in ("[CLS]", "[SEP]"))
    assert (weights_V > 0).all()


def test_of_nothing_nothing_is_told(tokenizer: Tokenizer) -> None:
    weights_V = token_weights(tokenizer, [])
    assert sorted(set(weights_V.tolist())) == pytest.approx([1e-6, 1.0])


def test_what_all_ask_about_no_longer_makes_two_questions_alike(embedder: Path, tmp_path: Path) -> None:
    texts = [f"card {word}" for word in ("lost", "stolen", "fee") for _ in range(5)]
    card = weigh(embedder, texts, tmp_path)
    assert EmbedderCard.verify(tmp_path) == card

    def alike(folder: Path, one: str, other: str) -> float:
        vectors_NH = Embedder(folder, threads=1).embed([one, other])
        return float(vectors_NH[0] @ vectors_NH[1])

    assert alike(tmp_path, "card lost", "card fee") < alike(embedder, "card lost", "card fee") - 0.1
    assert alike(tmp_path, "lost", "card lost") > alike(embedder, "lost", "card lost") + 0.1


def test_a_text_without_words_has_a_vector_too(embedder: Path, tmp_path: Path) -> None:
    weigh(embedder, ["card lost"], tmp_path)
    vectors_NH = Embedder(tmp_path, threads=1).embed(["", "card"])
    assert np.isfinite(vectors_NH).all()
    assert np.linalg.norm(vectors_NH, axis=1) == pytest.approx([1.0, 1.0], abs=1e-3)


def test_a_damaged_embedder_is_named(embedder: Path, tmp_path: Path) -> None:
    for path in embedder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_bytes(b"none")
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="tokenizer"):
        weigh(tmp_path, ["card lost"], tmp_path / "out")
