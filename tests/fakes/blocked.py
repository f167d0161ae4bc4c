"""Modules that a child process must not import: a folder for PYTHONPATH whose sitecustomize refuses them."""

from pathlib import Path
from typing import Literal

_SITE = """\
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise {error}(f"{{name}} is blocked")


sys.meta_path.insert(0, Blocked())
"""


def block(folder: Path, names: set[str], error: Literal["ModuleNotFoundError", "RuntimeError"]) -> Path:
    """Write the folder; a ModuleNotFoundError looks like a missing package, a RuntimeError is caught by no fallback."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE.format(names=names, error=error), encoding="utf-8")
    return folder
