"""Where the builder puts its tensors: one file of raw bytes beside the graph. Knows bytes, not what they mean.

A tensor is written as soon as it is made and never kept, so an export needs the memory of its largest tensor only.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx

from shammah_data.errors import ExportError
from shammah_data.manifest import WEIGHTS

# Whole pages can be mapped instead of copied; what is smaller than a page stays inside the graph.
PAGE = 4096

Array = npt.NDArray[Any]
TensorSink = Callable[[str, Array], Any]

# A protobuf message may not be larger.
MESSAGE_LIMIT = 2**31 - 1


class InlineWeights:
    """A TensorSink that keeps everything inside the graph, for models that are small enough to be one file."""

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._limit = limit
        self._bytes = 0

    def __call__(self, name: str, array: Array) -> Any:
        """The array as a TensorProto. Raises ExportError when the graph would grow beyond one file."""
        self._bytes += array.nbytes
        if self._bytes > self._limit:
            raise ExportError(f"tensor {name} makes the graph larger than {self._limit} bytes: export it as int8")
        return onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)


class ExternalWeights:
    """A TensorSink that appends to an open binary file and returns TensorProtos that point into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __call__(self, name: str, array: Array) -> Any:
        """Store one array (copied to C order if need be) and return its TensorProto."""
        array = np.ascontiguousarray(array)
        if array.nbytes < PAGE:
            return onnx.numpy_helper.from_array(array, name)
        return _placed(name, array.dtype, array.shape, self.place(array))

    def pieces(self, names: Sequence[str], array: Array, rows: int) -> tuple[int, list[Any]]:
        """Store one array; one TensorProto for each `rows` rows of it, whatever their size. Returns its offset and them."""
        start = self.place(array)
        width = array.nbytes // len(array)
        parts = [(at, min(rows, len(array) - at)) for at in range(0, len(array), rows)]
        return start, [
            _placed(name, array.dtype, (count, *array.shape[1:]), start + at * width)
            for name, (at, count) in zip(names, parts, strict=True)
        ]

    def place(self, array: Array) -> int:
        """Store an array, in C order, outside the graph's own tensors. Returns its offset in bytes."""
        self._file.write(b"\0" * (-self._file.tell() % PAGE))
        start = self._file.tell()
        # As bytes first: a buffer of bfloat16 has no format that Python knows.
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return start


def _placed(name: str, kind: np.dtype[Any], dims: Sequence[int], offset: int) -> Any:
    tensor = onnx.TensorProto(
        name=name,
        dims=dims,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(kind),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    # Relative to the graph's folder: the pair can be moved together, and never points outside.
    place = {"location": WEIGHTS, "offset": offset, "length": kind.itemsize * math.prod(dims)}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
