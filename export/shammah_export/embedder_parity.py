"""How far an embedder is from the torch model it came from. Knows vectors, not whether they are of any use.

Legend: B texts, S tokens, H hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data.embedder import GRAPH, TOKENIZER
from shammah_data.errors import ExportError
from shammah_export.precision import Precision

# Of several lengths, so that there is padding in the batch; words, numbers, marks, and letters that are no ASCII.
TEXTS = (
    "hi",
    "How do I reset my password?",
    "how can i get a new password",
    "What is 15 + 27?",
    "The invoice for March lists two items twice. Which of them should be paid, and who has to approve the change?",
    "def total(prices): return sum(price * amount for price, amount in prices)",
    "Où est la gare, s'il vous plaît?",
    "Please summarize the minutes of yesterday's meeting in three short sentences, and name everybody who was there.",
    "rollback",
    "Roll back to the previous version with shammah-train rollback.",
    "Why does my program stop with a segmentation fault when the list is empty?",
    "它在哪里？ 🙂",
    "Write a haiku about rain.",
    "Is it safe to delete the folder /var/tmp/build-2024-11-05?",
    "no",
    "Our train leaves at 7:45 from platform 3; the next one, which is slower, leaves at 8:10 from platform 11.",
)
_BATCH = 16


@dataclass(frozen=True)
class EmbedderParity:
    """Cosines between the vectors of the graph and of the reference: the `least` and the `mean` over `texts` texts."""

    least: float
    mean: float
    texts: int
    reference: str = "torch fp32"


# The least and the mean cosine that pass: what tells a wrong graph from a rounded one.
LIMITS: Mapping[Precision, tuple[float, float]] = {"fp32": (0.9999, 0.9999), "int8": (0.99, 0.998), "int4": (0.5, 0.8)}


def within_embedder_limits(parity: EmbedderParity, precision: Precision) -> list[str]:
    """The reasons why a parity does not pass LIMITS[precision]; empty when it passes. What is not finite never passes."""
    found = {"least": parity.least, "mean": parity.mean}
    wanted = dict(zip(found, LIMITS[precision], strict=True))
    return [f"{key} cosine {found[key]:.4f} is below {wanted[key]}" for key in found if not found[key] >= wanted[key]]


def measure_embedder_parity(
    model_folder: Path, out_folder: Path, texts: Sequence[str] = TEXTS, *, threads: int = 2
) -> EmbedderParity:
    """Embed the same tokens with the graph and with transformers' BertModel, in batches with padding.

    Raises ExportError without texts to compare or if a model cannot be run.
    """
    if not texts:
        raise ExportError("parity needs at least one text")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(out_folder / TOKENIZER))
    session, reference = _open(out_folder / GRAPH, threads), _load_reference(model_folder)
    cosines: list[float] = []
    for start in range(0, len(texts), _BATCH):
        ids = [tokenizer.encode(text).ids for text in texts[start : start + _BATCH]]
        ids_BS, mask_BS = padded(ids)
        try:
            found_BH = session.run(None, {"ids": ids_BS, "mask": mask_BS})[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ExportError(f"{out_folder / GRAPH} cannot be run: {str(error).splitlines()[0]}") from error
        wanted_BH = _reference(reference, ids_BS, mask_BS)
        cosines += [float(cosine) for cosine in (found_BH.astype(np.float64) * wanted_BH).sum(axis=1)]
    return EmbedderParity(float(np.min(cosines)), float(np.mean(cosines)), len(cosines))


def padded(ids: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids [B, S] and mask [B, S] of several texts."""
    ids_BS = np.zeros((len(ids), max(map(len, ids))), np.int64)
    mask_BS = np.zeros_like(ids_BS)
    for row, text in enumerate(ids):
        ids_BS[row, : len(text)] = text
        mask_BS[row, : len(text)] = 1
    return ids_BS, mask_BS


def _open(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ExportError(f"{path} cannot be run: {str(error).splitlines()[0]}") from error


def _load_reference(model_folder: Path) -> Any:
    import torch
    import transformers
    from transformers import BertModel

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return BertModel.from_pretrained(
            model_folder, dtype=torch.float32, local_files_only=True, add_pooling_layer=False
        ).eval()
    except (OSError, ValueError) as error:
        raise ExportError(f"{model_folder} cannot be loaded by transformers: {str(error).splitlines()[0]}") from error


def _reference(model: Any, ids_BS: Any, mask_BS: Any) -> Any:
    """Mean over the tokens, then length one, as sentence-transformers does it."""
    import torch

    ids, mask = torch.from_numpy(ids_BS), torch.from_numpy(mask_BS)
    with torch.inference_mode():
        hidden_BSH = model(ids, attention_mask=mask).last_hidden_state
        mean_BH = (hidden_BSH * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean_BH).double().numpy()
