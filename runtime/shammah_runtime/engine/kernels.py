"""Our own kernels for what takes nearly all of a pass, and how a published graph is made to use them.

The library is compiled from runtime/kernels when Shammah is installed (docs/decisions/0016-own-kernels.md). Where no compiler
was there, or the processor has not what it needs, graphs run as they are, by ONNX Runtime's kernels. On disk a graph stays what
it was: in memory, some of its nodes become operators of the library, which read the same weights where they are mapped:

    MatMulNBits                                        BlockProduct
    MatMulNBits, Split, QuickGelu, Mul                 GatedProduct
    Concat with a row of zeros, GroupQueryAttention,   CachedAttention, for which a single row is as good as several
    Slice of that row
"""

import ctypes
import os
import struct
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from shammah_runtime.engine.protobuf import Field, delimited, fields, strings, varint

LIBRARY = Path(__file__).with_name("libshammah_kernels.so")
# Of the sources, as runtime/kernels/operators.c has it: a library of others is left alone.
REVISION = 2
# For tests and benchmarks: `none`, and graphs run as they are; `avx2`, without AVX-512; `neon`, without ARM's dot products.
VARIABLE = "SHAMMAH_KERNELS"
# Operators of ONNX Runtime's that ours take the place of.
REPLACED = (b"MatMulNBits", b"GroupQueryAttention")
_DOMAIN = b"shammah"
# Numbers of fields in onnx.proto.
_GRAPH, _OPSETS = 7, 8  # of ModelProto
_NODES = 1  # of GraphProto
_INPUTS, _OUTPUTS, _OPERATOR, _ATTRIBUTES, _NODE_DOMAIN = 1, 2, 4, 5, 7  # of NodeProto
_NAME, _FLOAT, _INTEGER = 1, 2, 3  # of AttributeProto
# A head's dimensions are taken in vectors, the outputs of a gate in two halves of whole tiles.
_HEAD_STEP, _GATED_STEP = 16, 32
# Products are of codes of so many bits, in blocks of so many, and activations of 8 bits, which level 4 stands for.
_BITS, _BLOCKS, _LEVEL = (4, 8), (16, 32, 64), 4
_ATTENTION = {b"num_heads", b"kv_num_heads", b"scale", b"do_rotary", b"rotary_interleaved", b"local_window_size"}


@cache
def library() -> Path | None:
    """The compiled kernels; None where there are none or it is another library, or they are not wanted or cannot run here."""
    if os.environ.get(VARIABLE) == "none":
        return None
    try:
        return LIBRARY if _whole(LIBRARY) and ctypes.CDLL(str(LIBRARY)).shammah_usable() == REVISION else None
    except (OSError, AttributeError):
        return None


