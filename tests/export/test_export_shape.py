"""Reading config.json: both spellings, defaults, and every refusal by name."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, Qwen3Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from shammah_data.errors import ExportError
from shammah_export.rotary import rotary_tables
from shammah_export.shape import FULL, LOCAL, ModelShape, Rope

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


GEMMA = {"model_type": "gemma3_text", "hidden_act": None}
QWEN = {"model_type": "qwen2", "sliding_window": 512, "use_sliding_window": True}


def test_sizes_and_defaults() -> None:
    shape = ModelShape.from_config(CONFIG)
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim) == (64, 2, 4, 2, 16)
    assert (shape.vocab, shape.context, shape.rope.theta, shape.norm_eps) == (160, 4096, 10_000.0, 1e-5)
    assert shape.tied
    assert shape.rope == shape.local_rope == Rope(10_000.0)
    assert shape.local == (False, False)
    assert ModelShape.from_config(CONFIG | {"head_dim": 32}).head_dim == 32
    assert ModelShape.from_config(CONFIG | {"head_dim": None, "num_key_value_heads": None}).kv_heads == 4
    assert not ModelShape.from_config({**CONFIG, "tie_word_embeddings": False}).tied


def test_old_and_new_rotary_spelling_agree() -> None:
    new = CONFIG | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}
    old = CONFIG | {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}}
    assert ModelShape.from_config(new) == ModelShape.from_config(old)
    assert ModelShape.from_config(new).rope == Rope(5e5, "llama3", LLAMA3)
    assert ModelShape.from_config(CONFIG | {"rope_theta": 1e6, "rope_scaling": None}).rope == Rope(1e6)


@pytest.mark.parametrize(
    ("changes", "biases"),
    [
        ({}, (False, False, False)),
        ({"attention_bias": True}, (True, True, False)),
        ({"mlp_bias": True}, (False, False, True)),
        ({"model_type": "qwen2"}, (True, False, False)),
        ({"model_type": "mistral", "attention_bias": True}, (False, False, False)),
        ({"model_type": "qwen3"}, (False, False, False)),
        ({"model_type": "qwen3", "attention_bias": True}, (True, True, False)),
        ({"model_type": "gemma3_text", "attention_bias": True}, (True, True, False)),
    ],
)
def test_which_layers_have_a_bias(changes: dict[str, Any], biases: tuple[bool, bool, bool]) -> None:
    shape = ModelShape.from_config(CONFIG | changes)
    assert (shape.qkv_bias, shape.o_bias, shape.mlp_bias) == biases


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma2"}, "model_type 'gemma2' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"model_type": "gemma3"}, "text_config is None; an object is needed"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        (GEMMA | {"hidden_activation": "gelu"}, "hidden_activation 'gelu'"),
        (GEMMA | {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        (GEMMA | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0"),
        (GEMMA | {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        ({"is_causal": False}, "is_causal False"),
        (GEMMA | {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        (GEMMA | {"rope_parameters": {"full_attention": None}}, "rope_parameters is None; an object is needed"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters by layer type are not supported for llama"),
        ({"pretraining_tp": 2}, "pretraining_tp 2"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, "partial_rotary_factor 0.25"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope_type 'longrope'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
        (
            {"rope_parameters": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 0.5}},
            "0.5 is not above low_freq_factor 1.0",
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", **LLAMA3, "low_freq_factor": 4.0}},
            "4.0 is not above low_freq_factor 4.0",
        ),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_parameters": 3}, "rope_parameters is 3"),
        ({"rope_scaling": [1]}, r"rope_scaling is \[1\]; an object is needed"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'; an object is needed"),
        ({"rope_scaling": {"type": ["linear"]}}, r"rope_type \['linear'\] is not supported"),
        (
            {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"rope_theta": 1e6}},
            "both rope_parameters and rope_scaling",
        ),
        (GEMMA | {"rope_parameters": {"rope_theta": 1e6}}, "unless they are by layer type"),
        (GEMMA | {"rope_scaling": {FULL: {}}}, "rope_scaling by layer type are not supported for gemma3_text"),
        (GEMMA | {"sliding_window": None}, "sliding_window is None"),
        (QWEN | {"max_window_layers": "1"}, "max_window_layers is '1'; a whole number is needed"),
        ({"quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}"),
        ({"sliding_window": 512}, "sliding_window 512 is not supported for llama"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
        (QWEN | {"layer_types": ["full_attention"]}, "a list of 2 names is needed"),
        (QWEN | {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types 'chunked_attention'"),
        ({"model_type": "qwen3", "layer_types": [LOCAL, LOCAL]}, "but sliding_window is 4096 or not in use"),
        (QWEN | {"model_type": "mistral", "layer_types": [FULL, LOCAL]}, "is not supported for mistral"),
        ({"num_key_value_heads": 3}, "4 is no multiple of num_key_value_heads 3"),
        ({"head_dim": 24}, "head_dim 24 is not supported; it must be a multiple of 16"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"max_position_embeddings": math.inf}, "max_position_embeddings is inf"),
        ({"max_position_embeddings": math.nan}, "max_position_embeddings is nan"),
        ({"rope_theta": math.inf}, "rope_theta is inf"),
        ({"rope_theta": 10**400}, "rope_theta is 1000"),
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
    assert ModelShape.from_config(CONFIG, context=512).context == 512
    for context in (0, 4097):
        with pytest.raises(ExportError, match=f"context {context} is outside 1 to 4096"):
            ModelShape.from_config(CONFIG, context=context)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "mistral", "sliding_window": 512}, [512] * 8),
        ({"model_type": "mistral", "sliding_window": 4096}, [None] * 8),
        ({"model_type": "mistral", "sliding_window": None}, [None] * 8),
        ({"model_type": "llama", "sliding_window": 4096}, [None] * 8),
        (QWEN, [None] * 8),
        (QWEN | {"max_window_layers": 6}, [None] * 6 + [512] * 2),
        (QWEN | {"max_window_layers": 6, "use_sliding_window": False}, [None] * 8),
        (QWEN | {"layer_types": [LOCAL, FULL] * 4}, [512, None] * 4),
        (GEMMA | {"sliding_window": 512}, [512] * 5 + [None] + [512] * 2),
        (GEMMA | {"sliding_window": 512, "sliding_window_pattern": 3}, [512, 512, None, 512, 512, None, 512, 512]),
        (GEMMA | {"sliding_window": 512, "layer_types": [FULL] * 7 + [LOCAL]}, [None] * 7 + [512]),
    ],
)
def test_which_layers_see_a_window_only(changes: dict[str, Any], windows: list[int | None]) -> None:
    shape = ModelShape.from_config(CONFIG | {"num_hidden_layers": 8} | changes)
    assert [shape.window_of(layer) for layer in range(8)] == windows


def test_a_window_as_long_as_a_shortened_context_hides_nothing() -> None:
    shape = ModelShape.from_config(CONFIG | {"model_type": "mistral", "sliding_window": 512}, context=512)
    assert shape.window_of(0) is None


def test_gemma_in_both_spellings_and_within_a_model_that_sees() -> None:
    scaling = {"rope_type": "linear", "factor": 8.0}
    old = CONFIG | GEMMA | {"rope_theta": 2e6, "rope_local_base_freq": 3e4, "rope_scaling": scaling}
    ropes = {FULL: {"rope_theta": 2e6, **scaling}, LOCAL: {"rope_theta": 3e4, "rope_type": "default"}}
    new = CONFIG | GEMMA | {"rope_parameters": ropes}
    shape = ModelShape.from_config(old)
    assert shape == ModelShape.from_config(new)
    assert (shape.rope, shape.local_rope) == (Rope(2e6, "linear", {"factor": 8.0}), Rope(3e4))
    assert shape == ModelShape.from_config({"model_type": "gemma3", "text_config": old})
    assert (shape.embedding_scale, shape.attention_scale) == (8.0, 1 / 16)


def test_what_published_gemma_configs_leave_out() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    shape = ModelShape.from_config({"model_type": "gemma3", "text_config": text | {"sliding_window": 1024}})
    theirs = Gemma3TextConfig(**{key: value for key, value in text.items() if key != "model_type"}, sliding_window=1024)
    assert shape == ModelShape.from_config(theirs.to_dict())
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocab, shape.context) == (8, 4, 256, 262_208, 131_072)
    assert shape.tied
    assert sum(shape.local) == 29


LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "rope_theta": 5e5, "rope_parameters": {**LINEAR}},
        {"model_type": "llama", "rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e6, **LINEAR}},
        {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"rope_theta": 1e6, **LINEAR}},
        {"model_type": "llama", "rope_theta": 5e5, "rope_parameters": {}},
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3, "sliding_window": None},
        {"model_type": "qwen2", "use_sliding_window": True, "layer_types": [LOCAL, FULL] * 4},
        {"model_type": "qwen2"},
        {"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 0},
        GEMMA,
        GEMMA | {"rope_theta": 2e6, "rope_local_base_freq": 3e4, "rope_parameters": {FULL: {**LINEAR}, LOCAL: {}}},
        GEMMA | {"rope_theta": 2e6, "rope_parameters": {LOCAL: {"rope_theta": 3e4}}},
        GEMMA | {"rope_theta": 2e6, "rope_local_base_freq": 3e4, "rope_scaling": {**LINEAR}},
    ],
)
def test_what_is_not_said_is_what_transformers_assumes(changes: dict[str, Any]) -> None:
    said = {**CONFIG, "num_hidden_layers": 8, "max_position_embeddings": 8192, **changes}
    shape = ModelShape.from_config(said)
    # They write into what they are given.
    theirs: Any = CONFIG_MAPPING[said["model_type"]].from_dict(copy.deepcopy(said) | {"hidden_act": "silu"})
    ropes = theirs.rope_parameters
    for rope, kind in ((shape.rope, FULL), (shape.local_rope, LOCAL)):
        wanted = ropes.get(kind, ropes)
        assert (rope.theta, rope.kind) == (wanted["rope_theta"], wanted["rope_type"])
        assert rope.scaling.get("factor") == wanted.get("factor")
    window = getattr(theirs, "sliding_window", None)
    kinds = getattr(theirs, "layer_types", None) or [FULL if window is None else LOCAL] * 8
    assert [shape.window_of(layer) for layer in range(8)] == [window if kind == LOCAL else None for kind in kinds]


@pytest.mark.parametrize("inside", [{}, {"original_max_position_embeddings": 2048}])
def test_an_original_context_outside_the_rotary_settings_counts_as_in_transformers(inside: dict[str, Any]) -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **inside}
    said = CONFIG | {"rope_theta": 5e5, "rope_scaling": rope, "original_max_position_embeddings": 1024}
    # The model takes it over from there, its config does not.
    theirs = LlamaRotaryEmbedding(CONFIG_MAPPING["llama"].from_dict(copy.deepcopy(said)))
    rope_settings = theirs.config.rope_parameters
    found = ModelShape.from_config(said).rope.scaling["original_max_position_embeddings"]
    assert found == rope_settings["original_max_position_embeddings"] == 1024


def test_qwen3_heads_are_128_wide_where_nothing_is_said() -> None:
    assert ModelShape.from_config(CONFIG | {"model_type": "qwen3"}).head_dim == Qwen3Config().head_dim == 128


@pytest.mark.parametrize(
    "rope", [{"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}, {"rope_type": "llama3", **LLAMA3}]
)
def test_rotary_tables_are_those_of_transformers(rope: dict[str, Any]) -> None:
    config = CONFIG | {"rope_parameters": {"rope_theta": 5e5, **rope}, "head_dim": 64}
    shape = ModelShape.from_config(config)
    cos, sin = rotary_tables(shape.rope, shape.head_dim, shape.context)
    theirs = LlamaRotaryEmbedding(LlamaConfig(**{key: value for key, value in config.items() if key != "model_type"}))
    wanted_cos, wanted_sin = theirs(torch.zeros(1), torch.arange(4097)[None])
    assert cos.dtype == sin.dtype == np.float32
    assert cos.shape == (4097, 32)  # one more than the context: the row behind it
    # One unit in the last place of a frequency is 2.4e-4 radians at position 4095.
    np.testing.assert_allclose(cos, wanted_cos[0, :, :32].numpy(), atol=5e-4)
    np.testing.assert_allclose(sin, wanted_sin[0, :, :32].numpy(), atol=5e-4)
