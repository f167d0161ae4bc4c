"""The ONNX graph of a decoder-only model: one graph for prefill, decoding and the verification of drafts.

Knows the architecture; operators are made in `nodes`, names and types promised in `contract`. No files, no torch.

Per layer: one product for queries, keys and values -> GroupQueryAttention, which rotates, caches and attends, over one row
more (see `contract`) -> output product -> normalization of the sum with the residual -> one product for gate and up ->
SiLU(gate) * up -> down product -> normalization of the sum. Only the rows in `sel` reach the last norm and the head.
Families add to this what their shape says: norms of each head, norms of what is added, GELU, windows, scaled embeddings.

Legend: N outputs, K inputs of a linear layer; H hidden.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from shammah_data.errors import ExportError
from shammah_data.token_table import TABLE_KEY, TableDescription
from shammah_export.contract import INPUTS, IR_VERSION, OPSETS, PRECISION_KEY, cache_names, check_graph
from shammah_export.halves import FLOAT, rounded
from shammah_export.nodes import MICROSOFT, GraphParts
from shammah_export.precision import BITS, LARGEST_BLOCK, GraphPrecision
from shammah_export.quantize import BLOCK_SIZES, Blocks
from shammah_export.rotary import rotary_tables
from shammah_export.shape import ModelShape
from shammah_export.sink import ExternalWeights
from shammah_export.weights import Floats, Weights

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORM = "model.norm.weight"
# Codes of a head that are multiplied at once: ONNX Runtime repacks a product's whole table while it still has the old one.
HEAD_BYTES = 4 * 2**20
# Pieces of so many rows begin at a page of the file.
HEAD_STEP = 4096


def build_graph(
    weights: Mapping[str, Floats],
    shape: ModelShape,
    precision: GraphPrecision,
    sink: ExternalWeights,
    *,
    accuracy_level: int = 4,
) -> Any:
    """Build the ModelProto whose tensors are what `sink` made of them.

    `weights` has Hugging Face names and float32 arrays, linear layers as [outputs, inputs]; each is read once, in the
    order of the graph. `accuracy_level` is MatMulNBits' own (4: int8 activations, 1: float32 activations).
    Raises ExportError for a tensor that is missing, left over, of the wrong size or not finite, and for a graph that
    breaks its contract.
    """
    if precision == "fp16" and shape.output_norms:
        raise ExportError(f"{shape.model_type} is not supported in fp16, whose range its activations leave; use bf16 or fp32")
    source = Weights(weights)
    parts = GraphParts(sink, precision, accuracy_level, LARGEST_BLOCK.get(precision, BLOCK_SIZES[0]))
    _add_rotary_tables(parts, shape)
    residual = "embedded"
    if shape.embedding_scale != 1.0:
        # Rounded as the weights are, and multiplied in float32.
        factor = rounded("embedding_scale", np.array(shape.embedding_scale, np.float32), precision)
        scale = parts.tensor("embedding_scale", factor.astype(np.float32))
        residual = parts.node("Mul", [residual, scale], ["embedded.scaled"])
    if parts.float_type != FLOAT:
        residual = parts.cast(residual, parts.float_type, "embedded.narrow")
    norm_H = _norm(source, shape, "model.layers.0.input_layernorm.weight", shape.hidden)
    x = parts.norm(residual, "layers.0.norm_in", norm_H, shape.norm_eps)
    for layer in range(shape.layers):
        residual, delta = _layer(parts, source, shape, layer, residual, x)
        last = layer + 1 == shape.layers
        if last:
            residual, delta = (
                parts.node("Gather", [value, "sel"], [f"{name}.selected"], axis=1)
                for value, name in ((residual, "residual"), (delta, "delta"))
            )
        name = NORM if last else f"model.layers.{layer + 1}.input_layernorm.weight"
        norm_H = _norm(source, shape, name, shape.hidden)
        label = "norm" if last else f"layers.{layer + 1}.norm_in"
        x, residual = parts.skip_norm(residual, delta, label, norm_H, shape.norm_eps, keep_sum=not last)
    described = _embedding_and_head(parts, source, shape, sink, x)
    # A tied head and the rotary frequencies are copies of what the graph already has.
    source.refuse_leftovers(lambda name: name.endswith("rotary_emb.inv_freq") or (shape.tied and name == HEAD))
    model = _assemble(parts, shape, described)
    check_graph(model)
    return model


def _norm(source: Weights, shape: ModelShape, name: str, size: int) -> Floats:
    """The weight of a norm as it is multiplied by."""
    return source.take(name, size) + np.float32(shape.norm_offset)


def _rotary_names(shape: ModelShape, layer: int) -> tuple[str, str]:
    """The tables that a layer rotates by."""
    # One pair serves both kinds of layers where they turn alike.
    local = shape.local[layer] and shape.local_rope != shape.rope
    return ("rope_local_cos", "rope_local_sin") if local else ("rope_cos", "rope_sin")


def _add_rotary_tables(parts: GraphParts, shape: ModelShape) -> None:
    ropes = {
        _rotary_names(shape, layer): shape.local_rope if shape.local[layer] else shape.rope for layer in range(shape.layers)
    }
    for names, rope in ropes.items():
        for name, table in zip(names, rotary_tables(rope, shape.head_dim, shape.context), strict=True):
            parts.floats(name, table)


def _embedding_and_head(
    parts: GraphParts, source: Weights, shape: ModelShape, sink: ExternalWeights, x: str
) -> TableDescription:
    """The embedding table, which the graph does not read, and the head, which is the same table where they are tied."""
    table_VH = source.take(EMBEDDING, shape.vocab, shape.hidden)
    # Logits are float32 whatever the graph computes in.
    logits = "logits" if parts.float_type == FLOAT else "logits.narrow"
    if parts.precision in BITS:
        blocks = parts.quantize(table_VH)
        bits, block_size = blocks.bits, blocks.block_size
        if shape.tied:
            offsets = _quantized_head(parts, sink, x, "embedding", blocks, logits)
        else:
            offsets = sink.place(blocks.packed), sink.place(blocks.scales)
            _quantized_head(parts, sink, x, "head", parts.quantize(source.take(HEAD, shape.vocab, shape.hidden)), logits)
        return TableDescription(shape.vocab, shape.hidden, bits, block_size, *offsets)
    array = rounded(EMBEDDING, table_VH, parts.precision)
    if shape.tied:
        parts.tensor("embedding", array)
        places = {entry.key: entry.value for entry in parts.tensors[-1].external_data}
        # What is too small to be mapped is inside the graph, where the engine cannot read it.
        offset = int(places["offset"]) if places else sink.place(array)
        parts.float_head(x, "embedding", logits)
    else:
        offset = sink.place(array)
        parts.linear(x, "head", source.take(HEAD, shape.vocab, shape.hidden), logits)
    if logits != "logits":
        parts.cast(logits, FLOAT, "logits")
    bits = 32 if parts.float_type == FLOAT else 16
    return TableDescription(shape.vocab, shape.hidden, bits, 0, offset, offset, bfloat16=parts.precision == "bf16")


def _quantized_head(
    parts: GraphParts, sink: ExternalWeights, x: str, name: str, blocks: Blocks, logits: str
) -> tuple[int, int]:
    """Multiply by a table, piece by piece. Returns where its codes and its scales lie in the file, each in one."""
    V = blocks.outputs
    count = -(-blocks.packed.nbytes // HEAD_BYTES)
    rows = -(-V // (count * HEAD_STEP)) * HEAD_STEP
    names = [f"{name}.{number}" for number in range(-(-V // rows))]
    codes_at, codes = sink.pieces([f"{piece}.packed" for piece in names], blocks.packed, rows)
    scales_at, scales = sink.pieces([f"{piece}.scales" for piece in names], blocks.scales, rows)
    parts.tensors += [*codes, *scales]
    found = [
        parts.quantized_linear(x, piece, (tensor.dims[0], blocks.inputs), logits if len(names) == 1 else f"{piece}.{logits}")
        for piece, tensor in zip(names, codes, strict=True)
    ]
    if len(found) > 1:
        parts.node("Concat", found, [logits], axis=-1)
    return codes_at, scales_at


def _layer(parts: GraphParts, source: Weights, shape: ModelShape, layer: int, residual: str, x: str) -> tuple[str, str]:
    """One decoder layer over the normalized input `x`. Returns the new residual and what is to be added to it."""
    prefix, name = f"model.layers.{layer}.", f"layers.{layer}"
    H, inner, attended = shape.hidden, shape.intermediate, shape.heads * shape.head_dim

    def linear(x: str, label: str, rows: Mapping[str, int], K: int, bias: bool) -> str:
        W_NK, bias_N = source.stack(prefix, rows, K), source.stack_bias(prefix, rows, bias)
        return parts.linear(x, f"{name}.{label}", W_NK, f"{name}.{label}.out", bias_N)

    def output_norm(x: str, label: str, weight: str) -> str:
        return parts.norm(x, f"{name}.{label}", _norm(source, shape, f"{prefix}{weight}.weight", H), shape.norm_eps)

    cached = shape.kv_heads * shape.head_dim
    rows = {"self_attn.q_proj": attended, "self_attn.k_proj": cached, "self_attn.v_proj": cached}
    queries_keys_values = linear(x, "qkv", rows, H, shape.qkv_bias)
    if shape.head_norms:
        queries_keys_values = _head_norms(parts, source, shape, layer, queries_keys_values)
    attention = _attention(parts, shape, layer, queries_keys_values)
    projected = linear(attention, "o", {"self_attn.o_proj": H}, attended, shape.o_bias)
    middle = "post_attention_layernorm"
    if shape.output_norms:
        projected = output_norm(projected, "norm_attention", middle)
        middle = "pre_feedforward_layernorm"
    norm_H = _norm(source, shape, f"{prefix}{middle}.weight", H)
    x, residual = parts.skip_norm(residual, projected, f"{name}.norm_mid", norm_H, shape.norm_eps, keep_sum=True)
    both = linear(x, "gate_up", {"mlp.gate_proj": inner, "mlp.up_proj": inner}, H, shape.mlp_bias)
    gate, up = f"{name}.gate", f"{name}.up"
    parts.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
    active = parts.activation(gate, shape.activation, f"{name}.active")
    product = parts.node("Mul", [active, up], [f"{name}.gated"])
    delta = linear(product, "down", {"mlp.down_proj": H}, inner, shape.mlp_bias)
    if shape.output_norms:
        delta = output_norm(delta, "norm_mlp", "post_feedforward_layernorm")
    return residual, delta


def _head_norms(parts: GraphParts, source: Weights, shape: ModelShape, layer: int, packed: str) -> str:
    """The packed queries, keys and values, with each head's queries and keys normalized."""
    prefix, name, D = f"model.layers.{layer}.self_attn.", f"layers.{layer}", shape.head_dim
    heads = parts.constant("heads.sides", np.array([1, -1, shape.heads + 2 * shape.kv_heads, D], np.int64))
    counts = parts.constant("heads.counts", np.array([shape.heads, shape.kv_heads, shape.kv_heads], np.int64))
    row = parts.constant("heads.row", np.array([1, -1, (shape.heads + 2 * shape.kv_heads) * D], np.int64))
    split = [f"{name}.{part}" for part in ("queries", "keys", "values")]
    parts.node("Split", [parts.node("Reshape", [packed, heads], [f"{name}.heads"]), counts], split, axis=2)
    normed = [
        parts.norm(value, f"{value}.norm", _norm(source, shape, f"{prefix}{weight}.weight", D), shape.norm_eps)
        for value, weight in zip(split[:2], ("q_norm", "k_norm"), strict=True)
    ]
    joined = parts.node("Concat", [*normed, split[2]], [f"{name}.heads.normed"], axis=2)
    return parts.node("Reshape", [joined, row], [f"{name}.qkv.normed"])