def _whole(library: Path) -> bool:
    """Whether no end is missing, without which loading it would kill the process; only of ELF files that is known.

    Linkers put the table of sections last: `Elf64_Ehdr` in https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html.
    """
    with open(library, "rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return True
    (start,), (size, count) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    end: int = start + size * count
    return library.stat().st_size >= end


@dataclass(frozen=True)
class _Node:
    operator: bytes
    domain: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    attributes: tuple[bytes, ...]
    rest: bytes = b""

    @classmethod
    def read(cls, message: bytes) -> "_Node":
        found: dict[int, list[bytes]] = {}
        rest = []
        for field in fields(message):
            if field.number in (_INPUTS, _OUTPUTS, _OPERATOR, _ATTRIBUTES, _NODE_DOMAIN):
                found.setdefault(field.number, []).append(field.content)
            else:
                rest.append(field.raw)
        last = {number: values[-1] for number, values in found.items()}
        inputs, outputs, attributes = (tuple(found.get(number, ())) for number in (_INPUTS, _OUTPUTS, _ATTRIBUTES))
        return cls(last.get(_OPERATOR, b""), last.get(_NODE_DOMAIN, b""), inputs, outputs, attributes, b"".join(rest))

    def dump(self) -> bytes:
        names = strings(_INPUTS, self.inputs) + strings(_OUTPUTS, self.outputs) + delimited(_OPERATOR, self.operator)
        return names + strings(_ATTRIBUTES, self.attributes) + delimited(_NODE_DOMAIN, self.domain) + self.rest

    def settings(self) -> dict[bytes, float]:
        """Its attributes that are numbers."""
        found: dict[bytes, float] = {}
        for attribute in self.attributes:
            parts = {field.number: field for field in fields(attribute)}
            if _FLOAT in parts:
                found[parts[_NAME].content] = struct.unpack("<f", parts[_FLOAT].content)[0]
            elif _NAME in parts:
                found[parts[_NAME].content] = parts[_INTEGER].value if _INTEGER in parts else 0
        return found

    def ours(self, operator: bytes, inputs: tuple[bytes, ...] = (), outputs: tuple[bytes, ...] = ()) -> "_Node":
        """The operator of ours that takes its place; with other inputs and outputs, where they are given."""
        return replace(self, operator=operator, domain=_DOMAIN, inputs=inputs or self.inputs, outputs=outputs or self.outputs)


def with_own_kernels(model: bytes, head_dim: int) -> bytes | None:
    """A serialized model that uses the library's operators; None where it has no product for them, or is no model.

    Products with zero points, of activations that are not rounded or in other blocks, and attention of another kind than our
    graphs have stay as they are.
    """
    try:
        parts: list[bytes] = []
        products = 0
        for field in fields(model):
            if field.number == _GRAPH:
                graph, products = _graph(field.content, head_dim)
                parts.append(delimited(_GRAPH, graph))
            else:
                parts.append(field.raw)
    except (ValueError, LookupError, struct.error):
        return None
    opset = delimited(1, _DOMAIN) + varint(2, 1)
    return b"".join([*parts, delimited(_OPSETS, opset)]) if products else None


def _graph(message: bytes, head_dim: int) -> tuple[bytes, int]:
    """The graph with other nodes, and how many products it has of ours."""
    found: list[Field] = list(fields(message))
    nodes = [_product(_Node.read(field.content)) for field in found if field.number == _NODES]
    products = sum(node.domain == _DOMAIN for node in nodes)
    if products:
        nodes = _gated(nodes)
        if head_dim % _HEAD_STEP == 0:
            nodes = _attending(nodes)
    written = b"".join(delimited(_NODES, node.dump()) for node in nodes)
    return written + b"".join(field.raw for field in found if field.number != _NODES), products


def _product(node: _Node) -> _Node:
    if node.operator != b"MatMulNBits" or any(node.inputs[3:5]):
        return node
    settings = node.settings()
    block = settings.get(b"block_size", 0)
    rounded = settings.get(b"accuracy_level") == _LEVEL and settings.get(b"bits") in _BITS
    return node.ours(b"BlockProduct") if rounded and block in _BLOCKS and settings.get(b"K", 1) % block == 0 else node


class _Flow:
    """Who makes and who reads a value."""

    def __init__(self, nodes: list[_Node]) -> None:
        self.maker = {output: index for index, node in enumerate(nodes) for output in node.outputs if output}
        self.readers: dict[bytes, list[int]] = {}
        for index, node in enumerate(nodes):
            for name in node.inputs:
                self.readers.setdefault(name, []).append(index)

    def only_reader(self, nodes: list[_Node], name: bytes, operator: bytes) -> int | None:
        """The one node that reads a value, if it is of that kind."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and nodes[readers[0]].operator == operator else None


def _gated(nodes: list[_Node]) -> list[_Node]:
    flow = _Flow(nodes)
    made: dict[int, _Node] = {}
    gone: set[int] = set()
    for index, split in enumerate(nodes):
        if split.operator != b"Split" or len(split.outputs) != 2 or split.settings().get(b"num_outputs") != 2:
            continue
        product = flow.maker.get(split.inputs[0], -1)
        active = flow.only_reader(nodes, split.outputs[0], b"QuickGelu")
        last = flow.only_reader(nodes, split.outputs[1], b"Mul")
        if product < 0 or active is None or last is None or flow.readers[split.inputs[0]] != [index]:
            continue
        chained = nodes[last].inputs == (nodes[active].outputs[0], split.outputs[1])
        alone = flow.readers[nodes[active].outputs[0]] == [last] and nodes[active].settings().get(b"alpha") == 1.0
        outputs = nodes[product].settings().get(b"N", 0)
        if chained and alone and nodes[product].operator == b"BlockProduct" and outputs and outputs % _GATED_STEP == 0:
            made[product] = nodes[product].ours(b"GatedProduct", outputs=nodes[last].outputs)
            gone |= {index, active, last}
    return [made.get(index, node) for index, node in enumerate(nodes) if index not in gone]


def _attending(nodes: list[_Node]) -> list[_Node]:
    flow = _Flow(nodes)
    made: dict[int, _Node] = {}
    gone: set[int] = set()
    for index, node in enumerate(nodes):
        if node.operator != b"GroupQueryAttention" or len(node.inputs) != 9 or any(node.inputs[1:3]):
            continue
        settings = node.settings()
        padding = flow.maker.get(node.inputs[0], -1)
        cut = flow.only_reader(nodes, node.outputs[0], b"Slice")
        if padding < 0 or cut is None or flow.readers[node.inputs[0]] != [index] or not settings.keys() <= _ATTENTION:
            continue
        padded = nodes[padding].operator == b"Concat" and nodes[padding].inputs[1:] == (b"attention_pad",)
        unpadded = nodes[cut].inputs[1:] == (b"attention_pad.first", b"attention_pad.end", b"attention_pad.axis")
        rotated = settings.get(b"do_rotary") == 1 and not settings.get(b"rotary_interleaved") and b"scale" in settings
        if padded and unpadded and rotated:
            past, length, tables = node.inputs[3:5], node.inputs[5], node.inputs[7:9]
            inputs = (nodes[padding].inputs[0], *past, length, *tables)
            made[index] = node.ours(b"CachedAttention", inputs=inputs, outputs=(*nodes[cut].outputs, *node.outputs[1:]))
            gone |= {padding, cut}
    return [made.get(index, node) for index, node in enumerate(nodes) if index not in gone]
