"""How far an exported graph is from the torch model it came from. Knows logits, not answers: quality is the gate's.

Legend: M positions, V vocabulary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ExportError
from shammah_export.precision import GraphPrecision
from shammah_export.runner import Device, GraphRunner

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """Differences over all `positions`, teacher-forced.

    `max_abs_difference` is in logits, `mean_kl` in nats (KL of the reference to the graph, per position),
    `top1_agreement` the share of positions with the same most likely token. `perplexity_ratio` is the graph's perplexity of the
    `answer_tokens` over the reference's, `ratio_error` its standard error; both are NaN where there are no such tokens.
    """

    precision: GraphPrecision
    max_abs_difference: float
    mean_kl: float
    top1_agreement: float
    positions: int
    reference: str = "torch fp32"
    perplexity_ratio: float = math.nan
    ratio_error: float = math.nan
    answer_tokens: int = 0

    @property
    def agreement(self) -> dict[str, float]:
        """For the manifest and the record of a run."""
        return {
            "max_abs_difference": self.max_abs_difference,
            "mean_kl": self.mean_kl,
            "top1_agreement": self.top1_agreement,
        }


@dataclass(frozen=True)
class Limits:
    """The worst parity that passes; None is no limit."""

    max_abs_difference: float | None
    mean_kl: float
    top1_agreement: float


LIMITS: Mapping[GraphPrecision, Limits] = {
    "fp32": Limits(max_abs_difference=1e-3, mean_kl=1e-6, top1_agreement=0.99),
    "int8": Limits(max_abs_difference=None, mean_kl=0.1, top1_agreement=0.9),
    "fp16": Limits(max_abs_difference=None, mean_kl=1e-3, top1_agreement=0.97),
    "bf16": Limits(max_abs_difference=None, mean_kl=2e-2, top1_agreement=0.95),
    # Rounding alone costs a small base model this much; the limit tells a wrong graph from a rounded one, no more.
    "int4": Limits(max_abs_difference=None, mean_kl=2.0, top1_agreement=0.4),
}


# What storing the weights may cost in perplexity; a graph of weights that were trained through their rounding costs next to
# nothing, one of weights rounded afterwards often more.
RATIO_LIMITS: Mapping[GraphPrecision, float] = {"fp32": 1.001, "int8": 1.01, "fp16": 1.005, "bf16": 1.01, "int4": 1.05}


def above_ratio_limit(parity: Parity) -> str | None:
    """Why a graph costs too much perplexity, or None; what two standard errors may explain is passed.

    Few tokens say little: on a hundred, int8 varies by one per cent.
    """
    limit = RATIO_LIMITS[parity.precision]
    if not parity.answer_tokens or parity.perplexity_ratio - 2 * parity.ratio_error <= limit:
        return None
    return f"perplexity ratio {parity.perplexity_ratio:.3f} is above {limit:.3g}"


def within_limits(parity: Parity, limits: Limits | None = None) -> list[str]:
    """The reasons why a parity does not pass LIMITS[parity.precision] (or `limits`); empty when it passes.

    Figures that are not finite never pass.
    """
    limits = limits or LIMITS[parity.precision]
    reasons = []
    worst = limits.max_abs_difference if limits.max_abs_difference is not None else float("inf")
    if not (np.isfinite(parity.max_abs_difference) and parity.max_abs_difference <= worst):
        reasons.append(f"largest logit difference {parity.max_abs_difference:.3g} is above {worst:.3g}")
    if not parity.mean_kl <= limits.mean_kl:
        reasons.append(f"mean KL {parity.mean_kl:.3g} nats is above {limits.mean_kl:.3g}")
    if not parity.top1_agreement >= limits.top1_agreement:
        reasons.append(f"top-1 agreement {parity.top1_agreement:.1%} is below {limits.top1_agreement:.1%}")
    return reasons


def measure_parity(
    model_folder: Path,
    graph_folder: Path,
    prompts_ids: Sequence[Sequence[int]],
    precision: GraphPrecision,
    *,
    answers_from: Sequence[int] | None = None,
    threads: int = 2,
    device: Device = "cpu",
) -> Parity:
    """Run both models over the same token ids and compare the logits of every position, the graph on `device`.

    `answers_from` says for each prompt at which of its tokens the answer begins, whose perplexity is compared (default: at the
    second). The graph reads the first half of a prompt in one run and the rest token by token, so that prefill, cache and the
    kernels for a single row are all covered. Raises ExportError without tokens to compare or if a model cannot be run.
    """
    if not prompts_ids or not all(len(ids) for ids in prompts_ids):
        raise ExportError("parity needs at least one prompt, and no empty one")
    reference = _load_reference(model_folder)
    # Accumulated per prompt: the logits of all prompts together would be the largest thing in memory.
    worst, divergence, agreed, positions = 0.0, 0.0, 0, 0
    more_nats: list[npt.NDArray[np.float64]] = []
    runner = GraphRunner(graph_folder, max(len(ids) for ids in prompts_ids), threads=threads, device=device)
    for ids, first in zip(prompts_ids, answers_from or [1] * len(prompts_ids), strict=True):
        wanted_MV = _reference_logits(reference, ids)
        found_MV = _graph_logits(runner, ids)
        more_nats.append(_nll(found_MV, ids, first) - _nll(wanted_MV, ids, first))
        worst = max(worst, float(np.abs(wanted_MV - found_MV).max())) if np.isfinite(found_MV).all() else float("nan")
        divergence += float(_kl(wanted_MV, found_MV).sum())
        agreed += int((wanted_MV.argmax(axis=1) == found_MV.argmax(axis=1)).sum())
        positions += len(ids)
    ratio, error, tokens = _ratio(np.concatenate(more_nats))
    return Parity(
        precision,
        worst,
        divergence / positions,
        agreed / positions,
        positions,
        perplexity_ratio=ratio,
        ratio_error=error,
        answer_tokens=tokens,
    )


def _ratio(more_nats_M: npt.NDArray[np.float64]) -> tuple[float, float, int]:
    """Perplexity ratio of so many tokens, from what each costs the graph more than the reference, and its standard error."""
    count = len(more_nats_M)
    if count < 2:
        return math.nan, math.nan, 0
    ratio = math.exp(float(more_nats_M.mean()))
    # Of an exponential, to first order.
    return ratio, ratio * float(more_nats_M.std(ddof=1)) / math.sqrt(count), count


def _nll(logits_MV: Floats, ids: Sequence[int], first: int) -> npt.NDArray[np.float64]:
    """Negative log-likelihood in nats of the ids from place `first` on."""
    rows = _log_softmax(logits_MV[first - 1 : len(ids) - 1])
    nll: npt.NDArray[np.float64] = -rows[np.arange(len(rows)), np.array(ids[first:], np.int64)]
    return nll


def _load_reference(model_folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise ExportError(f"{model_folder} cannot be loaded by transformers: {str(error).splitlines()[0]}") from error


def _reference_logits(model: Any, ids: Sequence[int]) -> Floats:
    import torch

    with torch.inference_mode():
        logits: Floats = model(torch.tensor([list(ids)])).logits[0].float().numpy()
        return logits


def _graph_logits(runner: GraphRunner, ids: Sequence[int]) -> Floats:
    runner.cached = 0
    half = (len(ids) + 1) // 2
    return np.concatenate([runner.read(ids[:half]), *(runner.read([token]) for token in ids[half:])])


def _kl(wanted_MV: Floats, found_MV: Floats) -> npt.NDArray[np.float64]:
    """KL(softmax(wanted) || softmax(found)) of every row, in nats."""
    wanted_MV, found_MV = _log_softmax(wanted_MV), _log_softmax(found_MV)
    kl: npt.NDArray[np.float64] = (np.exp(wanted_MV) * (wanted_MV - found_MV)).sum(axis=1)
    return kl


def _log_softmax(logits_MV: Any) -> Any:
    shifted = logits_MV.astype(np.float64) - logits_MV.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