def _attention(parts: GraphParts, shape: ModelShape, layer: int, packed: str) -> str:
    """Rotate, cache and attend, over a row of zeros more."""
    name = f"layers.{layer}"
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    pad = parts.constant("attention_pad", rounded("attention_pad", np.zeros((1, 1, width), np.float32), parts.precision))
    padded = parts.node("Concat", [packed, pad], [f"{name}.qkv.padded"], axis=1)
    window = shape.window_of(layer)
    attended_rows = parts.node(
        "GroupQueryAttention",
        [padded, "", "", *cache_names("past", layer), "seqlens_k", "total_sequence_length", *_rotary_names(shape, layer)],
        [f"{name}.attention.padded", *cache_names("present", layer)],
        MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.attention_scale,
        do_rotary=1,
        rotary_interleaved=0,
        # Counts the token itself, as config.json does, since ONNX Runtime 1.24; before, it was one more.
        **({} if window is None else {"local_window_size": window}),
    )
    first, end, axis = (
        parts.constant(f"attention_pad.{label}", np.array([value], np.int64))
        for label, value in (("first", 0), ("end", -1), ("axis", 1))
    )
    return parts.node("Slice", [attended_rows, first, end, axis], [f"{name}.attention"])


def _assemble(parts: GraphParts, shape: ModelShape, table: TableDescription) -> Any:
    value = onnx.helper.make_tensor_value_info
    sides: dict[str, list[Any]] = {
        "embedded": [1, "S", shape.hidden],
        "seqlens_k": [1],
        "total_sequence_length": [],
        "sel": ["M"],
    }
    inputs = [value(name, kind, sides[name]) for name, kind in INPUTS.items()]
    outputs = [value("logits", FLOAT, [1, "M", shape.vocab])]
    for values, kind, length in ((inputs, "past", "P"), (outputs, "present", "T")):
        for layer in range(shape.layers):
            cache = [1, shape.kv_heads, length, shape.head_dim]
            values += [value(name, parts.float_type, cache) for name in cache_names(kind, layer)]
    graph = onnx.helper.make_graph(parts.nodes, shape.model_type, inputs, outputs, parts.tensors)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="shammah")
    onnx.helper.set_model_props(model, {PRECISION_KEY: parts.precision, TABLE_KEY: table.dump()})
    return model
