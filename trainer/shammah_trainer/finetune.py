"""Fine-tuning: weighted response-only loss, full or LoRA, in bf16 where that pays. Knows tensors, not the log nor the artifact.

B: examples of a batch, T: tokens, R: response tokens of a batch, D: hidden size, V: vocabulary.
"""

import contextlib
import functools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional

from shammah_data.errors import TrainingError
from shammah_export.precision import Precision
from shammah_trainer.batches import IGNORED, Batch, Encoder, batches
from shammah_trainer.dataset import Example
from shammah_trainer.fakequant import ThroughQuantizer, keep_rounded

_WARM_UP = 0.05
_LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    """How to train. `learning_rate` is the peak; `epochs` may be a fraction.

    `through`: the precision whose rounding the training goes through, or None. `balance`: see `shammah_trainer.balance`.
    """

    method: str
    lora_rank: int
    epochs: float
    learning_rate: float
    batch_size: int
    context_share: float
    reworded_share: float
    seed: int
    through: Precision | None = None
    balance: float = 1.0


@dataclass(frozen=True)
class Progress:
    """Where the training stands; `loss` is the running mean over the last steps, `seconds_left` an estimate."""

    step: int
    steps: int
    examples: int
    loss: float
    tokens_per_second: float
    seconds_left: float


class ResponseLoss(torch.nn.Module):
    """A language model as a function from a batch to its loss.

    The head is applied to response positions only: on a small model it is a fifth of the work.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """Weighted mean negative log-likelihood of the response tokens, in nats: sum(w * nll) / sum(w)."""
        nll_R, row_R = self.nll(batch)
        weight_R = batch.weight_B[row_R]
        return (nll_R * weight_R).sum() / weight_R.sum()

    def nll(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihood of every response token, and the row of the batch that each belongs to."""
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        # Without a mask: padding is on the right, and the causal mask already hides it.
        hidden_BTD = causal.model(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
        target_BT = batch.labels_BT[:, 1:]
        wanted_BT = target_BT != IGNORED
        logits_RV = causal.lm_head(hidden_BTD[:, :-1][wanted_BT])
        nll_R = functional.cross_entropy(logits_RV.float(), target_BT[wanted_BT], reduction="none")
        return nll_R, wanted_BT.nonzero()[:, 0]


def load_model(folder: Path) -> Any:
    """The weights of a model folder as a float32 torch model. Raises TrainingError."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error


@functools.cache
def mixed_precision() -> Literal["bf16", "no"]:
    """Whether bfloat16 matrix products pay on this machine.

    Timed, for no list of processors stays true: with AMX or AVX512-BF16 they take half the time of float32, on a plain AVX2
    processor ten times as much. Decided once a process, so that losses before and after stay comparable.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        input_MK, weight_NK = torch.ones(256, 576, dtype=dtype), torch.ones(576, 576, dtype=dtype)
        functional.linear(input_MK, weight_NK)
        timed = []
        for _ in range(3):
            began = time.perf_counter()
            functional.linear(input_MK, weight_NK)
            timed.append(time.perf_counter() - began)
        seconds[dtype] = min(timed)
    return "bf16" if seconds[torch.bfloat16] < seconds[torch.float32] else "no"


def mean_loss(model: Any, encoder: Encoder, examples: Sequence[Example], pad: int) -> float:
    """Mean over the examples' response tokens of the negative log-likelihood, in nats; NaN when there is none."""
    loss = ResponseLoss(model)
    mixed = mixed_precision() == "bf16"
    encoded = [item for example in examples if (item := encoder.encode(example)) is not None]
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        for batch in batches(encoded, 8, pad):
            nll_R, _ = loss.nll(batch)
            total, count = total + float(nll_R.sum()), count + len(nll_R)
    return total / count if count else math.nan


def finetune(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    recipe: Recipe,
    pad: int,
    report: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Any, list[float]]:
    """Train on the examples and return (the merged model, the mean loss of each epoch).

    Deterministic per seed on one machine. Raises TrainingError when no example fits or the loss stops being a number.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    if recipe.method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, target_modules=_LORA_TARGETS)
        model = get_peft_model(model, config)
    accelerator = Accelerator(mixed_precision=mixed_precision())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    loss_of, optimizer = accelerator.prepare(ResponseLoss(model), optimizer)
    # Made after the model has moved to where it is trained.
    rounding = ThroughQuantizer(model, recipe.through).applied if recipe.through else contextlib.nullcontext
    examples = [example for example in examples if encoder.encode(example, ()) is not None]
    if not examples:
        raise TrainingError("no exchange fits into max_length tokens: raise train.max_length in config.toml")
    per_epoch = math.ceil(len(examples) / recipe.batch_size)
    steps = max(1, round(recipe.epochs * per_epoch))
    loss_of.train()
    started, tokens, step, running = clock(), 0, 0, math.nan
    epoch_losses: list[float] = []
    while step < steps:
        losses: list[float] = []
        for batch in batches(
            encoder.epoch(examples, recipe.context_share, rng, recipe.reworded_share, recipe.balance),
            recipe.batch_size,
            pad,
            rng,
        ):
            if step == steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _schedule(step, steps)
            batch = Batch(*(part.to(accelerator.device) for part in (batch.ids_BT, batch.labels_BT, batch.weight_B)))
            with rounding():
                with accelerator.autocast():
                    loss = loss_of(batch)
                accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            # Kept and zeroed: to free and fault in half a gigabyte of gradients costs a fifth of each step.
            optimizer.zero_grad(set_to_none=False)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss became {value} at step {step}: lower train.learning_rate in config.toml")
            losses.append(value)
            running = value if math.isnan(running) else 0.9 * running + 0.1 * value
            step, tokens = step + 1, tokens + batch.tokens
            seconds = clock() - started
            examples_done = min(step * recipe.batch_size, math.ceil(recipe.epochs * len(examples)))
            report(Progress(step, steps, examples_done, running, tokens / seconds, seconds / step * (steps - step)))
        epoch_losses.append(sum(losses) / len(losses))
    trained_model = accelerator.unwrap_model(loss_of).model
    if recipe.method == "lora":
        trained_model = trained_model.merge_and_unload()
    if recipe.through:
        keep_rounded(trained_model, recipe.through)
    return trained_model.eval().cpu(), epoch_losses


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    warm = max(1, round(_WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))
