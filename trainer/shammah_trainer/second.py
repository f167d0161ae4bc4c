"""The second graph of a version, for CUDA: the same weights in 16 bits, measured where ONNX Runtime gets CUDA.

Knows the engine and the export. A night without CUDA makes none: what was never run on a GPU is not published for one.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from shammah_data.errors import ArtifactError, ExportError
from shammah_data.manifest import CacheShape, GraphEntry
from shammah_export.export import export_model
from shammah_export.parity import measure_parity, within_limits
from shammah_export.precision import GraphPrecision
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.model import cuda_usable
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.answering import Asked, answered
from shammah_trainer.progress import Reporter
from shammah_trainer.record import counts, given
from shammah_trainer.retrieved import Weigher

# The better one first: it has three bits more, where the range of its numbers suffices.
PRECISIONS: tuple[GraphPrecision, ...] = ("fp16", "bf16")


@dataclass(frozen=True)
class Second:
    """The entry of the graph, what weighs earlier answers with it, and figures for the run's record."""

    graph: GraphEntry
    weigher: Weigher
    figures: dict[str, Any]


def second_graph(
    merged: Path,
    staging: Path,
    shape: CacheShape,
    parity_ids: Sequence[Sequence[int]],
    first: Decoder,
    asked: Asked,
    reporter: Reporter,
) -> Second | None:
    """Export the weights in `merged` for CUDA into `staging`, and measure them there; None where CUDA cannot be had.

    `first`: the decoder of the version's other graph. A graph that is too far from torch, or cannot be run, is left out with a
    line that says so: the version is no worse without it.
    """
    if not cuda_usable():
        return None
    try:
        precision, megabytes = _exported(merged, staging, shape.context)
        folder = staging / precision
        session = GraphSession(folder / "model.onnx", shape, "cuda")
        parity = measure_parity(merged, folder, parity_ids, precision, device="cuda")
        if reasons := within_limits(parity):
            raise ExportError("; ".join(reasons))
        reporter.say(f"exported {precision} for CUDA: {megabytes:.0f} MB; top-1 agreement {parity.top1_agreement:.1%}")
        decoder = Decoder(session, first.tokenizer, first.stop_ids)
        own = answered(decoder, asked, reporter)
    except (ArtifactError, ExportError) as error:
        for name in PRECISIONS:
            shutil.rmtree(staging / name, ignore_errors=True)
        reporter.say(f"no graph for CUDA: {error}")
        return None
    path = f"{precision}/model.onnx"
    figures = {
        "precision": precision,
        "parity": parity.agreement,
        "heldout": counts(own.outcomes, own.calibration),
        "threshold": own.calibration.threshold,
        "milliseconds_median": round(median(outcome.milliseconds for outcome in own.outcomes), 1),
    }
    graph = GraphEntry(path, "cuda", precision, own.golden, own.calibration, parity.agreement)
    return Second(graph, Weigher(path, decoder, given(own.outcomes, own.calibration)), figures)


def _exported(merged: Path, staging: Path, context: int) -> tuple[GraphPrecision, float]:
    """The first precision that the family can be exported in, and the megabytes of its files."""
    *others, last = PRECISIONS
    for precision in others:
        try:
            return precision, export_model(merged, staging / precision, precision, context=context).bytes / 1e6
        except ExportError:
            shutil.rmtree(staging / precision, ignore_errors=True)
    return last, export_model(merged, staging / last, last, context=context).bytes / 1e6
