"""The precisions a graph can be exported in. Knows their names and widths, not how weights are rounded."""

from collections.abc import Mapping

from shammah_data.settings import Precision

__all__ = ["BITS", "LARGEST_BLOCK", "Precision"]

# A precision that is missing here keeps its weights in float32.
BITS: Mapping[Precision, int] = {"int8": 8, "int4": 4}
# The most weights that share a scale. With these ONNX Runtime's kernels give a row the same result to the last bit whatever
# number of rows is multiplied at once; int4 in blocks of 64 rounds otherwise for an odd row than for a pair.
LARGEST_BLOCK: Mapping[Precision, int] = {"int8": 64, "int4": 32}
