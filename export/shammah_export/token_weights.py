"""An embedder whose mean over the tokens of a text counts some tokens more than others. Knows graphs, no text.

The graph of `bert_graph` sums over `mask.float`; here that is multiplied by a number for each token of the text.

Legend: V token ids.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shammah_data.durable import atomic_write
from shammah_data.embedder import GRAPH, NAME, TOKENIZER, EmbedderCard, describe_files, digest_of
from shammah_data.errors import ExportError
from shammah_export.weights import Floats

_COUNTED = "mask.float"
_WEIGHTS, _TOKENS, _WEIGHED = "token_weights", "token_weights.BS", "mask.weighed"


def weigh_tokens(folder: Path, out_folder: Path, weights_V: Floats) -> EmbedderCard:
    """Write the embedder of `folder` to out_folder, which must exist, with token t counting weights_V[t] times.

    The card is written last. Raises ArtifactError for an embedder that is damaged, ExportError for weights that are not
    positive, for a graph without a mean to change, or one that is weighed already.
    """
    card = EmbedderCard.verify(folder)
    if weights_V.ndim != 1 or not (np.isfinite(weights_V).all() and (weights_V > 0).all()):
        raise ExportError("the weights of tokens must be positive numbers, one for each")
    model = onnx.load(folder / GRAPH)
    _weigh(model.graph, weights_V.astype(np.float32), folder / GRAPH)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{folder / GRAPH}, weighed, is no valid ONNX: {str(error).splitlines()[0]}") from error
    atomic_write(out_folder / GRAPH, model.SerializeToString())
    atomic_write(out_folder / TOKENIZER, (folder / TOKENIZER).read_bytes())
    files = describe_files(out_folder)
    weighed = replace(card, pooling="weighted mean", digest=digest_of(files), files=files)
    atomic_write(out_folder / NAME, weighed.dump())
    return weighed


def _weigh(graph: Any, weights_V: Floats, path: Path) -> None:
    place = next((n for n, node in enumerate(graph.node) if _COUNTED in node.output), None)
    if place is None or any(_WEIGHED in node.output for node in graph.node):
        raise ExportError(f"{path}: {'has no mean over tokens to weigh' if place is None else 'is weighed already'}")
    for node in graph.node:
        node.input[:] = [_WEIGHED if name == _COUNTED else name for name in node.input]
    graph.initializer.append(onnx.numpy_helper.from_array(weights_V, _WEIGHTS))
    graph.node.insert(place + 1, onnx.helper.make_node("Gather", [_WEIGHTS, "ids"], [_TOKENS]))
    graph.node.insert(place + 2, onnx.helper.make_node("Mul", [_COUNTED, _TOKENS], [_WEIGHED]))
