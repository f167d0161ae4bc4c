"""Fine-tuning: weighted response-only loss, full or LoRA, in bf16 where that pays. Knows tensors, not the log nor the artifact.

B: examples of a batch, T: tokens, R: response tokens of a batch, D: hidden size, V: vocabulary.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from shammah_data.errors import TrainingError
from shammah_trainer.batches import IGNORED, Batch, Encoder, batches
from shammah_trainer.checkpoints import Checkpoints
from shammah_trainer.dataset import Example
from shammah_trainer.fakequant import keep_rounded
from shammah_trainer.loop import Loop, Mixed, Progress, Recipe, Trained
from shammah_trainer.preferences import Pair
from shammah_trainer.processes import several_on_cpu
from shammah_trainer.stopping import sample

# Products of each kind that are timed, and what share of the time bfloat16 may take to be worth its rounding.
_TIMED, _CLEAR_GAIN = 20, 0.8
_LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class ResponseLoss(torch.nn.Module):
    """A language model as a function from a batch to its loss.

    The head is applied to response positions only: on a small model it is a fifth of the work.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, whole: float | None = None) -> torch.Tensor:
        """Weighted mean negative log-likelihood of the response tokens, in nats: sum(w * nll) / sum(w).

        `whole`: the sum of weights to divide by, where the batch is a piece of a larger one.
        """
        nll_R, row_R = self.nll(batch)
        weight_R = batch.weight_B[row_R]
        return (nll_R * weight_R).sum() / (weight_R.sum() if whole is None else whole)

    def nll(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihood of every response token, and the row of the batch that each belongs to."""
        causal = _causal(self.model)
        # Without a mask: padding is on the right, and the causal mask already hides it.
        hidden_BTD = causal.model(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
        target_BT = batch.labels_BT[:, 1:]
        wanted_BT = target_BT != IGNORED
        logits_RV = causal.lm_head(hidden_BTD[:, :-1][wanted_BT])
        nll_R = functional.cross_entropy(logits_RV.float(), target_BT[wanted_BT], reduction="none")
        return nll_R, wanted_BT.nonzero()[:, 0]


def _causal(model: Any) -> Any:
    """The language model itself, without the adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_model(folder: Path) -> Any:
    """The weights of a model folder as a float32 torch model. Raises TrainingError."""
    from transformers import AutoModelForCausalLM

    from shammah_trainer.attention import register

    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation=register())
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error


@functools.cache
def mixed_precision(clock: Callable[[], float] = time.perf_counter) -> Mixed:
    """Whether bfloat16 matrix products pay on this machine.

    Timed, for no list of processors stays true: with AMX or AVX512-BF16 they take half the time of float32, on a plain AVX2
    processor ten times as much, and the night would take hours. Where other processes take turns on the cores a single product
    takes any time, and one on several threads waits for the last of them: the least of many counts on one thread, both kinds in
    turn, and a gain that is not clear is none. Decided once a process, so that losses before and after stay comparable.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    kinds = (torch.float32, torch.bfloat16)
    factors = {dtype: (torch.ones(256, 576, dtype=dtype), torch.ones(576, 576, dtype=dtype)) for dtype in kinds}
    least = dict.fromkeys(kinds, math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(_TIMED):
            for dtype, (input_MK, weight_NK) in factors.items():
                began = clock()
                functional.linear(input_MK, weight_NK)
                least[dtype] = min(least[dtype], clock() - began)
    finally:
        torch.set_num_threads(threads)
    return "bf16" if least[torch.bfloat16] < _CLEAR_GAIN * least[torch.float32] else "no"


def mean_loss(model: Any, encoder: Encoder, examples: Sequence[Example], pad: int, mixed_as: Mixed | None = None) -> float:
    """Mean over the examples' response tokens of the negative log-likelihood, in nats; NaN when there is none."""
    mixed = (mixed_as or mixed_precision()) == "bf16"
    encoded = [item for example in examples if (item := encoder.encode(example)) is not None]
    before = next(model.parameters()).device
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loss = ResponseLoss(model.eval().to(device))
    total, count = 0.0, 0
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
        for batch in batches(encoded, 8, pad):
            nll_R, _ = loss.nll(batch.to(device))
            total, count = total + float(nll_R.sum()), count + len(nll_R)
    model.to(before)
    return total / count if count else math.nan


def finetune(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    recipe: Recipe,
    pad: int,
    report: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
    *,
    heldout: Sequence[Example] = (),
    pairs: Sequence[Pair] = (),
    checkpoints: Checkpoints | None = None,
    most_seconds: float | None = None,
    save_memory: bool = False,
    mixed: Mixed | None = None,
    learned: Callable[[Any], None] | None = None,
) -> Trained:
    """Train on the examples, as one of however many processes there are; each ends with the same weights.

    Deterministic per seed on one machine with one number of threads. Of all states measured on `heldout` the best is returned.
    With `checkpoints`, a killed training is taken up where it was and comes to the same weights to the last bit.
    `pairs` are trained on afterwards, where that makes those of them that are held out better and `heldout` no worse.
    `save_memory` computes activations twice instead of keeping them: the same result, a third slower. `learned` gets the merged
    model before its weights are rounded. Raises TrainingError when no example fits or the loss stops being a number.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(recipe.seed)
    if recipe.method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, target_modules=_LORA_TARGETS)
        model = get_peft_model(model, config)
    if save_memory:
        # Called gradient_checkpointing_enable in earlier releases of transformers 5.
        causal = _causal(model)
        enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    examples = [example for example in examples if encoder.encode(example, ()) is not None]
    if not examples:
        raise TrainingError("no exchange fits into max_length tokens: raise train.max_length in config.toml")
    measured = [item for example in heldout if (item := encoder.encode(example)) is not None]
    accelerator = Accelerator(mixed_precision=mixed or mixed_precision(), cpu=several_on_cpu())
    measured = sample(measured, recipe.epochs * len(examples), recipe.seed)
    loop = Loop(accelerator, ResponseLoss(model), recipe, pad, measured, checkpoints)
    trained = loop.run(encoder, examples, report, clock, most_seconds)
    preferred = loop.prefer(encoder, pairs, measured)
    merged = trained.model
    if recipe.method == "lora":
        merged = merged.merge_and_unload()
    merged = merged.eval().cpu()
    if learned:
        learned(merged)
    if recipe.through:
        keep_rounded(merged, recipe.through)
    return replace(trained, model=merged, preferred=preferred)
