"""The precisions a graph can be exported in. Knows their names and widths, not how weights are rounded."""

from collections.abc import Mapping

from shammah_data.settings import GraphPrecision, Precision

__all__ = ["BITS", "LARGEST_BLOCK", "NOT_ON_CPU", "GraphPrecision", "Precision"]

# A precision that is missing here keeps its weights as floats: 32 bits wide, or as `halves` says.
BITS: Mapping[GraphPrecision, int] = {"int8": 8, "int4": 4}
# The most weights that share a scale. With these ONNX Runtime's kernels give a row the same result to the last bit whatever
# number of rows is multiplied at once; int4 in blocks of 64 rounds otherwise for an odd row than for a pair.
LARGEST_BLOCK: Mapping[GraphPrecision, int] = {"int8": 64, "int4": 32}
# What ONNX Runtime has no CPU kernels for, not even by casting.
NOT_ON_CPU: tuple[GraphPrecision, ...] = ("bf16",)
