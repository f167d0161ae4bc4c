"""Freed memory kept for the next step, where the C library can be told to (glibc). Knows no tensors."""

import contextlib
import ctypes
from collections.abc import Iterator

from shammah_runtime.engine import memory

# From malloc.h, and what they are by default.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_TRIMMED_ABOVE, _MOST_MAPPED = 128 * 2**10, 65536
_NEVER = 2**31 - 1


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While it is entered, what is freed is not handed back to the system, to be faulted in again a moment later.

    A training frees and takes the same gigabytes in each step; the kernel's part of that was a twentieth of its time.
    """
    _tell(_M_MMAP_MAX, 0)
    _tell(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        _tell(_M_TRIM_THRESHOLD, _TRIMMED_ABOVE)
        _tell(_M_MMAP_MAX, _MOST_MAPPED)
        memory.release()


def _tell(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(option, value)
