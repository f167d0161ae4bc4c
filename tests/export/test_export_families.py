"""Every family computes what transformers computes, with local and full layers, beyond the window and token by token."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from fakes.kernels import need_one_path
from shammah_data.errors import ExportError
from shammah_export.export import export_model
from shammah_export.precision import LARGEST_BLOCK, Precision
from shammah_export.quantize import block_size_for, dequantize, quantize_blocks
from shammah_export.runner import GraphRunner

Floats = npt.NDArray[np.float32]
Save = Callable[..., Path]
Logits = Callable[..., Floats]

FULL, LOCAL = "full_attention", "sliding_attention"
WINDOW = 7
FOUR_LAYERS = {"num_hidden_layers": 4, "sliding_window": WINDOW}
SCALED = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA = FOUR_LAYERS | {
    "head_dim": 32,
    "query_pre_attn_scalar": 24,
    "layer_types": [LOCAL, LOCAL, FULL, LOCAL],
    "rope_parameters": {FULL: {"rope_theta": 1e4, **SCALED}, LOCAL: {"rope_type": "default", "rope_theta": 100.0}},
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {"num_hidden_layers": 3, "head_dim": 32, "rope_parameters": LLAMA3},
    "llama-linear": {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 1e4, **SCALED}},
    "mistral": FOUR_LAYERS,
    "mistral-tied": FOUR_LAYERS | {"head_dim": 32, "tie_word_embeddings": True, "num_key_value_heads": 1},
    "qwen2": FOUR_LAYERS | {"use_sliding_window": True, "max_window_layers": 2},
    "qwen2-tied": FOUR_LAYERS | {"use_sliding_window": False, "tie_word_embeddings": True},
    "qwen3": FOUR_LAYERS | {"head_dim": 32, "use_sliding_window": True, "layer_types": [LOCAL, FULL, FULL, LOCAL]},
    "qwen3-tied": {"num_hidden_layers": 3, "head_dim": 32, "attention_bias": True, "tie_word_embeddings": True},
    "gemma3": GEMMA | {"tie_word_embeddings": True},
    "gemma3-untied": GEMMA | {"tie_word_embeddings": False, "num_key_value_heads": 1, "attention_bias": True},
    "gemma3-plain": {"num_hidden_layers": 2, "head_dim": 16, "sliding_window": 512, "rms_norm_eps": 1e-3},
}
# Largest difference, as a share of the standard deviation of the logits.
TOLERANCE = 1e-4
SPLITS = ([40], [1] * 40, [9, 1, 14, 2, 1, 13])


def saved(save_model: Save, variant: str) -> Path:
    return save_model(variant.split("-")[0], **VARIANTS[variant])


def read(folder: Path, ids: list[int], split: list[int]) -> Floats:
    runner = GraphRunner(folder, 64)
    ends = np.cumsum(split)
    return np.concatenate([runner.read(ids[end - size : end]) for size, end in zip(split, ends, strict=True)])


def far(found: Floats, wanted: Floats) -> float:
    return float(np.abs(found - wanted).max() / wanted.std())


@pytest.mark.parametrize("variant", VARIANTS)
def test_prefill_and_single_steps_agree_with_transformers(
    variant: str, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = saved(save_model, variant)
    export_model(folder, tmp_path, "fp32")
    wanted = torch_logits(folder, prompt)
    assert wanted.std() > 0.5
    found = [read(tmp_path, prompt, split) for split in SPLITS]
    assert far(found[0], wanted) < TOLERANCE
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("variant", ["mistral", "qwen3", "gemma3"])
def test_quantized_families_agree_with_their_rounded_weights(
    variant: str, precision: Precision, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    need_one_path(precision)
    bits = {"int8": 8, "int4": 4}[precision]

    def rounded(_name: str, weight: Floats) -> Floats:
        if weight.ndim != 2:
            return weight
        return dequantize(quantize_blocks(weight, bits, block_size_for(weight.shape[1], LARGEST_BLOCK[precision])))

    folder = saved(save_model, variant)
    wanted = torch_logits(folder, prompt, rounded)
    export_model(folder, tmp_path / "floats", precision, accuracy_level=1)
    assert far(read(tmp_path / "floats", prompt, SPLITS[0]), wanted) < TOLERANCE
    export_model(folder, tmp_path / "shipped", precision)
    found = [read(tmp_path / "shipped", prompt, split) for split in SPLITS]
    assert np.abs(found[0] - wanted).mean() < 0.05 * wanted.std()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_window_hides_what_is_before_it(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(save_model("mistral", num_hidden_layers=1, sliding_window=WINDOW), tmp_path, "fp32")
    changed = [(token + 1) % 160 for token in prompt]
    one, other = (read(tmp_path, ids, [40]) for ids in (prompt, [*changed[:20], *prompt[20:]]))
    # Through one layer, the last row that sees position 19 is the one WINDOW - 1 further on.
    assert not np.allclose(one[19 + WINDOW - 1], other[19 + WINDOW - 1])
    np.testing.assert_array_equal(one[19 + WINDOW :], other[19 + WINDOW :])


@pytest.mark.parametrize("place", ["model.language_model.", "language_model.model."])
def test_the_text_model_within_a_gemma3_gives_the_same_graph(place: str, save_model: Save, tmp_path: Path) -> None:
    folder = save_model("gemma3", **VARIANTS["gemma3"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("model.", place, 1): weight for name, weight in weights.items()}
    save_file(renamed, whole / "model.safetensors")
    for source, target in ((folder, "alone"), (whole, "within")):
        export_model(source, tmp_path / target, "int8")
    for name in ("model.onnx", "weights.bin"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "within" / name).read_bytes()
    save_file(renamed | {"vision_tower.patch.weight": weights["model.norm.weight"]}, whole / "model.safetensors")
    with pytest.raises(ExportError, match=r"^tensor vision_tower.patch.weight has no place in the graph"):
        export_model(whole, tmp_path / "within", "int8")


def test_a_family_brings_only_the_operators_that_it_needs(save_model: Save, tmp_path: Path) -> None:
    graphs = {}
    for variant in ("llama-linear", "qwen2", "gemma3"):
        export_model(saved(save_model, variant), tmp_path / variant, "int8")
        graphs[variant] = onnx.load(tmp_path / variant / "model.onnx", load_external_data=False).graph
    llama = graphs["llama-linear"]
    # One layer: four products, padded attention, norm, gated SiLU, norm; around them a first norm of six, two gathers, a head.
    assert len(llama.node) == 2 * 12 + 6 + 2 + 1
    windows = {
        name: [attribute.i for node in graph.node for attribute in node.attribute if attribute.name == "local_window_size"]
        for name, graph in graphs.items()
    }
    assert windows == {"llama-linear": [], "qwen2": [WINDOW] * 2, "gemma3": [WINDOW] * 3}
    tables = {name: sorted(t.name for t in graph.initializer if t.name.startswith("rope_")) for name, graph in graphs.items()}
    assert tables["qwen2"] == ["rope_cos", "rope_sin"]
    assert tables["gemma3"] == ["rope_cos", "rope_local_cos", "rope_local_sin", "rope_sin"]
