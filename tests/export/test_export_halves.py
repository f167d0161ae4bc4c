"""fp16 and bf16 graphs: what a CPU can run of them, and of the rest their structure, run with every 16-bit value widened."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file, save_file

from shammah_data.errors import ExportError
from shammah_data.manifest import CacheShape
from shammah_data.token_table import TABLE_KEY, TokenTable
from shammah_export.contract import cache_names, check_graph
from shammah_export.export import export_model
from shammah_export.halves import FLOAT, TYPES
from shammah_export.precision import GraphPrecision
from shammah_export.rotary import rotary_tables
from shammah_export.runner import GraphRunner
from shammah_export.shape import ModelShape
from shammah_runtime.engine.session import GraphSession

Floats = npt.NDArray[np.float32]
Save = Callable[..., Path]
Logits = Callable[..., Floats]

LOCAL = {"num_hidden_layers": 3, "sliding_window": 7}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {"tie_word_embeddings": True, "attention_bias": True},
    "qwen3": {"head_dim": 32},
    "mistral": LOCAL,
    "gemma3": LOCAL | {"head_dim": 16, "sliding_window_pattern": 2, "tie_word_embeddings": True},
}
CASES: list[tuple[GraphPrecision, str]] = [
    *(("fp16", family) for family in ("llama", "qwen3", "mistral")),
    *(("bf16", family) for family in VARIANTS),
]
TORCH: Mapping[GraphPrecision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


def through(precision: GraphPrecision) -> Callable[[str, Floats], Floats]:
    """Replaces weights by what 16 bits hold of them."""

    def change(_name: str, weight: Floats) -> Floats:
        return torch.from_numpy(weight).to(TORCH[precision]).float().numpy()

    return change


def widened(folder: Path, shape: ModelShape) -> Any:
    """The graph with float32 wherever it has 16 bits, and rotary tables that were never rounded."""
    model = onnx.load(folder / "model.onnx")
    halves = set(TYPES.values())
    ropes = {"rope_": shape.rope, "rope_local_": shape.local_rope}
    exact = {
        f"{prefix}{name}": table
        for prefix, rope in ropes.items()
        for name, table in zip(("cos", "sin"), rotary_tables(rope, shape.head_dim, shape.context), strict=True)
    }
    for tensor in model.graph.initializer:
        if tensor.data_type in halves:
            values = exact.get(tensor.name, onnx.numpy_helper.to_array(tensor).astype(np.float32))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i in halves:
                attribute.i = FLOAT
    return model


@pytest.mark.parametrize(("precision", "family"), CASES)
def test_the_structure_computes_what_transformers_computes(
    precision: GraphPrecision, family: str, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = save_model(family, **VARIANTS[family])
    shape = export_model(folder, tmp_path, precision, context=64).shape

    def change(name: str, weight: Floats) -> Floats:
        if "norm" in name and family == "gemma3":
            return through(precision)(name, weight + 1) - 1
        return through(precision)(name, weight)

    wanted = torch_logits(folder, prompt, change)
    session = onnxruntime.InferenceSession(widened(tmp_path, shape).SerializeToString(), providers=["CPUExecutionProvider"])
    described = session.get_modelmeta().custom_metadata_map[TABLE_KEY]
    total = len(prompt)
    empty = np.zeros((1, shape.kv_heads, 0, shape.head_dim), np.float32)
    inputs = {
        "embedded": TokenTable(tmp_path / "weights.bin", described).read(prompt)[None],
        "seqlens_k": np.array([total], np.int32),
        "total_sequence_length": np.array(total + 1, np.int32),
        "sel": np.arange(total),
    }
    inputs |= {name: empty for layer in range(shape.layers) for name in cache_names("past", layer)}
    found = session.run(["logits"], inputs)[0][0]
    assert np.abs(found - wanted).max() < 1e-4 * wanted.std()


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_fp16_runs_on_the_cpu_however_it_is_divided(
    family: str, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = save_model(family, **VARIANTS[family])
    shape = export_model(folder, tmp_path, "fp16", context=64).shape
    wanted = torch_logits(folder, prompt)
    whole = GraphRunner(tmp_path, 64).read(prompt)
    assert whole.dtype == np.float32
    assert np.abs(whole - wanted).max() < 0.02 * wanted.std()
    session = GraphSession(
        tmp_path / "model.onnx", CacheShape(shape.layers, shape.kv_heads, shape.head_dim, shape.vocab, shape.context)
    )
    cache, copy, restored = (session.new_cache() for _ in range(3))
    steps = [session.feed(cache, [token]).copy() for token in prompt]
    np.testing.assert_array_equal(np.concatenate(steps), whole)
    assert cache.state().dtype == np.float16
    copy.copy_from(cache, 20)
    restored.restore(prompt[:20], cache.state()[:, :, :20])
    for other in (copy, restored):
        np.testing.assert_array_equal(session.feed(other, prompt[20:], range(20)), whole[20:])


@pytest.mark.parametrize(("precision", "family"), CASES)
def test_every_family_runs_on_a_gpu(
    precision: GraphPrecision, family: str, save_model: Save, torch_logits: Logits, prompt: list[int], tmp_path: Path
) -> None:
    folder = save_model(family, **VARIANTS[family])
    export_model(folder, tmp_path, precision, context=64)
    try:
        runner = GraphRunner(tmp_path, 64, device="cuda")
    except ExportError as error:
        if "CUDAExecutionProvider cannot be used" not in str(error):
            raise
        pytest.skip(str(error))
    wanted = torch_logits(folder, prompt)
    found = np.concatenate([runner.read(prompt[:20]), *(runner.read([token]) for token in prompt[20:])])
    assert np.abs(found - wanted).mean() < {"fp16": 0.01, "bf16": 0.06}[precision] * wanted.std()


def test_types_agree_in_bf16_and_only_kernels_are_missing_on_the_cpu(save_model: Save, tmp_path: Path) -> None:
    export_model(save_model("gemma3", **VARIANTS["gemma3"]), tmp_path, "bf16", context=64)
    # ONNX Runtime infers every type before it looks for kernels.
    with pytest.raises(ExportError, match="NOT_IMPLEMENTED"):
        GraphRunner(tmp_path, 64)
    model = onnx.load(tmp_path / "model.onnx")
    norm = next(tensor for tensor in model.graph.initializer if tensor.name == "layers.1.norm_mid")
    norm.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(norm).astype(np.float32), norm.name))
    with pytest.raises(Exception, match="Type Error"):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_cache_take_half_the_bytes(precision: GraphPrecision, tied: bool, save_model: Save, tmp_path: Path) -> None:
    folder = save_model(tie_word_embeddings=tied)
    export_model(folder, tmp_path / "half", precision)
    export_model(folder, tmp_path / "whole", "fp32")
    sizes = [(tmp_path / name / "weights.bin").stat().st_size for name in ("half", "whole")]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.1)
    model = onnx.load(tmp_path / "half" / "model.onnx", load_external_data=False)
    check_graph(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds["embedded"] == kinds["logits"] == FLOAT
    assert kinds["past_key_0"] == kinds["present_value_1"] == TYPES[precision]
    kinds_of_cache = [value for value in model.graph.input if value.name == "past_key_0"]
    kinds_of_cache[0].type.tensor_type.elem_type = FLOAT
    with pytest.raises(ExportError, match="inputs are not those of the contract: past_key_0"):
        check_graph(model)


def test_what_fp16_cannot_hold_is_named(save_model: Save, tmp_path: Path) -> None:
    folder = save_model("gemma3", **VARIANTS["gemma3"])
    with pytest.raises(ExportError, match=r"^gemma3_text is not supported in fp16"):
        export_model(folder, tmp_path, "fp16")
    large = tmp_path / "large"
    large.mkdir()
    source = save_model()
    (large / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = load_file(source / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = 70_000.0
    save_file(weights, large / "model.safetensors")
    with pytest.raises(ExportError, match=r"^tensor layers.1.gate_up has values beyond the range of fp16; use bf16 or fp32$"):
        export_model(large, tmp_path / "out", "fp16")
    export_model(large, tmp_path / "out", "bf16")
