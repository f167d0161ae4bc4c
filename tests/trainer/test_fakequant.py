"""Training sees the weights that are shipped: rounded as the exporter rounds them, to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import LlamaConfig, LlamaForCausalLM

from shammah_data.settings import Precision
from shammah_export.checkpoint import Checkpoint
from shammah_export.precision import BITS, LARGEST_BLOCK
from shammah_export.quantize import block_size_for, dequantize, quantize_blocks
from shammah_trainer.fakequant import keep_quantized, quantize_forward, rounded

WEIGHTS = arrays.arrays(np.float32, (3, 64), elements=st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-39]))


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (4, 16), (8, 64)])
@given(W_NK=WEIGHTS)
def test_torch_rounds_as_the_exporter_does(W_NK: np.ndarray, bits: int, block_size: int) -> None:
    wanted = dequantize(quantize_blocks(W_NK, bits, block_size))
    np.testing.assert_array_equal(rounded(torch.from_numpy(W_NK), bits, block_size).numpy(), wanted)


def make(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=tied))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_what_was_trained_is_what_is_exported(tied: bool, precision: Precision, tmp_path: Path) -> None:
    model = make(tied)
    ids = torch.arange(12)[None]
    quantize_forward(model, precision)
    assert (
        model.get_input_embeddings().parametrizations.weight.original is model.lm_head.parametrizations.weight.original
    ) == tied
    before = model.get_input_embeddings().parametrizations.weight.original.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(8):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The gradient reaches weights that no rounding step was ever crossed for.
    assert losses[-1] < losses[0]
    assert not torch.equal(before, model.get_input_embeddings().parametrizations.weight.original)
    with torch.no_grad():
        trained = model(input_ids=ids).logits
    keep_quantized(model, precision)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, trained, atol=0.0, rtol=0.0)
    model.save_pretrained(tmp_path)
    assert (model.get_input_embeddings().weight is model.lm_head.weight) == tied
    for name, W_NK in Checkpoint(tmp_path).items():
        if W_NK.ndim == 2:
            blocks = quantize_blocks(W_NK, BITS[precision], block_size_for(W_NK.shape[1], LARGEST_BLOCK[precision]))
            np.testing.assert_array_equal(dequantize(blocks), W_NK, err_msg=name)
