"""The exported graph computes what transformers computes, however the tokens are split into runs."""

import io
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from fakes.kernels import need_one_path
from shammah_data.errors import ExportError
from shammah_export.checkpoint import Checkpoint, read_json
from shammah_export.export import export_model
from shammah_export.graph import build_graph
from shammah_export.precision import BITS, LARGEST_BLOCK, Precision
from shammah_export.quantize import block_size_for, dequantize, quantize_blocks
from shammah_export.runner import GraphRunner
from shammah_export.shape import ModelShape
from shammah_export.sink import ExternalWeights

Floats = npt.NDArray[np.float32]
Save = Callable[..., Path]
Logits = Callable[..., Floats]

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "llama-tied": {"tie_word_embeddings": True},
    "llama-bias": {"attention_bias": True, "mlp_bias": True},
    "llama-head-dim": {"head_dim": 32},
    "llama-one-kv-head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "llama-llama3": {"rope_parameters": LLAMA3},
    "qwen2": {"tie_word_embeddings": True},
    "qwen2-untied": {},
    "mistral": {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "mistral-tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
}
# Logits have a standard deviation of 2 to 4.
FP32_TOLERANCE = 1e-4
FLOAT_ACTIVATIONS, INT8_ACTIVATIONS = 1, 4


def saved(save_model: Save, variant: str) -> Path:
    return save_model(variant.split("-")[0], **VARIANTS[variant])


