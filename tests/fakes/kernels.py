"""What this processor's kernels promise: not every one gives the same bits for one row as for many."""

import pytest

from shammah_runtime.engine import kernels
from shammah_runtime.engine.session import has_avx512


def need_one_path(precision: str, own_kernels: bool = True) -> None:
    """Skip a test of bits where int4's kernels for one row and for many round differently; drafts are off there."""
    if precision == "int4" and not has_avx512() and not (own_kernels and kernels.library()):
        pytest.skip("without AVX-512 and kernels of our own, int4 rounds one row and many differently")
