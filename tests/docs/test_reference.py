"""The generated pages are what the commands and the settings say now."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

import pytest

from shammah_data.settings import ModelPrice, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_a_page_is_as_it_would_be_generated_now(reference: ModuleType, name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == reference.pages()[name], f"docs/reference/{name} is out of date: run scripts/reference"


@pytest.mark.parametrize(
    "kind",
    [Settings, ModelPrice, *(type(item.default) for item in fields(Settings) if is_dataclass(item.default))],
    ids=lambda kind: kind.__name__,
)
def test_every_key_has_a_meaning_and_no_other_has(reference: ModuleType, kind: type) -> None:
    told = reference.meanings(kind)
    assert list(told) == ["", *(item.name for item in fields(kind) if not is_dataclass(item.default))]
    assert all(told.values())


def test_every_command_is_there(reference: ModuleType) -> None:
    """So that a page that is empty and generated as such would not pass."""
    headings = {line.lstrip("# ") for line in reference.commands().splitlines() if line.startswith("#")}
    assert {"shammah-serve ask", "shammah-train rollback", "shammah-log forget", "scripts/export"} <= headings
    assert {"`[serve]`", "`[[teacher.prices]]`"} <= {line.lstrip("# ") for line in reference.settings().splitlines()}


def test_help_of_the_export_installs_nothing(reference: ModuleType, tmp_path: Path) -> None:
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "none"), "PYTHON": "false"}
    done = subprocess.run(
        [ROOT / "scripts" / "export", "--help"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    ((_, told),) = reference.helps("scripts/export", reference.export_app)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{told}\n", "")


@pytest.mark.parametrize("script", ["bench", "make-base", "quickstart"])
def test_help_of_the_other_scripts_installs_nothing(tmp_path: Path, script: str) -> None:
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "none"), "PYTHON": "false"}
    done = subprocess.run(
        [ROOT / "scripts" / script, "--help"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()
    assert not (tmp_path / "none").exists()
