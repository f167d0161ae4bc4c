import platform
import resource

import pytest

from shammah_trainer import heap

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
_BYTES = 64 * 2**20


def faults(times: int) -> int:
    """Pages that the system has to bring while so many large blocks are taken, written and freed."""
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        _ = b"x" * _BYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_what_is_freed_is_kept_only_while_it_is_wanted() -> None:
    once = faults(1)
    assert once >= 1000, "huge pages hide what is to be seen here"
    assert faults(5) >= 4 * once
    before = resident()
    with heap.kept():
        faults(1)
        assert faults(5) < once
        assert resident() > before + _BYTES // 2
    assert resident() < before + _BYTES // 2
    assert faults(5) >= 4 * once
