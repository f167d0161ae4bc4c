"""The kernels for ARM beside those for AVX2, to the last bit: compiled for ARM here, and run by an emulator."""

import os
import platform
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parents[2] / "runtime" / "kernels"
CHECK = Path(__file__).with_name("kernels_check.c")
COMPILE: dict[str, Any] = runpy.run_path(str(SOURCES / "compile.py"))
CROSS = "aarch64-linux-gnu-gcc"
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compares kernels for ARM with those for AVX2"),
    pytest.mark.skipif(
        not (shutil.which(CROSS) and shutil.which("gcc") and EMULATOR),
        reason=f"needs gcc, {CROSS} and qemu-user (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)",
    ),
]


def found(folder: Path, machine: str, name: str, processor: str = "") -> list[str]:
    """What kernels_check.c prints with the kernels of that name; `processor` is one that the emulator knows."""
    cross = machine == "aarch64"
    flags = [*COMPILE["FLAGS"], "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"]
    command = [CROSS if cross else "gcc", *flags]
    objects = []
    for made, source, extra in COMPILE["OBJECTS"][machine]:
        objects.append(str(folder / f"{machine}-{made}.o"))
        subprocess.run([*command, *extra, "-c", str(SOURCES / source), "-o", objects[-1]], check=True)
    program = str(folder / name)
    linked = ["-static"] if cross else []
    subprocess.run([*command, *linked, f"-DKERNELS=kernels_{name}", str(CHECK), *objects, "-o", program], check=True)
    run = [str(EMULATOR), "-cpu", processor, program] if cross else [program]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.skipif(
    not os.path.exists("/proc/cpuinfo") or " avx2 " not in Path("/proc/cpuinfo").read_text(), reason="no AVX2 to compare with"
)
def test_arm_gives_the_bits_that_avx2_gives(tmp_path: Path) -> None:
    wanted = found(tmp_path, "x86_64", "avx2")
    assert len(set(wanted)) == len(wanted) == 74
    # A processor without dot products, and one with them.
    assert found(tmp_path, "aarch64", "neon", "cortex-a72") == wanted
    assert found(tmp_path, "aarch64", "dot", "cortex-a76") == wanted


def test_a_whole_library_is_compiled_for_arm(tmp_path: Path) -> None:
    library = tmp_path / "kernels.so"
    assert COMPILE["compile_kernels"](library, CROSS, "aarch64") == ""
    assert library.read_bytes()[18:20] == b"\xb7\x00"  # EM_AARCH64
