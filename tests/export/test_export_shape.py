"""Reading config.json: both spellings, defaults, and every refusal by name."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from shammah_data.errors import ExportError
from shammah_export.rotary import rotary_tables
from shammah_export.shape import ModelShape

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 160,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
LLAMA3 = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}


def test_sizes_and_defaults() -> None:
    shape = ModelShape.from_config(CONFIG)
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim) == (64, 2, 4, 2, 16)
    assert (shape.vocab, shape.context, shape.rope_theta, shape.norm_eps) == (160, 4096, 10_000.0, 1e-5)
    assert shape.tied
    assert shape.rope_scaling is None
    assert ModelShape.from_config(CONFIG | {"head_dim": 32}).head_dim == 32
    assert ModelShape.from_config(CONFIG | {"head_dim": None, "num_key_value_heads": None}).kv_heads == 4
    assert not ModelShape.from_config({**CONFIG, "tie_word_embeddings": False}).tied


def test_old_and_new_rotary_spelling_agree() -> None:
    new = CONFIG | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}
    old = CONFIG | {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}}
    assert ModelShape.from_config(new) == ModelShape.from_config(old)
    assert ModelShape.from_config(new).rope_scaling == LLAMA3
    assert ModelShape.from_config(CONFIG | {"rope_theta": 1e6, "rope_scaling": None}).rope_theta == 1e6


@pytest.mark.parametrize(
    ("changes", "biases"),
    [
        ({}, (False, False, False)),
        ({"attention_bias": True}, (True, True, False)),
        ({"mlp_bias": True}, (False, False, True)),
        ({"model_type": "qwen2"}, (True, False, False)),
        ({"model_type": "mistral"}, (False, False, False)),
    ],
)
def test_which_layers_have_a_bias(changes: dict[str, Any], biases: tuple[bool, bool, bool]) -> None:
    shape = ModelShape.from_config(CONFIG | changes)
    assert (shape.qkv_bias, shape.o_bias, shape.mlp_bias) == biases


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma3"}, "model_type 'gemma3' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"pretraining_tp": 2}, "pretraining_tp 2"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, "partial_rotary_factor 0.25"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
        ({"rope_parameters": 3}, "rope_parameters is 3"),
        ({"quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}"),
        ({"model_type": "mistral", "sliding_window": 512}, "sliding_window 512 is shorter than the context 4096"),
        ({"model_type": "qwen2", "sliding_window": 512, "use_sliding_window": True}, "sliding_window 512"),
        ({"num_key_value_heads": 3}, "4 is no multiple of num_key_value_heads 3"),
        ({"head_dim": 24}, "head_dim 24 is not supported; it must be a multiple of 16"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5"),
        ({"tie_word_embeddings": True, "rms_norm_eps": True}, "rms_norm_eps is True"),
    ],
)
def test_what_is_not_supported_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        ModelShape.from_config(CONFIG | changes)
    assert "\n" not in str(caught.value)


def test_context_can_be_shortened_but_not_stretched() -> None:
    windowed = CONFIG | {"model_type": "mistral", "sliding_window": 512}
    assert ModelShape.from_config(windowed, context=512).context == 512
    unused = CONFIG | {"model_type": "qwen2", "sliding_window": 512, "use_sliding_window": False}
    assert ModelShape.from_config(unused).context == 4096
    for context in (0, 4097):
        with pytest.raises(ExportError, match=f"context {context} is outside 1 to 4096"):
            ModelShape.from_config(CONFIG, context=context)


@pytest.mark.parametrize("rope", [{"rope_type": "default"}, {"rope_type": "llama3", **LLAMA3}])
def test_rotary_tables_are_those_of_transformers(rope: dict[str, Any]) -> None:
    config = CONFIG | {"rope_parameters": {"rope_theta": 5e5, **rope}, "head_dim": 64}
    cos, sin = rotary_tables(ModelShape.from_config(config))
    theirs = LlamaRotaryEmbedding(LlamaConfig(**{key: value for key, value in config.items() if key != "model_type"}))
    wanted_cos, wanted_sin = theirs(torch.zeros(1), torch.arange(4097)[None])
    assert cos.dtype == sin.dtype == np.float32
    assert cos.shape == (4097, 32)  # one more than the context: the row behind it
    # One unit in the last place of a frequency is 2.4e-4 radians at position 4095.
    np.testing.assert_allclose(cos, wanted_cos[0, :, :32].numpy(), atol=5e-4)
    np.testing.assert_allclose(sin, wanted_sin[0, :, :32].numpy(), atol=5e-4)
