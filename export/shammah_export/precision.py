"""The precisions a graph can be exported in. Knows their names and widths, not how weights are rounded."""

from collections.abc import Mapping

from shammah_data.settings import Precision

__all__ = ["BITS", "Precision"]

# A precision that is missing here keeps its weights in float32.
BITS: Mapping[Precision, int] = {"int8": 8, "int4": 4}
