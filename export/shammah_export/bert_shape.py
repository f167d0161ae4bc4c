"""What the graph of an encoder must know besides its weights, read from a Hugging Face config.json of model type bert.

Knows no weights and no ONNX. What it does not know is refused by name, never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shammah_data.errors import ExportError
from shammah_export.shape import number

# What the graph is built for; an absent key means the same.
_EXPECTED: Mapping[str, object] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "quantization_config": None,
}


@dataclass(frozen=True)
class BertShape:
    """Sizes of one encoder; `positions` is the most tokens of a text, marks at both ends included."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocab: int
    positions: int
    types: int
    norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "BertShape":
        """Read a parsed config.json.

        Raises ExportError that names the feature and its value where the graph builder does not know it.
        """
        model_type = config.get("model_type")
        if model_type != "bert":
            raise ExportError(f"model_type {model_type!r} is not supported for an embedder; bert is")
        for key, plain in _EXPECTED.items():
            value = config.get(key)
            if value is not None and value != plain:
                raise ExportError(f"{key} {value!r} is not supported; the graph knows only {plain!r}")
        shape = cls(
            hidden=number(config, "hidden_size", int),
            layers=number(config, "num_hidden_layers", int),
            heads=number(config, "num_attention_heads", int),
            intermediate=number(config, "intermediate_size", int),
            vocab=number(config, "vocab_size", int),
            positions=number(config, "max_position_embeddings", int),
            types=number({"type_vocab_size": 2, **config}, "type_vocab_size", int),
            norm_eps=number({"layer_norm_eps": 1e-12, **config}, "layer_norm_eps", float),
        )
        if shape.hidden % shape.heads:
            raise ExportError(f"hidden_size {shape.hidden} is no multiple of num_attention_heads {shape.heads}")
        return shape
