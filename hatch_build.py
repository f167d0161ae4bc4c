"""Compiles runtime/kernels when a wheel is built or Shammah is installed in place; without a compiler it goes on without."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

LIBRARY = "runtime/shammah_runtime/engine/libshammah_kernels.so"


class Kernels(BuildHookInterface[Any]):
    """Adds the compiled library to a wheel, which is then for one platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; `version` and `build_data` are hatchling's."""
        if self.target_name != "wheel":
            return
        library = Path(self.root) / LIBRARY
        compile_kernels = runpy.run_path(str(Path(self.root) / "runtime" / "kernels" / "compile.py"))["compile_kernels"]
        if reason := compile_kernels(library):
            library.unlink(missing_ok=True)
            self.app.display_warning(f"serving will use ONNX Runtime's kernels, which are slower: {reason}")
            return
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(iter(sys_tags())).platform}"
