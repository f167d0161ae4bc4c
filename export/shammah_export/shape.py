"""What a graph must know of a model besides its weights, read from a Hugging Face config.json.

Knows the architectures llama, mistral, qwen2, qwen3 and gemma3_text (also as the text_config of a gemma3), in both spellings
of transformers (4: `rope_theta`, `rope_scaling`, `rope_local_base_freq`; 5: `rope_parameters`). Knows no weights and no ONNX.

What it does not know is refused by name, never guessed: other architectures; rotary scaling other than linear and llama3
(yarn, dynamic, longrope ...), partial rotation, layers without rotation; attention that is neither full nor a sliding window,
windows for llama, attention that is not causal; soft caps on attention or on logits; activations other than the family's own;
pretraining_tp; weights that are already quantized; heads that are no multiple of 16 wide.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from shammah_data.errors import ExportError

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "gemma3")
_ORIGINAL = "original_max_position_embeddings"
ROPE_KEYS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL),
}
FULL, LOCAL = "full_attention", "sliding_attention"
# GroupQueryAttention on the CPU refuses to rotate heads of other sizes.
HEAD_DIM_MULTIPLE = 16
# What transformers assumes where a published config.json says nothing; Gemma's leave out most.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "mistral": {"sliding_window": 4096},
    "qwen2": {"sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {"sliding_window": 4096, "head_dim": 128, "max_window_layers": 28},
    "gemma3_text": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "hidden_activation": "gelu_pytorch_tanh",
    },
}
# The base of the rotary frequencies of full and of local layers.
GEMMA3_THETAS: Mapping[str, float] = {FULL: 1_000_000.0, LOCAL: 10_000.0}

Activation = Literal["silu", "gelu_tanh"]
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Rope:
    """Rotary frequencies: their base, and the numbers that a scaling of this `kind` needs (see ROPE_KEYS)."""

    theta: float
    kind: str = "default"
    scaling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelShape:
    """Sizes, rotary settings, norms and biases of one decoder-only model; `context` is in tokens.

    `local` says of each layer whether a token sees only the last `window` tokens, itself among them; those layers rotate by
    `local_rope`, the others by `rope`. `head_norms`: queries and keys are normalized per head before they are rotated.
    `output_norms`: what attention and MLP give is normalized before it is added. `norm_offset`: norm weights are stored
    minus this. Embedding rows are multiplied by `embedding_scale`, products of queries and keys by `attention_scale`.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    rope: Rope
    local_rope: Rope
    local: tuple[bool, ...]
    window: int | None
    norm_eps: float
    norm_offset: float
    head_norms: bool
    output_norms: bool
    activation: Activation
    attention_scale: float
    embedding_scale: float
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, context: int | None = None) -> "ModelShape":
        """Read a parsed config.json; `context` in tokens shortens the model's own.

        Raises ExportError that names the feature and its value where the graph builder does not know it.
        """
        config = _text_config(config)
        model_type = config["model_type"]
        gemma = model_type == "gemma3_text"
        longest = number(config, "max_position_embeddings", int)
        if context is not None and not 1 <= context <= longest:
            raise ExportError(f"context {context} is outside 1 to {longest}, which this model was made for")
        heads = number(config, "num_attention_heads", int)
        hidden = number(config, "hidden_size", int)
        layers = number(config, "num_hidden_layers", int)
        head_dim = number({"head_dim": hidden // heads} | config, "head_dim", int)
        window = _window(config)
        attention_bias = model_type in ("llama", "qwen3", "gemma3_text") and bool(config.get("attention_bias"))
        shape = cls(
            model_type=model_type,
            hidden=hidden,
            layers=layers,
            heads=heads,
            # Older llama files have no such key: every head then has its own keys and values.
            kv_heads=number({"num_key_value_heads": heads} | config, "num_key_value_heads", int),
            head_dim=head_dim,
            intermediate=number(config, "intermediate_size", int),
            vocab=number(config, "vocab_size", int),
            context=context or longest,
            rope=_rope(config, FULL, longest),
            local_rope=_rope(config, LOCAL, longest),
            local=_local_layers(config, layers, window),
            window=window,
            norm_eps=number({"rms_norm_eps": 1e-6} | config, "rms_norm_eps", float),
            norm_offset=1.0 if gemma else 0.0,
            head_norms=model_type in ("qwen3", "gemma3_text"),
            output_norms=gemma,
            activation="gelu_tanh" if gemma else "silu",
            attention_scale=(number(config, "query_pre_attn_scalar", float) if gemma else head_dim) ** -0.5,
            embedding_scale=hidden**0.5 if gemma else 1.0,
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=model_type == "qwen2" or attention_bias,
            o_bias=attention_bias,
            mlp_bias=model_type == "llama" and bool(config.get("mlp_bias")),
        )
        _refuse_unsupported(config, shape)
        return shape

    def window_of(self, layer: int) -> int | None:
        """The tokens that a layer sees, or None where a window would never hide one."""
        return self.window if self.local[layer] and self.window is not None and self.window < self.context else None


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the language model, without nulls and with what its family assumes."""
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ExportError(f"model_type {model_type!r} is not supported; use one of {', '.join(MODEL_TYPES)}")
    if model_type == "gemma3":
        text = config.get("text_config")
        if not isinstance(text, Mapping):
            raise ExportError(f"config.json: text_config is {text!r}; an object is needed")
        # How the head is tied and how weights are stored is said of the whole model.
        shared = {key: config[key] for key in ("tie_word_embeddings", "quantization_config") if key in config}
        config, model_type = {**text, **shared, "model_type": "gemma3_text"}, "gemma3_text"
    found = {**DEFAULTS.get(model_type, {}), **_present(config)}
    if "sliding_window" in config and config["sliding_window"] is None:
        # Of all nulls this one says something: no window.
        found.pop("sliding_window", None)
    return found


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def number(config: Mapping[str, Any], key: str, kind: type[Number]) -> Number:
    """A positive number of config.json. Raises ExportError that names the key and its value."""
    value = config.get(key)
    # Python reads NaN and Infinity, too, and whole numbers that are no float.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value <= sys.float_info.max
        or kind(value) != value
    ):
        raise ExportError(f"config.json: {key} is {value!r}; a positive number is needed")
    return kind(value)


def _rope(config: Mapping[str, Any], kind: str, longest: int) -> Rope:
    """The rotary settings of the layers of one kind, whichever version of transformers wrote them."""
    rope = _rope_settings(config, kind)
    if (partial := rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))) != 1.0:
        raise ExportError(f"partial_rotary_factor {partial!r} is not supported; the graph knows only 1.0")
    name = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(name, str) or name not in ROPE_KEYS:
        raise ExportError(f"rope_type {name!r} is not supported; {', '.join(ROPE_KEYS)} are")
    usual = GEMMA3_THETAS[kind] if config["model_type"] == "gemma3_text" else 10_000.0
    theta = number({"rope_theta": usual} | rope, "rope_theta", float)
    settings = {_ORIGINAL: longest, **rope}
    if config["model_type"] != "gemma3_text" and _ORIGINAL in config:
        # Said outside of them, it counts in transformers too, and more than inside.
        settings[_ORIGINAL] = config[_ORIGINAL]
    scaling = {key: number(settings, key, float) for key in ROPE_KEYS[name]}
    if name == "llama3" and scaling["high_freq_factor"] <= scaling["low_freq_factor"]:
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        raise ExportError(f"config.json: high_freq_factor {high} is not above low_freq_factor {low}")
    return Rope(theta, name, scaling)


def _rope_settings(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    gemma = config["model_type"] == "gemma3_text"
    local = gemma and kind == LOCAL
    given = [key for key in ("rope_parameters", "rope_scaling") if config.get(key, {}) != {}]
    if len(given) > 1:
        raise ExportError("config.json has both rope_parameters and rope_scaling, which say the same; keep one of them")
    key = given[0] if given else "rope_parameters"
    rope = config.get(key, {})
    by_layer = isinstance(rope, Mapping) and bool({FULL, LOCAL} & set(rope))
    if by_layer and not (gemma and key == "rope_parameters"):
        raise ExportError(f"{key} by layer type are not supported for {config['model_type']}")
    if by_layer:
        rope = rope.get(kind, {})
    if not isinstance(rope, Mapping):
        raise ExportError(f"config.json: {key} is {rope!r}; an object is needed")
    if rope and gemma and key == "rope_parameters" and not by_layer:
        raise ExportError(f"rope_parameters are not supported for {config['model_type']} unless they are by layer type")
    if local and not by_layer:
        # An older rope_scaling is of the full layers only.
        rope = {}
    theta = config.get("rope_local_base_freq" if local else "rope_theta")
    return _present({"rope_theta": theta}) | _present(rope)


def _window(config: Mapping[str, Any]) -> int | None:
    if config["model_type"] == "gemma3_text":
        return number(config, "sliding_window", int)
    if config.get("sliding_window") is None:
        return None
    if config["model_type"].startswith("qwen") and not config.get("use_sliding_window"):
        return None
    return number(config, "sliding_window", int)


def _local_layers(config: Mapping[str, Any], layers: int, window: int | None) -> tuple[bool, ...]:
    """Which layers see a window only: by name, or by the rule of their family."""
    model_type, kinds = config["model_type"], config.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, (list, tuple)) or len(kinds) != layers:
            raise ExportError(f"config.json: layer_types is {kinds!r}; a list of {layers} names is needed")
        if unknown := [kind for kind in kinds if kind not in (FULL, LOCAL)]:
            raise ExportError(f"layer_types {unknown[0]!r} is not supported; {FULL} and {LOCAL} are")
        found = tuple(kind == LOCAL for kind in kinds)
        if any(found) and window is None:
            raise ExportError(f"layer_types has {LOCAL}, but sliding_window is {config.get('sliding_window')!r} or not in use")
        # transformers takes every layer of these for the same, whatever the list says.
        if model_type in ("llama", "mistral") and found != (window is not None and model_type == "mistral",) * layers:
            raise ExportError(f"layer_types {kinds!r} is not supported for {model_type}")
        return found
    if window is None or model_type == "llama":
        return (False,) * layers
    if model_type == "mistral":
        return (True,) * layers
    if model_type == "gemma3_text":
        pattern = number(config, "sliding_window_pattern", int)
        return tuple((layer + 1) % pattern != 0 for layer in range(layers))
    first = config["max_window_layers"]
    if not isinstance(first, int):
        raise ExportError(f"config.json: max_window_layers is {first!r}; a whole number is needed")
    return tuple(layer >= first for layer in range(layers))


def _refuse_unsupported(config: Mapping[str, Any], shape: ModelShape) -> None:
    """Raise ExportError for the first setting that would need other operators than the graph has."""
    expected: dict[str, Any] = {
        "pretraining_tp": 1,
        "quantization_config": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
        "is_causal": True,
    }
    if shape.activation == "gelu_tanh":
        expected["hidden_activation"] = "gelu_pytorch_tanh"
    else:
        expected["hidden_act"] = "silu"
    for key, plain in expected.items():
        value = config.get(key)
        if value is not None and value != plain:
            raise ExportError(f"{key} {value!r} is not supported; the graph knows only {plain!r}")
    if shape.heads % shape.kv_heads:
        raise ExportError(f"num_attention_heads {shape.heads} is no multiple of num_key_value_heads {shape.kv_heads}")
    if shape.head_dim % HEAD_DIM_MULTIPLE:
        raise ExportError(f"head_dim {shape.head_dim} is not supported; it must be a multiple of {HEAD_DIM_MULTIPLE}")
    if shape.model_type == "llama" and shape.window is not None and shape.window < shape.context:
        raise ExportError(f"sliding_window {shape.window} is not supported for llama")
