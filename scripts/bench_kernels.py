"""scripts/bench kernels: the products of one token at several widths and blocks, without anything around them.

A graph of random weights has the layers of the default base (30 times qkv, o, gate and up, down, and the head), each multiplied
by MatMulNBits; the schemes take turns. `exact` says whether nine rows at once give the very bits of nine single rows, without
which a draft could change an answer (docs/decisions/0005).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

HIDDEN, ATTENDED, CACHED, INNER, VOCAB, LAYERS = 576, 576, 192, 1536, 49152, 30
ROWS = 8


@dataclass(frozen=True)
class Stored:
    """Bits of a weight and the weights of a block; with `zero_points` each block has its own."""

    bits: int
    block: int
    zero_points: bool = False


INT8, INT4, INT2 = Stored(8, 64), Stored(4, 32), Stored(2, 64)
# What is stored otherwise than the rest of a scheme is named.
SCHEMES: Mapping[str, Mapping[str, Stored]] = {
    "int8": {"rest": INT8},
    "int4": {"rest": INT4},
    "int4, zero points": {"rest": Stored(4, 32, True)},
    "int4, blocks of 64": {"rest": Stored(4, 64)},
    "int4, head and down int8": {"rest": INT4, "head": INT8, "down": INT8},
    "gate and up int2, rest int4": {"rest": INT4, "gate_up": INT2},
    "int2, head int4": {"rest": INT2, "head": INT4},
    "int2 in blocks of 32, head int4": {"rest": Stored(2, 32), "head": INT4},
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time there, in seconds")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    graphs = {name: _graph(scheme, rng) for name, scheme in SCHEMES.items()}
    sessions = {name: _session(graph, given.threads) for name, graph in graphs.items()}
    one, many = (rng.normal(size=(rows, HIDDEN)).astype(np.float32) for rows in (1, ROWS))
    times: dict[str, dict[str, list[float]]] = {name: {"one": [], "many": []} for name in SCHEMES}
    for _ in range(given.rounds):
        for name, session in sessions.items():
            for label, rows in (("one", one), ("many", many)):
                began = time.perf_counter()
                session.run(None, {"x": rows})
                times[name][label].append(time.perf_counter() - began)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads")
    print(f"ONNX Runtime {onnxruntime.__version__}; milliseconds, median (and least) of {given.rounds} rounds")
    print(f"{'':34}{'MB':>5}{'1 row':>16}{f'{ROWS} rows':>18}  exact")
    for name, session in sessions.items():
        cells = [f"{1e3 * statistics.median(t):.2f} ({1e3 * min(t):.2f})" for t in times[name].values()]
        print(f"{name:34}{len(graphs[name]) / 1e6:5.0f}{cells[0]:>16}{cells[1]:>18}  {'yes' if _exact(session, rng) else 'NO'}")
    if given.json:
        given.json.write_text(json.dumps({"command": sys.argv[1:], "seconds": times}) + "\n", encoding="utf-8")
    return 0


def _graph(scheme: Mapping[str, Stored], rng: np.random.Generator) -> bytes:
    """The serialized graph."""
    nodes: list[Any] = []
    tensors: list[Any] = []

    def constant(name: str, array: Any) -> str:
        tensors.append(onnx.numpy_helper.from_array(array, name))
        return name

    def product(x: str, label: str, name: str, K: int, N: int) -> str:
        stored = scheme.get(label, scheme["rest"])
        blocks, bits = K // stored.block, stored.bits
        packed = rng.integers(0, 256, (N, blocks, stored.block * bits // 8)).astype(np.uint8)
        # Of either sign, and such that a product is as large as what it multiplies: nothing grows or fades over the layers.
        codes = np.arange(2**bits) - 2 ** (bits - 1)
        size = (np.square(codes).mean() * (2 if stored.zero_points else 1) * K) ** -0.5
        scales = (size * rng.choice([-1, 1], (N, blocks))).astype(np.float32)
        inputs = [x, constant(f"{name}.packed", packed), constant(f"{name}.scales", scales)]
        if stored.zero_points:
            inputs.append(constant(f"{name}.zeros", rng.integers(0, 256, (N, -(-blocks * bits // 8))).astype(np.uint8)))
        settings = {"bits": bits, "block_size": stored.block, "K": K, "N": N, "accuracy_level": 4}
        nodes.append(onnx.helper.make_node("MatMulNBits", inputs, [name], domain="com.microsoft", **settings))
        return name

    def front(x: str, width: str) -> str:
        nodes.append(onnx.helper.make_node("Slice", [x, "zero", width, "last"], [f"{x}.front"]))
        return f"{x}.front"

    for name, value in (("zero", 0), ("last", 1), ("attended", ATTENDED), ("inner", INNER)):
        constant(name, np.array([value], np.int64))
    x = "x"
    for layer in range(LAYERS):
        x = product(x, "qkv", f"{layer}.qkv", HIDDEN, ATTENDED + 2 * CACHED)
        x = product(front(x, "attended"), "o", f"{layer}.o", ATTENDED, HIDDEN)
        x = product(x, "gate_up", f"{layer}.gate_up", HIDDEN, 2 * INNER)
        x = product(front(x, "inner"), "down", f"{layer}.down", INNER, HIDDEN)
    product(x, "head", "logits", HIDDEN, VOCAB)
    value = onnx.helper.make_tensor_value_info
    sides = [value("x", onnx.TensorProto.FLOAT, ["M", HIDDEN])], [value("logits", onnx.TensorProto.FLOAT, ["M", VOCAB])]
    graph = onnx.helper.make_graph(nodes, "kernels", *sides, tensors)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return serialized


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _exact(session: Any, rng: np.random.Generator) -> bool:
    rows = rng.normal(size=(9, HIDDEN)).astype(np.float32)
    together = session.run(None, {"x": rows})[0]
    single = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])
    return bool(np.isfinite(together).all() and together.any() and np.array_equal(together, single))


if __name__ == "__main__":
    sys.exit(main())
