"""The 16-bit types of graphs for CUDA. Knows types and rounding, no operators.

ONNX Runtime's GroupQueryAttention for CUDA knows these two only. Its CPU runs fp16 by casting around what it has no kernel
for, and refuses bf16.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from shammah_data.errors import ExportError
from shammah_export.precision import GraphPrecision
from shammah_export.sink import Array

FLOAT = onnx.TensorProto.FLOAT
TYPES: Mapping[GraphPrecision, int] = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


def float_type(precision: GraphPrecision) -> int:
    """ONNX's number for the type of activations, norms and cache."""
    return TYPES.get(precision, FLOAT)


def rounded(name: str, array: Array, precision: GraphPrecision) -> Array:
    """Floats in the type that the graph computes in, to nearest. Raises ExportError naming a tensor beyond its range."""
    if precision not in TYPES:
        return array
    # Too large a value is reported below, by name.
    with np.errstate(over="ignore"):
        halves: Array = array.astype(onnx.helper.tensor_dtype_to_np_dtype(TYPES[precision]))
    if not np.isfinite(halves.astype(np.float32)).all():
        raise ExportError(f"tensor {name} has values beyond the range of {precision}; use bf16 or fp32")
    return halves
