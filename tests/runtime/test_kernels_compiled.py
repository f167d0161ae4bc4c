"""How the kernels are compiled: a library that works, or one reason and nothing left behind."""

import ctypes
import os
import runpy
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from shammah_runtime.engine import kernels

SOURCES = Path(__file__).parents[2] / "runtime" / "kernels"
compile_kernels: Callable[..., str] = runpy.run_path(str(SOURCES / "compile.py"))["compile_kernels"]

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler is installed")


@needs_compiler
def test_a_library_is_made_anew_in_place_of_the_old_one(tmp_path: Path) -> None:
    library = tmp_path / "kernels.so"
    library.write_bytes(b"old")
    assert compile_kernels(library) == ""
    assert ctypes.CDLL(str(library)).shammah_usable() in (0, kernels.REVISION)
    assert os.listdir(tmp_path) == ["kernels.so"]


@pytest.mark.parametrize(
    ("compiler", "machine", "reason"),
    [
        ("no-such-compiler", "x86_64", "no-such-compiler cannot be run"),
        ("failing", "x86_64", "failed: out of ideas"),
        (None, "riscv64", "there are none for riscv64"),
    ],
)
def test_what_stands_in_the_way_is_told_and_nothing_is_left(
    compiler: str | None, machine: str, reason: str, tmp_path: Path
) -> None:
    library = tmp_path / "out" / "kernels.so"
    library.parent.mkdir()
    if compiler == "failing":
        script = tmp_path / compiler
        script.write_text("#!/bin/sh\necho out of ideas >&2\nexit 1\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        compiler = str(script)
    assert reason in compile_kernels(library, compiler, machine)
    assert os.listdir(library.parent) == []


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_kernels(tmp_path / "kernels.so", machine="x86_64") == "no C compiler is installed"
