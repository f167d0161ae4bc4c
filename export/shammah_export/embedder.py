"""From a BERT folder to an embedder: embedder.onnx, tokenizer.json, embedder.json. Knows files; the graph is in `bert_graph`.

Reads the settings that sentence-transformers keeps beside a model where they are there; without them, the mean over all
tokens and the model's own length are taken.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from shammah_data.durable import atomic_write, sha256
from shammah_data.embedder import GRAPH, NAME, TOKENIZER, EmbedderCard, describe_files, digest_of
from shammah_data.errors import ExportError
from shammah_export.bert_graph import POSITION_IDS, build_bert_graph
from shammah_export.bert_shape import BertShape
from shammah_export.checkpoint import SINGLE, Checkpoint, read_json
from shammah_export.embedder_parity import EmbedderParity, measure_embedder_parity, within_embedder_limits
from shammah_export.precision import Precision
from shammah_export.sink import InlineWeights
from shammah_export.wordpieces import load_tokenizer

# The last segment of a module's type in modules.json, and whether the graph has it.
_MODULES = ("Transformer", "Pooling", "Normalize")
_MEAN = "pooling_mode_mean_tokens"


def export_embedder(
    model_folder: Path, out_folder: Path, precision: Precision = "int8", *, name: str, parity: bool = True
) -> EmbedderCard:
    """Write an embedder to out_folder, which must exist, and compare it with the model.

    Raises ExportError for a model that cannot be read or is not supported, for a graph that is too large for one file or
    no valid ONNX, and for one that is too far from the model; the card is written last.
    """
    config = read_json(model_folder / "config.json")
    shape = BertShape.from_config(config)
    _refuse_other_vectors(model_folder)
    tokens = _tokens(model_folder, shape)
    tokenizer = load_tokenizer(model_folder, shape.vocab, tokens)
    checkpoint = Checkpoint(model_folder, {POSITION_IDS})
    model = build_bert_graph(checkpoint, shape, precision, InlineWeights(), tokens=tokens)
    try:
        # The checker passes over operators of foreign domains.
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the graph of {model_folder} is no valid ONNX: {str(error).splitlines()[0]}") from error
    try:
        atomic_write(out_folder / GRAPH, model.SerializeToString())
        atomic_write(out_folder / TOKENIZER, tokenizer.to_str().encode("utf-8"))
        figures = _compare(model_folder, out_folder, precision) if parity else {}
        files = describe_files(out_folder)
        single = model_folder / SINGLE
        card = EmbedderCard(
            name=name,
            dimensions=shape.hidden,
            max_tokens=tokens,
            pooling="mean",
            precision=precision,
            digest=digest_of(files),
            source_sha256=sha256(single) if single.exists() else "",
            files=files,
            parity=figures,
        )
        atomic_write(out_folder / NAME, card.dump())
    except OSError as error:
        raise ExportError(f"{out_folder} cannot be written: {error.strerror or error}") from error
    return card


def _compare(model_folder: Path, out_folder: Path, precision: Precision) -> dict[str, float]:
    measured: EmbedderParity = measure_embedder_parity(model_folder, out_folder)
    if reasons := within_embedder_limits(measured, precision):
        raise ExportError(f"the embedder of {model_folder} is not the model: {'; '.join(reasons)}")
    return {"least_cosine": measured.least, "mean_cosine": measured.mean, "texts": float(measured.texts)}


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else {}


def _refuse_other_vectors(folder: Path) -> None:
    """Raise ExportError where the folder's own settings ask for another vector than the mean of length one."""
    import json

    path = folder / "modules.json"
    if path.exists():
        try:
            kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        if odd := [kind for kind in kinds if kind not in _MODULES]:
            raise ExportError(f"{path}: module {odd[0]} is not supported; {', '.join(_MODULES)} are")
    pooling: Mapping[str, Any] = _optional(folder / "1_Pooling" / "config.json")
    modes = sorted(key for key, chosen in pooling.items() if key.startswith("pooling_mode") and chosen is True)
    if modes not in ([], [_MEAN]):
        odd_mode = next(mode for mode in modes if mode != _MEAN)
        raise ExportError(f"{odd_mode} is not supported; the graph knows only {_MEAN}")
    prompt = _optional(folder / "config_sentence_transformers.json").get("default_prompt_name")
    if prompt is not None:
        raise ExportError(f"default_prompt_name {prompt!r} is not supported; every text is embedded as it is")


def _tokens(folder: Path, shape: BertShape) -> int:
    """The most tokens of a text: what the folder says, within what the model has positions for."""
    longest = _optional(folder / "sentence_bert_config.json").get("max_seq_length")
    if longest is None:
        return shape.positions
    if type(longest) is not int or longest < 3:
        raise ExportError(f"sentence_bert_config.json: max_seq_length is {longest!r}; at least 3 tokens are needed")
    return min(longest, shape.positions)
