"""From a folder with a trained model to a folder with its graph. Knows files; the graph is made in `graph`."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx

from shammah_data.durable import atomic_write, fsync_file
from shammah_data.errors import ExportError
from shammah_data.manifest import WEIGHTS
from shammah_export.checkpoint import Checkpoint, read_json
from shammah_export.graph import build_graph
from shammah_export.precision import GraphPrecision
from shammah_export.runner import GRAPH_NAME
from shammah_export.shape import ModelShape
from shammah_export.sink import ExternalWeights

CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class ExportReport:
    """What an export made: `bytes` of both files together, `nodes` of the graph, wall-clock `seconds`."""

    shape: ModelShape
    precision: GraphPrecision
    bytes: int
    nodes: int
    seconds: float


def export_model(
    model_folder: Path,
    out_folder: Path,
    precision: GraphPrecision,
    *,
    context: int | None = None,
    accuracy_level: int = 4,
) -> ExportReport:
    """Write out_folder/model.onnx and out_folder/weights.bin from config.json and safetensors files.

    `context` in tokens shortens the rotary tables and with them the longest sequence. Weights are read, quantized and
    written one at a time; the previous files of the same names stay until the new ones are complete.
    Raises ExportError for a model that cannot be read or is not supported, and when the graph breaks its contract.
    """
    start = time.perf_counter()
    shape = ModelShape.from_config(read_json(model_folder / CONFIG_NAME), context=context)
    checkpoint = Checkpoint(model_folder)
    weights_path, graph_path = out_folder / WEIGHTS, out_folder / GRAPH_NAME
    try:
        out_folder.mkdir(parents=True, exist_ok=True)
        with _replacing(weights_path) as file:
            model = build_graph(checkpoint, shape, precision, ExternalWeights(file), accuracy_level=accuracy_level)
        # The graph comes last: a folder with a graph has its weights.
        atomic_write(graph_path, model.SerializeToString())
    except OSError as error:
        raise ExportError(f"{out_folder} cannot be written: {error.strerror or error}") from error
    try:
        # By path: only then is external data checked. The checker passes over operators of foreign domains.
        onnx.checker.check_model(str(graph_path))
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{graph_path} is no valid ONNX file: {str(error).splitlines()[0]}") from error
    written = weights_path.stat().st_size + graph_path.stat().st_size
    return ExportReport(shape, precision, written, len(model.graph.node), time.perf_counter() - start)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block ends well and goes when it does not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        fsync_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
