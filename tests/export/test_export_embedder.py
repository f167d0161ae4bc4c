"""The embedder is BertModel, the mean over its tokens, and length one; what it does not know is refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import torch
from tokenizers import Tokenizer
from transformers import BertModel, BertTokenizer

from fakes.bert import make_bert, write_vocabulary
from shammah_data.embedder import EmbedderCard
from shammah_data.errors import ExportError
from shammah_export.embedder import export_embedder
from shammah_export.embedder_parity import LIMITS, EmbedderParity, measure_embedder_parity, padded, within_embedder_limits
from shammah_export.precision import Precision
from shammah_export.sink import InlineWeights

TEXTS = ["How do I reset my password?", "a", "", "What is 15 + 27?", "你好, résumé", "the " * 60]

SHAPES: list[dict[str, Any]] = [
    {},
    {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 192, "num_hidden_layers": 3},
    {"hidden_size": 96, "num_attention_heads": 12, "num_hidden_layers": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT; not to be changed."""
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """The tiny BERT, to be changed."""
    return Path(shutil.copytree(bert, tmp_path / "copy"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def change(path: Path, **settings: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | settings))


def run(out: Path, ids: list[list[int]]) -> Any:
    session = onnxruntime.InferenceSession(str(out / "embedder.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(("ids", "mask"), padded(ids), strict=True)))[0]


def reference(folder: Path, ids: list[int]) -> Any:
    """One text, without padding."""
    model = BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


# -- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SHAPES, ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-6), ("int8", 0.02)])
def test_vectors_are_those_of_transformers(
    settings: dict[str, Any], precision: Precision, tolerance: float, tmp_path: Path, out: Path
) -> None:
    folder = make_bert(tmp_path / "model", **settings)
    card = export_embedder(folder, out, precision, name="tiny")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    assert len({len(text) for text in ids}) > 3
    found = run(out, ids)
    assert found.shape == (len(TEXTS), card.dimensions)
    wanted = np.array([reference(folder, text) for text in ids])
    assert np.abs(found - wanted).max() < tolerance
    # The texts are told apart by far more than the tolerance.
    assert np.abs(wanted[0] - wanted[1]).max() > 5 * tolerance


def test_the_parity_is_that_of_its_definition(bert: Path, out: Path) -> None:
    card = export_embedder(bert, out, "int8", name="tiny")
    measured = measure_embedder_parity(bert, out, TEXTS)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    cosines = [float(a @ reference(bert, b)) for a, b in zip(run(out, ids), ids, strict=True)]
    assert (measured.least, measured.mean) == pytest.approx((min(cosines), np.mean(cosines)), abs=1e-5)
    assert measured.texts == len(TEXTS)
    assert 0.99 < measured.least < 0.999999
    assert card.parity["mean_cosine"] > 0.998


def test_another_models_graph_does_not_pass(bert: Path, out: Path, tmp_path: Path) -> None:
    export_embedder(bert, out, "int8", name="tiny")
    other = make_bert(tmp_path / "other", seed=8)
    assert [reason.split(" is ")[0][:12] for reason in within_embedder_limits(measure_embedder_parity(other, out), "int8")] == [
        "least cosine",
        "mean cosine ",
    ]


@pytest.mark.parametrize("precision", LIMITS)
def test_every_limit_is_enforced(precision: Precision) -> None:
    good = EmbedderParity(least=1.0, mean=1.0, texts=10)
    assert within_embedder_limits(good, precision) == []
    assert "least" in within_embedder_limits(replace(good, least=0.4), precision)[0]
    assert "mean" in within_embedder_limits(replace(good, mean=0.7), precision)[0]
    assert len(within_embedder_limits(replace(good, least=float("nan"), mean=float("nan")), precision)) == 2


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_card_says_what_was_made(bert: Path, out: Path) -> None:
    card = export_embedder(bert, out, name="tiny")
    assert EmbedderCard.verify(out) == card
    assert (card.name, card.dimensions, card.max_tokens, card.pooling, card.precision) == ("tiny", 64, 48, "mean", "int8")
    assert sorted(path.name for path in out.iterdir()) == ["embedder.json", "embedder.onnx", "tokenizer.json"]
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


def test_the_graph_keeps_its_contract(bert: Path, out: Path) -> None:
    export_embedder(bert, out, "int8", name="tiny")
    model = onnx.load(out / "embedder.onnx")
    assert [value.name for value in model.graph.input] == ["ids", "mask"]
    assert [value.name for value in model.graph.output] == ["embedding"]
    operators = {node.op_type for node in model.graph.node}
    assert {"MatMulNBits", "GatherBlockQuantized"} <= operators
    assert not {"MatMul", "Gemm", "Gather"} & operators


def test_the_same_model_has_the_same_digest(bert: Path, copy: Path, out: Path, tmp_path: Path) -> None:
    first = export_embedder(bert, out, name="a").digest
    assert export_embedder(copy, out, name="b").digest == first
    assert export_embedder(make_bert(tmp_path / "other", seed=8), out, name="a").digest != first


def test_a_text_is_cut_where_the_folder_says(copy: Path, out: Path) -> None:
    change(copy / "sentence_bert_config.json", max_seq_length=6)
    assert export_embedder(copy, out, name="tiny").max_tokens == 6
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = tokenizer.encode("how do i reset my password").ids
    assert ids == tokenizer.encode("how do i reset").ids
    assert len(ids) == 6
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail):
        run(out, [list(range(7))])


def test_a_folder_that_says_more_than_there_are_positions(copy: Path, out: Path) -> None:
    change(copy / "sentence_bert_config.json", max_seq_length=4096)
    assert export_embedder(copy, out, name="tiny").max_tokens == 48


def test_what_sentence_transformers_writes_is_understood(copy: Path, out: Path) -> None:
    kinds = ["sentence_transformers.models.Transformer", "a.b.Pooling", "a.b.Normalize"]
    (copy / "modules.json").write_text(json.dumps([{"type": kind} for kind in kinds]))
    (copy / "1_Pooling").mkdir()
    change(copy / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    change(copy / "config_sentence_transformers.json", default_prompt_name=None)
    assert export_embedder(copy, out, name="tiny").dimensions == 64


def test_a_buffer_of_position_ids_is_no_weight(copy: Path, out: Path) -> None:
    weights = safetensors.numpy.load_file(copy / "model.safetensors")
    weights["embeddings.position_ids"] = np.arange(48)[None]
    safetensors.numpy.save_file(weights, copy / "model.safetensors")
    assert export_embedder(copy, out, name="tiny").dimensions == 64


# -- tokens -----------------------------------------------------------------------------------------------------------

SPELLED = [
    "How do I RESET my password?",
    "ÉTÉ, naïve; a\tb\n c",
    "15+27=42 -- it's 'quoted'",
    "你好吗 🙂",
    "supercalifragilisticexpialidocious " * 2,
    "\u200b\x07zero width",
    "",
]


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_makes_the_tokens_of_transformers(lower: bool, tmp_path: Path, out: Path) -> None:
    folder = make_bert(tmp_path / "model", as_vocabulary=True)
    change(folder / "tokenizer_config.json", do_lower_case=lower)
    export_embedder(folder, out, name="tiny")
    found = Tokenizer.from_file(str(out / "tokenizer.json"))
    wanted = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lower)
    ids = [found.encode(text).ids for text in SPELLED]
    assert ids == [wanted(text, truncation=True, max_length=48).input_ids for text in SPELLED]
    assert (ids[0] == found.encode(SPELLED[0].lower()).ids) == lower


def test_settings_of_another_length_in_the_tokenizer_do_not_count(bert: Path, out: Path) -> None:
    export_embedder(bert, out, name="tiny")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert len(tokenizer.encode("a").ids) == 3
    assert len(tokenizer.encode("a " * 100).ids) == 48


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta'"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"add_cross_attention": True}, "add_cross_attention True"),
        ({"num_attention_heads": 7}, "hidden_size 64 is no multiple of num_attention_heads 7"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 1}, r"tensor encoder\.layer\.1\.\S+ has no place"),
        ({"num_hidden_layers": 3}, r"tensor encoder\.layer\.2\.\S+ is missing"),
        ({"hidden_size": 128}, "asks for"),
        ({"vocab_size": 10}, "tokens do not fit the model's vocabulary of 10"),
    ],
    ids=str,
)
def test_an_unknown_model_is_refused_by_name(settings: dict[str, Any], said: str, copy: Path, out: Path) -> None:
    change(copy / "config.json", **settings)
    with pytest.raises(ExportError, match=said) as caught:
        export_embedder(copy, out, name="tiny")
    assert len(str(caught.value).splitlines()) == 1
    assert not (out / "embedder.json").exists()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _not_finite(folder: Path) -> None:
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][3] = np.nan
    safetensors.numpy.save_file(weights, folder / "model.safetensors")


