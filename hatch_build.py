"""Compiles runtime/kernels when a wheel is built or Shammah is installed in place; without a compiler it goes on without."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCES = {
    "operators.c": (),
    "avx2.c": ("-mavx2", "-mfma"),
    "avx512.c": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
}
FLAGS = ("-O3", "-std=c11", "-fPIC", "-fvisibility=hidden")
LIBRARY = "runtime/shammah_runtime/engine/libshammah_kernels.so"


class Kernels(BuildHookInterface[Any]):
    """Adds the compiled library to a wheel, which is then for one platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; `version` and `build_data` are hatchling's."""
        if self.target_name != "wheel":
            return
        library = Path(self.root) / LIBRARY
        if reason := compile_kernels(Path(self.root) / "runtime" / "kernels", library):
            library.unlink(missing_ok=True)
            self.app.display_warning(f"serving will use ONNX Runtime's kernels, which are slower: {reason}")
            return
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(iter(sys_tags())).platform}"


def compile_kernels(sources: Path, library: Path) -> str:
    """Write the library; what stood in the way, or nothing."""
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "win32":
        return f"there are none for {platform.machine()} on {sys.platform}"
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return "no C compiler is installed"
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = [str(Path(folder) / f"{name}.o") for name in SOURCES]
        commands = [
            [compiler, *FLAGS, *flags, "-c", str(sources / name), "-o", made]
            for (name, flags), made in zip(SOURCES.items(), objects, strict=True)
        ]
        linked = Path(folder) / library.name
        for command in [*commands, [compiler, "-shared", *objects, "-o", str(linked)]]:
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                return f"{compiler} cannot be run: {error}"
            if done.returncode:
                return f"{' '.join(command)} failed: {done.stderr.strip()}"
        # A library that is mapped somewhere keeps its bytes.
        os.replace(linked, library)
    return ""
