"""Tokens that count more than others: against torch, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from fakes.bert import make_bert
from shammah_data.embedder import EmbedderCard
from shammah_data.errors import ArtifactError, ExportError
from shammah_export.embedder import export_embedder
from shammah_export.embedder_parity import TEXTS, padded
from shammah_export.token_weights import weigh_tokens
from shammah_runtime.engine.embedder import Embedder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("weights") / "bert")


@pytest.fixture(scope="module")
def plain(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    export_embedder(bert, folder, "fp32", name="tiny")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def vocabulary(folder: Path) -> int:
    return int(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size())


def test_the_mean_is_weighed_as_torch_weighs_it(bert: Path, plain: Path, out: Path) -> None:
    weights_V = np.random.default_rng(0).uniform(0.01, 3.0, vocabulary(plain)).astype(np.float32)
    weigh_tokens(plain, out, weights_V)
    tokenizer = Tokenizer.from_file(str(plain / "tokenizer.json"))
    model = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    found_NH = Embedder(out, threads=1).embed(TEXTS)
    for text, found_H in zip(TEXTS, found_NH, strict=True):
        ids_BS, mask_BS = padded([tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden_SH = model(torch.tensor(ids_BS), torch.tensor(mask_BS)).last_hidden_state[0].numpy()
        wanted_H = (hidden_SH * weights_V[ids_BS[0]][:, None]).sum(axis=0)
        assert found_H == pytest.approx(wanted_H / np.linalg.norm(wanted_H), abs=1e-4)
    assert np.abs(found_NH - Embedder(plain, threads=1).embed(TEXTS)).max() > 0.01


def test_padding_still_changes_nothing(plain: Path, out: Path) -> None:
    weigh_tokens(plain, out, np.linspace(0.1, 2.0, vocabulary(plain)).astype(np.float32))
    embedder = Embedder(out, threads=1)
    assert embedder.embed(TEXTS) == pytest.approx(np.concatenate([embedder.embed([text]) for text in TEXTS]), abs=1e-5)


def test_where_all_count_the_same_nothing_changes(plain: Path, out: Path) -> None:
    card = weigh_tokens(plain, out, np.full(vocabulary(plain), 0.3, np.float32))
    assert Embedder(out, threads=1).embed(TEXTS) == pytest.approx(Embedder(plain, threads=1).embed(TEXTS), abs=1e-5)
    before = EmbedderCard.verify(plain)
    assert EmbedderCard.verify(out) == card
    assert (card.pooling, before.pooling) == ("weighted mean", "mean")
    # Vectors of the two must not be compared.
    assert card.digest != before.digest
    assert (card.name, card.source_sha256, card.parity) == (before.name, before.source_sha256, before.parity)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


@pytest.mark.parametrize("odd", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_positive_number_is_refused(plain: Path, out: Path, odd: float) -> None:
    weights_V = np.ones(vocabulary(plain), np.float32)
    weights_V[7] = odd
    with pytest.raises(ExportError, match="must be positive numbers"):
        weigh_tokens(plain, out, weights_V)
    assert list(out.iterdir()) == []


def test_what_is_weighed_is_not_weighed_again(plain: Path, out: Path, tmp_path: Path) -> None:
    weights_V = np.ones(vocabulary(plain), np.float32)
    weigh_tokens(plain, out, weights_V)
    (tmp_path / "twice").mkdir()
    with pytest.raises(ExportError, match="is weighed already"):
        weigh_tokens(out, tmp_path / "twice", weights_V)


def test_a_damaged_embedder_is_named(plain: Path, out: Path, tmp_path: Path) -> None:
    weights_V = np.ones(vocabulary(plain), np.float32)
    weigh_tokens(plain, out, weights_V)
    (out / "embedder.onnx").write_bytes(b"none")
    with pytest.raises(ArtifactError, match="not the bytes that were made"):
        weigh_tokens(out, tmp_path, weights_V)
