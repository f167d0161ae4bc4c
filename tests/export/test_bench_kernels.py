"""scripts/bench kernels: every scheme runs, and its answer to whether rows depend on one another is a measured one."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shammah_runtime.engine.session import has_avx512

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_kernels.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_kernels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LAYERS", 1)
    monkeypatch.setattr(module, "VOCAB", 64)
    return module


def test_every_scheme_is_timed(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "times.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "2", "--threads", "1", "--json", str(kept)])
    assert bench.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {name: next(line for line in lines if line.startswith(f"{name}  ")) for name in bench.SCHEMES}
    # What is exported must not depend on how many rows are multiplied at once.
    assert rows["int8"].endswith("yes")
    assert rows["int4"].endswith("yes") or not has_avx512()
    seconds = json.loads(kept.read_text())["seconds"]
    assert {name: {k: len(v) for k, v in of.items()} for name, of in seconds.items()} == {
        name: {"one": 2, "many": 2} for name in bench.SCHEMES
    }


def test_values_that_are_not_finite_prove_nothing(bench: ModuleType) -> None:
    class Broken:
        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(inputs["x"]), 4), np.inf, np.float32)]

    class Dependent:
        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(inputs["x"]), 4), len(inputs["x"]), np.float32)]

    rng = np.random.default_rng(0)
    assert not bench._exact(Broken(), rng)
    assert not bench._exact(Dependent(), rng)