def _dense_module(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"type": "a.Transformer"}, {"type": "sentence_transformers.models.Dense"}]')


def _bad_modules(folder: Path) -> None:
    (folder / "modules.json").write_text('["a.Transformer"]')


def _other_pooling(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    change(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True)


def _prompted(folder: Path) -> None:
    change(folder / "config_sentence_transformers.json", default_prompt_name="query")


def _too_short(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=2)


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _bad_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": 5}')


def _no_marks(folder: Path) -> None:
    change(folder / "tokenizer.json", post_processor=None)


def _cut_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    path = write_vocabulary(folder) / "vocab.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("[SEP]\n", ""), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_config, "config.json is missing"),
        (_no_weights, "model.safetensors is missing"),
        (_not_finite, "not finite"),
        (_dense_module, "module Dense is not supported"),
        (_bad_modules, "modules.json cannot be read"),
        (_other_pooling, "pooling_mode_max_tokens is not supported"),
        (_prompted, "default_prompt_name 'query'"),
        (_too_short, "max_seq_length is 2"),
        (_no_tokenizer, "neither tokenizer.json nor vocab.txt"),
        (_bad_tokenizer, "not a tokenizer"),
        (_no_marks, "puts 0 marks around a text"),
        (_cut_vocabulary, r"holds no \[SEP\]"),
    ],
)
def test_a_damaged_folder_is_one_line(damage: Callable[[Path], None], said: str, copy: Path, out: Path) -> None:
    damage(copy)
    with pytest.raises(ExportError, match=said) as caught:
        export_embedder(copy, out, name="tiny")
    assert len(str(caught.value).splitlines()) == 1


def test_a_width_without_blocks_asks_for_fp32(tmp_path: Path, out: Path) -> None:
    folder = make_bert(tmp_path / "model", hidden_size=24, num_attention_heads=2)
    with pytest.raises(ExportError, match="24 inputs cannot be quantized"):
        export_embedder(folder, out, "int8", name="tiny")
    assert export_embedder(folder, out, "fp32", name="tiny").parity["least_cosine"] > 0.99999


def test_a_graph_too_large_for_one_file_is_refused() -> None:
    sink = InlineWeights(limit=100)
    sink("a", np.zeros(20, np.float32))
    with pytest.raises(ExportError, match="tensor b makes the graph larger than 100 bytes"):
        sink("b", np.zeros(6, np.float32))


def test_parity_needs_texts(bert: Path, out: Path) -> None:
    with pytest.raises(ExportError, match="at least one text"):
        measure_embedder_parity(bert, out, [])
    export_embedder(bert, out, name="tiny")
    (out / "embedder.onnx").write_bytes(b"none")
    with pytest.raises(ExportError, match=r"embedder\.onnx cannot be run"):
        measure_embedder_parity(bert, out)
