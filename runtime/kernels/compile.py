"""Compiles the kernels to one library; run by hatch_build.py when Shammah is installed. Standard library only."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = {
    "operators.c": (),
    "rooms.c": (),
    "avx2.c": ("-mavx2", "-mfma"),
    "avx512.c": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
}
FLAGS = ("-O3", "-std=c11", "-fPIC", "-fvisibility=hidden")


def compile_kernels(library: Path, compiler: str | None = None, machine: str = platform.machine()) -> str:
    """Write the library; returns what stood in the way, or nothing.

    `compiler`: a command; by default what CC says, or cc, gcc or clang, whichever there is.
    """
    if machine.lower() not in ("x86_64", "amd64") or sys.platform == "win32":
        return f"there are none for {machine} on {sys.platform}"
    compiler = compiler or os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return "no C compiler is installed"
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = [str(Path(folder) / f"{name}.o") for name in SOURCES]
        commands = [
            [*compiler.split(), *FLAGS, *flags, "-c", str(Path(__file__).with_name(name)), "-o", made]
            for (name, flags), made in zip(SOURCES.items(), objects, strict=True)
        ]
        linked = Path(folder) / library.name
        for command in [*commands, [*compiler.split(), "-shared", *objects, "-o", str(linked), "-pthread"]]:
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                return f"{compiler} cannot be run: {error}"
            if done.returncode:
                return f"{' '.join(command)} failed: {done.stderr.strip()}"
        # A library that is mapped somewhere keeps its bytes.
        os.replace(linked, library)
    return ""
