"""Packs the weights of a published graph for this machine, in a process of its own: `python -m` with MODELS VERSION GRAPH.

Knows the store and ONNX Runtime, no model that serves: a second session in that one's process would double its memory.
What it makes is found by `packed`, at the next load.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from shammah_data.durable import fsync_file
from shammah_data.errors import ArtifactError, ShammahError
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.store import ModelStore
from shammah_runtime.engine import memory
from shammah_runtime.engine.packed import GRAPH, LEAST_BYTES, WEIGHTS, Packed, seal
from shammah_runtime.engine.session import import_onnxruntime, session_options

# Published and packed weights lie side by side in the file: ONNX Runtime compares the packed ones with those it would make.
_DISK_FACTOR = 2.3
_SPARE_BYTES = 2**30
_LOWEST_PRIORITY = 19


def worth_packing(manifest: Manifest, graph: GraphEntry) -> bool:
    """Whether a session would open faster for it."""
    return graph.provider == "cpu" and graph.precision in ("int8", "int4") and memory.weights(manifest, graph) >= LEAST_BYTES


def pack(store: ModelStore, version: str, path: str) -> str:
    """Pack one graph. Returns why that was not done, or nothing. Raises ShammahError for a version that is damaged or gone."""
    manifest = store.verify(version)
    graph = next((graph for graph in manifest.graphs if graph.path == path), None)
    if graph is None:
        raise ArtifactError(f"{version} has no graph {path}")
    packed = Packed.of(store.folder(version), manifest, graph)
    if packed.settled():
        return "it is there"
    room = memory.available()
    if room is not None and memory.needed(manifest, graph) > room:
        return "there is not enough memory"
    with store.packing() as folder:
        if folder is None:
            return "another process does it"
        if _DISK_FACTOR * memory.weights(manifest, graph) + _SPARE_BYTES > shutil.disk_usage(folder).free:
            return "there is not enough room on the disk"
        write_packed(store.folder(version) / path, folder)
        store.keep_packed(folder, packed.folder)
    return ""


def write_packed(graph: Path, folder: Path) -> None:
    """Open a session that saves what it has made of the graph."""
    ort = import_onnxruntime()
    options = session_options(ort, threads=1)
    options.optimized_model_filepath = str(folder / GRAPH)
    for name, value in (
        ("save_external_prepacked_constant_initializers", "1"),
        ("optimized_model_external_initializers_file_name", WEIGHTS),
        # In bytes: what is smaller stays in the graph. With norms mapped one by one the peak was a megabyte higher.
        ("optimized_model_external_initializers_min_size_in_bytes", "8192"),
    ):
        options.add_session_config_entry(f"session.{name}", value)
    try:
        ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ArtifactError(f"{graph}: cannot be packed: {str(error).splitlines()[0]}") from error
    for name in (GRAPH, WEIGHTS):
        fsync_file(folder / name)
    seal(folder)


def pack_apart(store: ModelStore, version: str) -> None:
    """Have each graph of a version packed that is worth it, in a process of its own, and wait; it may fail."""
    for graph in (manifest := Manifest.load(store.folder(version))).graphs:
        if worth_packing(manifest, graph):
            subprocess.run(_command(store, version, graph), stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _command(store: ModelStore, version: str, graph: GraphEntry) -> list[str]:
    return [sys.executable, "-m", __name__, str(store.root), version, graph.path]


class Packer:
    """Has graphs packed in a process of its own, one at a time and each once."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._tried: set[tuple[str, str]] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def look(self, manifest: Manifest, graph: GraphEntry) -> None:
        """Begin with a graph in use, unless one is under way."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = None
        if (manifest.version, graph.path) in self._tried:
            return
        self._tried.add((manifest.version, graph.path))
        if worth_packing(manifest, graph):
            nothing = subprocess.DEVNULL
            command = _command(self._store, manifest.version, graph)
            self._process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)

    def close(self) -> None:
        """Give up what is under way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def main() -> None:
    """Pack what the arguments name; say why not."""
    models, version, path = sys.argv[1:]
    os.umask(0o077)
    if hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
    try:
        print(pack(ModelStore(Path(models)), version, path) or "packed")
    except ShammahError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
