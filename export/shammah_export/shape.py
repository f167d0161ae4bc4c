"""What a graph must know of a model besides its weights, read from a Hugging Face config.json.

Knows the architectures llama, mistral and qwen2 in both spellings of transformers (4: `rope_theta` and `rope_scaling`,
5: `rope_parameters`). Knows no weights and no ONNX. What it does not know is refused by name, never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from shammah_data.errors import ExportError

MODEL_TYPES = ("llama", "mistral", "qwen2")
LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# GroupQueryAttention on the CPU refuses to rotate heads of other sizes.
HEAD_DIM_MULTIPLE = 16

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class ModelShape:
    """Sizes, rotary settings and bias flags of one decoder-only model; `context` is in tokens."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    rope_theta: float
    rope_scaling: Mapping[str, float] | None
    norm_eps: float
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, context: int | None = None) -> "ModelShape":
        """Read a parsed config.json; `context` in tokens shortens the model's own.

        Raises ExportError that names the feature and its value where the graph builder does not know it.
        """
        model_type = config.get("model_type")
        if model_type not in MODEL_TYPES:
            raise ExportError(f"model_type {model_type!r} is not supported; use one of {', '.join(MODEL_TYPES)}")
        longest = number(config, "max_position_embeddings", int)
        if context is not None and not 1 <= context <= longest:
            raise ExportError(f"context {context} is outside 1 to {longest}, which this model was made for")
        context = context or longest
        heads = number(config, "num_attention_heads", int)
        hidden = number(config, "hidden_size", int)
        rope = _rope(config)
        attention_bias = model_type == "llama" and bool(config.get("attention_bias"))
        shape = cls(
            model_type=model_type,
            hidden=hidden,
            layers=number(config, "num_hidden_layers", int),
            heads=heads,
            # Older llama files have no such key: every head then has its own keys and values.
            kv_heads=number({"num_key_value_heads": heads} | _present(config), "num_key_value_heads", int),
            head_dim=number({"head_dim": hidden // heads} | _present(config), "head_dim", int),
            intermediate=number(config, "intermediate_size", int),
            vocab=number(config, "vocab_size", int),
            context=context,
            rope_theta=number({"rope_theta": 10_000.0} | rope, "rope_theta", float),
            rope_scaling=_rope_scaling(rope, longest),
            norm_eps=number({"rms_norm_eps": 1e-6} | _present(config), "rms_norm_eps", float),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=model_type == "qwen2" or attention_bias,
            o_bias=attention_bias,
            mlp_bias=model_type == "llama" and bool(config.get("mlp_bias")),
        )
        _refuse_unsupported(config, rope, shape)
        return shape


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def number(config: Mapping[str, Any], key: str, kind: type[Number]) -> Number:
    """A positive number of config.json. Raises ExportError that names the key and its value."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0 or kind(value) != value:
        raise ExportError(f"config.json: {key} is {value!r}; a positive number is needed")
    return kind(value)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings under the names of transformers 5, whichever version wrote them."""
    rope = config.get("rope_parameters")
    if rope is None:
        rope = {"rope_theta": config.get("rope_theta"), **(config.get("rope_scaling") or {})}
    if not isinstance(rope, Mapping):
        raise ExportError(f"config.json: rope_parameters is {rope!r}; an object is needed")
    rope = _present(rope)
    rope.setdefault("rope_type", rope.get("type", "default"))
    return rope


def _rope_scaling(rope: Mapping[str, Any], longest: int) -> Mapping[str, float] | None:
    if rope["rope_type"] == "default":
        return None
    if rope["rope_type"] != "llama3":
        raise ExportError(f"rope_type {rope['rope_type']!r} is not supported; default and llama3 are")
    settings = {"original_max_position_embeddings": longest, **rope}
    return {key: number(settings, key, float) for key in LLAMA3_KEYS}


def _refuse_unsupported(config: Mapping[str, Any], rope: Mapping[str, Any], shape: ModelShape) -> None:
    """Raise ExportError for the first setting that would need other operators than the graph has."""
    expected = {"hidden_act": "silu", "pretraining_tp": 1, "partial_rotary_factor": 1.0, "quantization_config": None}
    for key, plain in expected.items():
        value = {**config, **rope}.get(key)
        if value is not None and value != plain:
            raise ExportError(f"{key} {value!r} is not supported; the graph knows only {plain!r}")
    if shape.heads % shape.kv_heads:
        raise ExportError(f"num_attention_heads {shape.heads} is no multiple of num_key_value_heads {shape.kv_heads}")
    if shape.head_dim % HEAD_DIM_MULTIPLE:
        raise ExportError(f"head_dim {shape.head_dim} is not supported; it must be a multiple of {HEAD_DIM_MULTIPLE}")
    window = config.get("sliding_window")
    if window is not None and config.get("use_sliding_window", True) and window < shape.context:
        raise ExportError(
            f"sliding_window {window} is shorter than the context {shape.context}; export with a context of {window}"
        )
