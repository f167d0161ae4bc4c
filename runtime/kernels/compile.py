"""Compiles the kernels to one library; run by hatch_build.py when Shammah is installed. Standard library only."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_X86 = (
    ("avx2", "avx2.c", ("-mavx2", "-mfma")),
    ("avx512", "avx512.c", ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni")),
)
_ARM = (("neon", "neon.c", ()), ("dot", "neon.c", ("-march=armv8.2-a+dotprod", "-DSHAMMAH_DOT")))
# What is compiled for a machine, as platform.machine() has it: objects, their sources and flags.
OBJECTS = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}
_ALWAYS = tuple((name, f"{name}.c", ()) for name in ("operators", "product_operators", "attention_operator", "rooms"))
# Products and sums are fused where the source says so, and nowhere else, whichever compiler it is.
FLAGS = ("-O3", "-std=c11", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden")


def compile_kernels(library: Path, compiler: str | None = None, machine: str = platform.machine()) -> str:
    """Write the library; returns what stood in the way, or nothing.

    `compiler`: a command; by default what CC says, or cc, gcc or clang, whichever there is.
    """
    if machine.lower() not in OBJECTS or sys.platform == "win32":
        return f"there are none for {machine} on {sys.platform}"
    compiler = compiler or os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return "no C compiler is installed"
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects, commands = [], []
        for name, source, flags in (*_ALWAYS, *OBJECTS[machine.lower()]):
            objects.append(str(Path(folder) / f"{name}.o"))
            path = str(Path(__file__).with_name(source))
            commands.append([*compiler.split(), *FLAGS, *flags, "-c", path, "-o", objects[-1]])
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
