"""What every exported graph promises to the engine that runs it, and the check of that promise.

Knows names, types and sizes, not models. The contract:

    embedded               float32 [1, S, H]  the embedding rows of the tokens to read
    seqlens_k              int32 [1]      tokens in the cache after this run
    total_sequence_length  int32 []       tokens in the cache after this run, plus one
    sel                    int64 [M]      the positions in embedded whose logits are wanted
    past_key_0, past_value_0, ...         [1, kv heads, P, head_dim], one pair per layer
    logits                 float32 [1, M, V]
    present_key_0, present_value_0, ...   [1, kv heads, T, head_dim]; may share the buffer of the past

Past and present are float32, or float16 or bfloat16 in graphs of these precisions.

The engine gathers the rows itself, from the table that the metadata shammah.embedding describes (shammah_data.token_table).
A run may read any number of tokens on top of any number already cached. Cached tokens are forgotten by giving a smaller
total. Keys are cached after rotation, in order of position. Every run also writes one row of zeros behind its tokens, which
the next one overwrites: P and T hold one position more than the longest sequence. With it attention never multiplies a
single row, for which ONNX Runtime has another kernel than for several, and the same tokens give the same logits to the
last bit however they are divided into runs.
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

import onnx

from shammah_data.errors import ExportError
from shammah_data.manifest import WEIGHTS
from shammah_export.halves import FLOAT, float_type
from shammah_export.nodes import MICROSOFT
from shammah_export.precision import BITS, GraphPrecision

PRECISION_KEY = "shammah.precision"
OPSETS = {"": 21, MICROSOFT: 1}
# ONNX's number for the file format that belongs to opset 21.
IR_VERSION = 10

INT64, INT32 = onnx.TensorProto.INT64, onnx.TensorProto.INT32
INPUTS: Mapping[str, int] = {"embedded": FLOAT, "seqlens_k": INT32, "total_sequence_length": INT32, "sel": INT64}

FLOAT_LIMIT_BYTES = 1_000_000
FLOAT_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm")


def cache_names(kind: str, layer: int) -> tuple[str, str]:
    """Key and value names of one layer's cache; `kind` is past or present."""
    return f"{kind}_key_{layer}", f"{kind}_value_{layer}"


def check_graph(model: Any) -> None:
    """Check a ModelProto against the contract; tensor contents are not read.

    Inputs, outputs and their types are those of the contract, external data lies in the one file beside the graph, and
    a graph that calls itself quantized has no float constant over 1 MB (rotary tables aside) and multiplies by none.
    Raises ExportError that names the first offender.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    found = metadata.get(PRECISION_KEY)
    precision: GraphPrecision | None = next((known for known in get_args(GraphPrecision) if known == found), None)
    if precision is None:
        raise ExportError(f"the graph's metadata {PRECISION_KEY} is {found!r}; export it again")
    graph = model.graph
    _check_signature(graph, float_type(precision))
    for tensor in graph.initializer:
        locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if locations not in ([], [WEIGHTS]):
            raise ExportError(f"tensor {tensor.name} lies in {locations}; everything belongs into {WEIGHTS}")
    if precision in BITS:
        check_quantized(
            graph, {name for node in graph.node if node.op_type == "GroupQueryAttention" for name in node.input[7:9]}
        )


def _check_signature(graph: Any, cache: int) -> None:
    layers = sum(node.op_type == "GroupQueryAttention" for node in graph.node)
    pasts = [name for layer in range(layers) for name in cache_names("past", layer)]
    presents = [name for layer in range(layers) for name in cache_names("present", layer)]
    wanted_inputs = [*INPUTS.items(), *((name, cache) for name in pasts)]
    wanted_outputs = [("logits", FLOAT), *((name, cache) for name in presents)]
    for side, values, wanted in (("input", graph.input, wanted_inputs), ("output", graph.output, wanted_outputs)):
        found = [(value.name, value.type.tensor_type.elem_type) for value in values]
        if layers == 0 or found != wanted:
            odd = sorted({name for name, _ in set(found) ^ set(wanted)}) or ["their order"]
            raise ExportError(f"the graph's {side}s are not those of the contract: {', '.join(odd)}")


def check_quantized(graph: Any, tables: Collection[str]) -> None:
    """Raise ExportError for a product with a float constant, and for a float constant over 1 MB outside `tables`."""
    floats = {tensor.name: _bytes(tensor) for tensor in graph.initializer if tensor.data_type == FLOAT}
    for node in graph.node:
        constant = next((name for name in node.input if name in floats), None)
        if node.op_type in FLOAT_PRODUCTS and constant is not None:
            raise ExportError(f"node {node.name} multiplies by the float constant {constant}; it was not quantized")
    scales = {node.input[2] for node in graph.node if node.op_type in ("MatMulNBits", "GatherBlockQuantized")}
    for name, size in floats.items():
        if size > FLOAT_LIMIT_BYTES and name not in scales and name not in tables:
            raise ExportError(f"float constant {name} of {size} bytes is left in a quantized graph")


def _bytes(tensor: Any) -> int:
    size = 4
    for side in tensor.dims:
        size *= side
    return size
