"""Element types of a graph's cache, and copying on a device. Knows ONNX's numbers for types, no models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shammah_data.errors import ArtifactError


@dataclass(frozen=True)
class Element:
    """A type of numbers: ONNX's name and number for it, and the numpy type of the same width that holds it on the CPU."""

    name: str
    number: int
    holder: type[np.generic]

    @property
    def bytes(self) -> int:
        """Of one number."""
        return np.dtype(self.holder).itemsize

    def value(self, ort: Any, array: Any) -> Any:
        """An OrtValue on the CPU that shares the array's memory."""
        if np.dtype(self.holder).kind == "f":
            return ort.OrtValue.ortvalue_from_numpy(array)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, self.number)


# numpy has no bfloat16: its bits are held.
ELEMENTS = {
    element.name: element
    for element in (
        Element("tensor(float)", 1, np.float32),
        Element("tensor(float16)", 10, np.float16),
        Element("tensor(bfloat16)", 16, np.uint16),
    )
}


def element_of(name: str) -> Element:
    """By ONNX's name. Raises ArtifactError for one that no cache can have."""
    try:
        return ELEMENTS[name]
    except KeyError:
        raise ArtifactError(f"the graph's cache is of {name}; this runtime knows {', '.join(ELEMENTS)}") from None


class Copier:
    """Copies tensors of one type where they lie: a graph of one Identity node, since numpy does not know every type."""

    def __init__(self, ort: Any, element: Element, provider: str) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(_identity(element.number), options, providers=[provider])

    def copy(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        """Each OrtValue into the one beside it, of the same sides."""
        for source, target in zip(sources, targets, strict=True):
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("x", source)
            binding.bind_ortvalue_output("y", target)
            self._session.run_with_iobinding(binding)


def _identity(number: int) -> bytes:
    """An ONNX model y = Identity(x), x of any sides, in its protobuf encoding: each part is tag, length, content."""

    def part(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    def tensor(name: bytes) -> bytes:
        return part(0x0A, name) + part(0x12, part(0x0A, bytes((0x08, number))))

    node = part(0x0A, b"x") + part(0x12, b"y") + part(0x22, b"Identity")
    graph = part(0x0A, node) + part(0x12, b"copy") + part(0x5A, tensor(b"x")) + part(0x62, tensor(b"y"))
    # File format 8, opset 14: the first with bfloat16 in Identity was 13.
    return bytes((0x08, 8)) + part(0x3A, graph) + part(0x42, bytes((0x10, 14)))