@pytest.mark.parametrize("variant", VARIANTS)
def test_fp32_graph_agrees_with_transformers(
    variant: str, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = saved(save_model, variant)
    export_model(folder, tmp_path, "fp32")
    wanted = torch_logits(folder, prompt)
    assert wanted.std() > 1
    np.testing.assert_allclose(GraphRunner(tmp_path, 64).read(prompt), wanted, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", ["llama-tied", "llama-llama3", "qwen2-untied", "mistral"])
def test_runs_of_any_length_agree_with_one_run(variant: str, save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(saved(save_model, variant), tmp_path, "fp32")
    whole = GraphRunner(tmp_path, 64).read(prompt)
    runner = GraphRunner(tmp_path, 64)
    pieces = [runner.read(prompt[:17]), runner.read(prompt[17:30]), *(runner.read([token]) for token in prompt[30:])]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
@pytest.mark.parametrize("precision", BITS)
def test_a_head_in_pieces_gives_the_same_logits_to_the_last_bit(
    variant: str, precision: Precision, save_model: Save, prompt: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_one_path(precision)
    folder = saved(save_model, variant)
    export_model(folder, tmp_path / "whole", precision)
    monkeypatch.setattr("shammah_export.graph.HEAD_BYTES", 64 * 64 * BITS[precision] // 8)
    monkeypatch.setattr("shammah_export.graph.HEAD_STEP", 16)
    export_model(folder, tmp_path / "pieces", precision)
    assert (tmp_path / "pieces/weights.bin").read_bytes() == (tmp_path / "whole/weights.bin").read_bytes()
    nodes = onnx.load(tmp_path / "pieces/model.onnx", load_external_data=False).graph.node
    sizes = [
        attribute.i for node in nodes if "logits" in node.output[0] for attribute in node.attribute if attribute.name == "N"
    ]
    assert sizes == [64, 64, 32]
    whole = GraphRunner(tmp_path / "whole", 64).read(prompt)
    for cuts in ([], [1, 2, 3, 20], [7, 8, 39]):
        runner = GraphRunner(tmp_path / "pieces", 64)
        found = [runner.read(prompt[start:end]) for start, end in itertools.pairwise([0, *cuts, len(prompt)])]
        np.testing.assert_array_equal(np.concatenate(found), whole)


def test_forgotten_tokens_leave_no_trace(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(saved(save_model, "llama-tied"), tmp_path, "fp32")
    runner = GraphRunner(tmp_path, 64)
    whole = runner.read(prompt)
    runner.cached = 20
    runner.read([1, 2, 3, 4, 5])
    runner.cached = 20
    np.testing.assert_allclose(runner.read(prompt[20:]), whole[20:], atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_selected_rows_come_in_the_order_asked_for(
    precision: Precision, save_model: Save, prompt: list[int], tmp_path: Path
) -> None:
    export_model(saved(save_model, "llama-tied"), tmp_path, precision)
    whole = GraphRunner(tmp_path, 64).read(prompt)
    picked = GraphRunner(tmp_path, 64).read(prompt, wanted=[39, 0, 7])
    np.testing.assert_allclose(picked, whole[[39, 0, 7]], atol=FP32_TOLERANCE, rtol=0)


def through_quantizer(precision: Precision) -> Callable[[str, Floats], Floats]:
    """Replaces every matrix by what its quantized blocks stand for; norms and biases stay."""

    def change(_name: str, weight: Floats) -> Floats:
        if weight.ndim != 2:
            return weight
        return dequantize(quantize_blocks(weight, BITS[precision], block_size_for(weight.shape[1], LARGEST_BLOCK[precision])))

    return change


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("variant", ["llama", "llama-tied", "llama-bias", "qwen2", "mistral"])
def test_quantized_graph_agrees_with_dequantized_weights(
    variant: str, precision: Precision, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = saved(save_model, variant)
    export_model(folder, tmp_path, precision, accuracy_level=FLOAT_ACTIVATIONS)
    wanted = torch_logits(folder, prompt, through_quantizer(precision))
    runner = GraphRunner(tmp_path, 64)
    found = np.concatenate([runner.read(prompt[:30]), *(runner.read([token]) for token in prompt[30:])])
    np.testing.assert_allclose(found, wanted, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("precision", BITS)
def test_int8_activations_cost_little(
    precision: Precision, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = saved(save_model, "qwen2")
    export_model(folder, tmp_path, precision, accuracy_level=INT8_ACTIVATIONS)
    wanted = torch_logits(folder, prompt, through_quantizer(precision))
    difference = np.abs(GraphRunner(tmp_path, 64).read(prompt) - wanted)
    assert difference.mean() < 0.05 * wanted.std()
    assert difference.max() < 0.4 * wanted.std()


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_tied_table_is_stored_once(precision: Precision, save_model: Save, tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        folder = save_model(tie_word_embeddings=tied, vocab_size=2048)
        sizes[tied] = export_model(folder, tmp_path / str(tied), precision).bytes
    table = 2048 * 64 * BITS.get(precision, 32) / 8
    assert sizes[False] - sizes[True] == pytest.approx(table, rel=0.3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_shards_are_read(
    dtype: torch.dtype, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = save_model(dtype=dtype, shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    export_model(folder, tmp_path, "fp32")
    found = GraphRunner(tmp_path, 64).read(prompt)
    np.testing.assert_allclose(found, torch_logits(folder, prompt), atol=FP32_TOLERANCE, rtol=0)


def test_a_failed_export_leaves_the_old_files(save_model: Save, tmp_path: Path) -> None:
    export_model(save_model(), tmp_path, "fp32")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["model.onnx", "weights.bin"]
    odd = save_model(hidden_size=72, head_dim=16)
    with pytest.raises(ExportError, match="72 inputs cannot be quantized"):
        export_model(odd, tmp_path, "int8")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_context_shortens_the_rotary_tables(save_model: Save, tmp_path: Path) -> None:
    report = export_model(save_model(), tmp_path, "fp32", context=48)
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    tables = {tensor.name: list(tensor.dims) for tensor in graph.initializer if tensor.name.startswith("rope_")}
    assert report.shape.context == 48
    assert tables == {"rope_cos": [49, 8], "rope_sin": [49, 8]}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.norm.weight", None, "model.norm.weight is missing"),
        ("model.norm.weight", np.ones(65, np.float32), r"model.norm.weight is \[65\]; config.json asks for \[64\]"),
        ("model.layers.1.mlp.down_proj.weight", np.full((64, 96), np.nan, np.float32), "down_proj.weight holds values"),
        ("model.layers.0.self_attn.q_norm.weight", np.ones(16, np.float32), "q_norm.weight has no place in the graph"),
        ("model.layers.0.self_attn.q_proj.bias", np.ones(64, np.float32), "q_proj.bias has no place in the graph"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(name: str, value: Floats | None, message: str, save_model: Save) -> None:
    folder = save_model()
    weights = dict(Checkpoint(folder).items())
    shape = ModelShape.from_config(read_json(folder / "config.json"))
    build_graph(weights, shape, "int4", ExternalWeights(io.BytesIO()))
    weights.pop(name, None)
    if value is not None:
        weights[name] = value
    with pytest.raises(ExportError, match=message):
        build_graph(weights, shape, "int4", ExternalWeights(io.BytesIO()))
