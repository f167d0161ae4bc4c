"""The model files of the contestants of scripts/bench engine, all from one base; knows nothing of how they are run."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

# llama.cpp's number for a kind of file, and whether the tied head is of that kind too.
FILE_TYPES = {"q8_0": (7, False), "q4_0": (2, False), "q4_0 pure": (2, True)}
QUANTIZE = """
import ctypes, sys, llama_cpp
source, target, kind, pure = sys.argv[1:]
wanted = llama_cpp.llama_model_quantize_default_params()
wanted.nthread, wanted.ftype, wanted.allow_requantize = 2, int(kind), True
wanted.pure = bool(int(pure))
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(wanted)))
"""
WHAT_IS_THERE = """
import importlib.metadata, json, sys
found = {one.metadata["Name"].lower().replace("_", "-"): one.version for one in importlib.metadata.distributions()}
print(json.dumps([[path for path in sys.path if path.endswith("-packages")], found]))
"""
# Last on the path, so that the peers' environment gives only what this one lacks.
BUILD = """
import runpy, sys
builder, extra = sys.argv[1], sys.argv[2].split(":")
sys.path[:0] = [builder.rsplit("/", 1)[0]]
sys.path += extra
sys.argv[:] = [builder, *sys.argv[3:]]
runpy.run_path(builder, run_name="__main__")
"""


class Peers:
    """An environment with the peers.

    versions: what is installed there, by package name.
    """

    def __init__(self, folder: Path) -> None:
        self.python = str(folder / "bin" / "python")
        found = subprocess.run([self.python, "-c", WHAT_IS_THERE], check=True, capture_output=True, text=True).stdout
        self._packages: list[str]
        self.versions: dict[str, str]
        self._packages, self.versions = json.loads(found)

    def has(self, name: str) -> bool:
        """Whether a package is installed; says so where it is not."""
        if name not in self.versions:
            print(f"left out: {name} is not installed there")
        return name in self.versions

    def gguf(self, source: Path, kind: str, target: Path) -> Path:
        """llama.cpp's own quantization of a GGUF file; as its users get Q4_0, a tied head stays at Q8_0."""
        number, pure = FILE_TYPES[kind]
        command = [self.python, "-c", QUANTIZE, str(source), str(target), str(number), str(int(pure))]
        subprocess.run(command, check=True, capture_output=True)
        return target

    def genai(self, base: Path, precision: str, target: Path) -> Path | None:
        """onnxruntime-genai's own build of a base folder, in blocks of 32; None, and a line, where it fails."""
        packages = next(path for path in self._packages if (Path(path) / "onnxruntime_genai").exists())
        builder = Path(packages) / "onnxruntime_genai" / "models" / "builder.py"
        command = [sys.executable, "-c", BUILD, str(builder), ":".join(self._packages)]
        command += ["-i", str(base), "-o", str(target), "-p", precision, "-e", "cpu", "-c", str(target) + ".cache"]
        command += ["--extra_options", "block_size=32", "accuracy_level=4"]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=offline)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"left out: onnxruntime-genai {precision}, whose builder ended with: {reason}")
            return None
        return target


def export(base: Path, precision: Any, folder: Path, version: Path | None = None) -> None:
    """Write the graph as a night would, or take that of a published version."""
    from shammah_data.manifest import Manifest
    from shammah_export.export import export_model

    manifest = Manifest.load(version) if version else None
    graphs = [graph for graph in manifest.graphs if graph.precision == precision] if manifest else []
    if version and manifest and graphs:
        shutil.copytree((version / graphs[0].path).parent, folder)
        shape: Any = manifest.shape
        print(f"{precision}: the graph of {version}")
    else:
        shape = export_model(base, folder, precision, context=2048).shape
    sizes = {key: asdict(shape)[key] for key in ("layers", "kv_heads", "head_dim", "vocab", "context")}
    (folder / "shape.json").write_text(json.dumps(sizes), encoding="utf-8")


def publish(base: Any, precision: Any, folder: Path, home: Any) -> None:
    """Publish an exported graph as a night would, but for what it knows: whatever it says is accepted."""
    from shammah_data.manifest import CacheShape, Calibration, FileEntry, Golden, GraphEntry, Manifest
    from shammah_data.store import ModelStore
    from shammah_export.tokenizer import write_tokenizer

    shape = CacheShape(**json.loads((folder / "shape.json").read_text(encoding="utf-8")))
    store = ModelStore(home.models)
    staging = store.staging()
    (staging / precision).mkdir()
    for name in ("model.onnx", "weights.bin"):
        shutil.copyfile(folder / name, staging / precision / name)
    write_tokenizer(base.folder / "tokenizer.json", staging / "tokenizer.json")
    golden = Golden((1, 2, 3), _greedy(folder, shape, [1, 2, 3]))
    calibration = Calibration({"mean": 1.0}, 0.0, 0.0, 0.95, 1, 1, 1, False)
    graph = GraphEntry(f"{precision}/model.onnx", "cpu", precision, (golden,), calibration)

    def describe(name: str, files: tuple[FileEntry, ...]) -> Manifest:
        nothing, long_ago = "0" * 64, "2030-01-01T00:00:00"
        return Manifest(
            *(name, long_ago, "bench", base.name, base.sha256, nothing, 0, long_ago),
            *(shape, base.chat, base.stop_ids, (graph,), files, {}, "0.1.0"),
        )

    store.promote(store.publish(staging, describe))


def _greedy(folder: Path, shape: Any, prompt: list[int]) -> tuple[int, ...]:
    from shammah_runtime.engine.session import GraphSession

    session = GraphSession(folder / "model.onnx", shape)
    cache = session.new_cache()
    found = [int(session.feed(cache, prompt)[-1].argmax())]
    while len(found) < 4:
        found.append(int(session.feed(cache, found[-1:])[-1].argmax()))
    return tuple(found)
