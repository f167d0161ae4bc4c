"""What this processor's kernels promise: not every one gives the same bits for one row as for many."""

import pytest

from shammah_runtime.engine.session import has_avx512


def need_one_path(precision: str) -> None:
    """Skip a test of bits where int4's kernels for one row and for many round differently; drafts are off there."""
    if precision == "int4" and not has_avx512():
        pytest.skip("without AVX-512, int4 kernels for one row and for many round differently")
