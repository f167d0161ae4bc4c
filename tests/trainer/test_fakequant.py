"""Training sees the weights that are shipped: rounded as the exporter rounds them, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from shammah_data.settings import Precision
from shammah_export.checkpoint import Checkpoint
from shammah_export.export import export_model
from shammah_export.precision import BITS, LARGEST_BLOCK
from shammah_export.quantize import Blocks, block_size_for, dequantize, quantize_blocks
from shammah_trainer import fakequant
from shammah_trainer.fakequant import ThroughQuantizer, keep_rounded, rounded

WEIGHTS = arrays.arrays(np.float32, (3, 64), elements=st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-39]))

ADAPTED = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (4, 16), (8, 64)])
@given(W_NK=WEIGHTS)
def test_torch_rounds_as_the_exporter_does(W_NK: np.ndarray, bits: int, block_size: int) -> None:
    wanted = dequantize(quantize_blocks(W_NK, bits, block_size))
    np.testing.assert_array_equal(rounded(torch.from_numpy(W_NK), bits, block_size).numpy(), wanted)


def make(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=tied))


def blocks_of(W_NK: np.ndarray, precision: Precision) -> np.ndarray:
    block_size = block_size_for(W_NK.shape[1], LARGEST_BLOCK[precision])
    return dequantize(quantize_blocks(W_NK, BITS[precision], block_size))


def assert_on_the_grid(folder: Path, precision: Precision) -> None:
    matrices = {name: W_NK for name, W_NK in Checkpoint(folder).items() if W_NK.ndim == 2}
    assert matrices
    for name, W_NK in matrices.items():
        np.testing.assert_array_equal(blocks_of(W_NK, precision), W_NK, err_msg=name)


def steps(model: Any, through: ThroughQuantizer, count: int) -> tuple[list[float], torch.Tensor]:
    """Losses of some steps of gradient descent, and the logits inside the quantizer after them."""
    ids = torch.arange(12)[None]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for _ in range(count):
        with through.applied():
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses.append(loss.item())
    with torch.no_grad(), through.applied():
        return losses, model(input_ids=ids).logits


def test_rows_beyond_one_batch_are_rounded_in_place_too(monkeypatch: pytest.MonkeyPatch) -> None:
    W_NK = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 64)).astype(np.float32))
    whole = rounded(W_NK, 4, 32)
    monkeypatch.setattr(fakequant, "_AT_ONCE", 128)
    assert rounded(W_NK, 4, 32, W_NK) is W_NK
    torch.testing.assert_close(W_NK, whole, atol=0.0, rtol=0.0)


def test_rows_of_fused_layers_round_as_those_of_separate_ones() -> None:
    q_NK, k_NK = np.random.default_rng(1).normal(size=(2, 24, 96)).astype(np.float32)
    fused = blocks_of(np.concatenate([q_NK, k_NK]), "int4")
    np.testing.assert_array_equal(fused, np.concatenate([blocks_of(q_NK, "int4"), blocks_of(k_NK, "int4")]))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_what_was_trained_is_what_is_exported(tied: bool, precision: Precision, tmp_path: Path) -> None:
    model = make(tied)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses, trained = steps(model, ThroughQuantizer(model, precision), 8)
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert (model.get_input_embeddings().weight is model.lm_head.weight) == tied
    keep_rounded(model, precision)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=torch.arange(12)[None]).logits, trained, atol=0.0, rtol=0.0)
    model.save_pretrained(tmp_path)
    assert_on_the_grid(tmp_path, precision)


def exported_matrices(folder: Path) -> dict[str, np.ndarray]:
    """What the products of a graph multiply by, by the names of their tensors."""
    graph = onnx.load(str(folder / "model.onnx")).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            numbers = {attribute.name: attribute.i for attribute in node.attribute}
            blocks = Blocks(tensors[node.input[1]], tensors[node.input[2]], numbers["bits"], numbers["block_size"])
            found[node.input[1].removesuffix(".packed")] = dequantize(blocks)
    # The head is stored in pieces.
    pieces = [found.pop(name) for name in sorted(found) if name.startswith("embedding")]
    return {**found, "embedding": np.concatenate(pieces)}


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_the_exported_file_holds_the_weights_of_the_last_forward_pass(precision: Precision, tmp_path: Path) -> None:
    model = make(True)
    through = ThroughQuantizer(model, precision)
    steps(model, through, 3)
    with torch.no_grad(), through.applied():
        seen = {name: parameter.detach().clone().numpy() for name, parameter in model.named_parameters()}
    keep_rounded(model, precision)
    model.save_pretrained(tmp_path / "merged")
    export_model(tmp_path / "merged", tmp_path / "graph", precision)
    found = exported_matrices(tmp_path / "graph")
    assert len(found) == 4 * 2 + 1
    np.testing.assert_array_equal(found["embedding"], seen["model.embed_tokens.weight"])
    for layer in range(2):
        for name, parts in {
            "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "o": ("self_attn.o_proj",),
            "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
            "down": ("mlp.down_proj",),
        }.items():
            wanted = np.concatenate([seen[f"model.layers.{layer}.{part}.weight"] for part in parts])
            np.testing.assert_array_equal(found[f"layers.{layer}.{name}"], wanted, err_msg=name)


def test_the_gradient_is_that_of_the_rounded_weights() -> None:
    model, rounded_model, ids = make(True), make(True), torch.arange(12)[None]
    keep_rounded(rounded_model, "int4")
    rounded_model(input_ids=ids, labels=ids).loss.backward()
    with ThroughQuantizer(model, "int4").applied():
        model(input_ids=ids, labels=ids).loss.backward()
    untouched = dict(make(True).named_parameters())
    wanted = dict(rounded_model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=0.0, rtol=0.0)
        torch.testing.assert_close(parameter, untouched[name], atol=0.0, rtol=0.0)


def test_what_was_learned_comes_back_after_an_error() -> None:
    model, untouched = make(True), make(True)
    with pytest.raises(KeyboardInterrupt), ThroughQuantizer(model, "int4").applied():
        raise KeyboardInterrupt
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, untouched.get_parameter(name)), name


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_is_rounded_with_the_weights_it_is_added_to(tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(make(True), config)
    losses, trained = steps(model, ThroughQuantizer(model, "int4"), 8)
    assert losses[-1] < losses[0]
    merged = model.merge_and_unload()
    plain = make(True)
    assert not torch.equal(merged.get_parameter(ADAPTED), plain.get_parameter(ADAPTED))
    keep_rounded(merged, "int4")
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=torch.arange(12)[None]).logits, trained, atol=1e-5, rtol=0.0)
    merged.save_pretrained(tmp_path)
    assert_on_the_grid(tmp_path, "int4")
