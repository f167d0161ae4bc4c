"""The ONNX graph of a sentence embedder: a BERT encoder, the mean over its tokens, and a vector of length one.

Knows the architecture (Devlin et al., arXiv 1810.04805; the pooling of Reimers and Gurevych, arXiv 1908.10084), no files
and no torch. The contract:

    ids        int64 [B, S]    token ids, the marks at both ends included
    mask       int64 [B, S]    1 for a token, 0 for padding after it
    embedding  float32 [B, H]  of length one; padding changes nothing

Legend: B texts, S tokens, H hidden; N outputs, K inputs of a linear layer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from shammah_data.errors import ExportError
from shammah_export.bert_shape import BertShape
from shammah_export.contract import INT32, INT64, IR_VERSION, OPSETS, PRECISION_KEY, check_quantized
from shammah_export.halves import FLOAT
from shammah_export.nodes import MICROSOFT, GraphParts
from shammah_export.precision import BITS, Precision
from shammah_export.sink import TensorSink
from shammah_export.weights import Floats, Weights

WORDS = "embeddings.word_embeddings.weight"
# A buffer that older files carry along: the numbers from 0 on.
POSITION_IDS = "embeddings.position_ids"
_POSITIONS = "positions"
# Measured on 500 texts with MiniLM-L6: blocks of 64 turn every tenth vector by more than a cosine of 0.999, blocks of 32
# every fiftieth, for 6 % more bytes and no time.
_LARGEST_BLOCK = 32
# As torch has them: what keeps a division from being one by nothing.
_LEAST_TOKENS, _LEAST_LENGTH = 1e-9, 1e-12


def build_bert_graph(
    weights: Mapping[str, Floats],
    shape: BertShape,
    precision: Precision,
    sink: TensorSink,
    *,
    tokens: int,
    accuracy_level: int = 4,
) -> Any:
    """Build the ModelProto of an embedder that reads up to `tokens` tokens of a text.

    `weights` has the names of transformers' BertModel. `accuracy_level` is MatMulNBits' own (4: int8 activations).
    Raises ExportError for a tensor that is missing, left over, of the wrong size or not finite, and for a quantized graph
    in which a large float constant is left.
    """
    if not 1 <= tokens <= shape.positions:
        raise ExportError(f"{tokens} tokens are outside 1 to {shape.positions}, which this model was made for")
    source = Weights(weights)
    parts = GraphParts(sink, precision, accuracy_level, _LARGEST_BLOCK)
    # What MultiHeadAttention takes for a mask is int32.
    mask = parts.node("Cast", ["mask"], ["mask.int32"], to=INT32)
    x = _embed(parts, source, shape, tokens)
    for layer in range(shape.layers):
        x = _layer(parts, source, shape, layer, x, mask)
    _pool(parts, x)
    # The pooler feeds a classifier that a mean over tokens does not have.
    source.refuse_leftovers(lambda name: name.startswith("pooler.") or name == POSITION_IDS)
    model = _assemble(parts, shape)
    if precision in BITS:
        check_quantized(model.graph, {_POSITIONS})
    return model


def _embed(parts: GraphParts, source: Weights, shape: BertShape, tokens: int) -> str:
    H = shape.hidden
    words_VH = source.take(WORDS, shape.vocab, H)
    if parts.precision in BITS:
        parts.quantized_table("words", words_VH)
        words = parts.quantized_gather("words", words_VH.shape, "ids", "words.out")
    else:
        words = parts.node("Gather", [parts.tensor("words", words_VH), "ids"], ["words.out"])
    # There is one text, so every token is of the first type: its vector is added to every position once and for all.
    types = source.take("embeddings.token_type_embeddings.weight", shape.types, H)
    positions = source.take("embeddings.position_embeddings.weight", shape.positions, H)[:tokens] + types[0]
    length = parts.node("Shape", ["ids"], ["length"], start=1, end=2)
    zero = parts.tensor("zero", np.array([0], np.int64))
    used = parts.node("Slice", [parts.tensor(_POSITIONS, positions), zero, length, zero], ["positions.out"])
    both = parts.node("Add", [words, used], ["embedded"])
    return parts.layer_norm(both, "embeddings.norm", *_norm(source, "embeddings.LayerNorm", H), shape.norm_eps)


def _norm(source: Weights, name: str, H: int) -> tuple[Floats, Floats]:
    return source.take(f"{name}.weight", H), source.take(f"{name}.bias", H)


def _layer(parts: GraphParts, source: Weights, shape: BertShape, layer: int, x: str, mask: str) -> str:
    """One encoder layer; the norms follow the sums, as in the original."""
    prefix, name = f"encoder.layer.{layer}.", f"layers.{layer}"
    H, inner = shape.hidden, shape.intermediate

    def linear(x: str, label: str, rows: Mapping[str, int], K: int) -> str:
        W_NK, bias_N = source.stack(prefix, rows, K), source.stack_bias(prefix, rows)
        return parts.linear(x, f"{name}.{label}", W_NK, f"{name}.{label}.out", bias_N)

    three = [f"{name}.{part}" for part in ("query", "key", "value")]
    rows = {f"attention.self.{part}": H for part in ("query", "key", "value")}
    parts.node("Split", [linear(x, "qkv", rows, H)], three, axis=-1, num_outputs=3)
    attended = parts.node("MultiHeadAttention", [*three, "", mask], [f"{name}.attention"], MICROSOFT, num_heads=shape.heads)
    projected = linear(attended, "o", {"attention.output.dense": H}, H)
    norms = _norm(source, f"{prefix}attention.output.LayerNorm", H)
    x = parts.layer_norm(x, f"{name}.norm_mid", *norms, shape.norm_eps, skip=projected)
    wide = linear(x, "up", {"intermediate.dense": inner}, H)
    active = parts.node("Gelu", [wide], [f"{name}.active"], approximate="none")
    narrow = linear(active, "down", {"output.dense": H}, inner)
    return parts.layer_norm(x, f"{name}.norm_out", *_norm(source, f"{prefix}output.LayerNorm", H), shape.norm_eps, skip=narrow)


def _pool(parts: GraphParts, x: str) -> None:
    """The mean of the tokens that are no padding, divided by its length."""
    one = parts.tensor("one", np.array([1], np.int64))
    counted = parts.node("Cast", ["mask"], ["mask.float"], to=FLOAT)
    kept = parts.node(
        "Mul", [x, parts.node("Unsqueeze", [counted, parts.tensor("last", np.array([2], np.int64))], ["mask.BS1"])], ["kept"]
    )
    total = parts.node("ReduceSum", [kept, one], ["total"], keepdims=0)
    count = parts.node("ReduceSum", [counted, one], ["count"], keepdims=1)
    least_tokens = parts.tensor("least_tokens", np.array(_LEAST_TOKENS, np.float32))
    mean = parts.node("Div", [total, parts.node("Max", [count, least_tokens], ["count.least"])], ["mean"])
    length = parts.node("ReduceL2", [mean, one], ["mean.length"], keepdims=1)
    least_length = parts.tensor("least_length", np.array(_LEAST_LENGTH, np.float32))
    parts.node("Div", [mean, parts.node("Max", [length, least_length], ["mean.least"])], ["embedding"])


def _assemble(parts: GraphParts, shape: BertShape) -> Any:
    value = onnx.helper.make_tensor_value_info
    inputs = [value(name, INT64, ["B", "S"]) for name in ("ids", "mask")]
    outputs = [value("embedding", FLOAT, ["B", shape.hidden])]
    graph = onnx.helper.make_graph(parts.nodes, "bert", inputs, outputs, parts.tensors)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="shammah")
    onnx.helper.set_model_props(model, {PRECISION_KEY: parts.precision})
    return model
