"""The steps of a fine-tuning: batches, gradients, the curve, the best weights so far, checkpoints. Knows tensors and time.

What is minimised is given to it: a module that makes a loss of a batch. Every process of a run goes through the same steps.
"""

import contextlib
import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import torch

from shammah_data.errors import TrainingError
from shammah_export.precision import Precision
from shammah_trainer.batches import Encoded, Encoder, batches, chunks, collate, pieces
from shammah_trainer.checkpoints import Checkpoints
from shammah_trainer.dataset import Example
from shammah_trainer.fakequant import ThroughQuantizer
from shammah_trainer.openings import Openings
from shammah_trainer.pace import Pace
from shammah_trainer.preferences import Outcome, Pair, Preferring
from shammah_trainer.stopping import DECISIVE, Best, evaluation_steps

Mixed = Literal["bf16", "no"]
Stopped = Literal["complete", "held-out loss", "time"]
# Points of the loss curve that are kept, at most about so many.
_POINTS = 200


@dataclass(frozen=True)
class Recipe:
    """How to train. `learning_rate` is the peak; `epochs` may be a fraction.

    `through`: the precision whose rounding the training goes through, or None. A batch of more than `tokens_at_once` tokens
    is computed in pieces: the same step, in less memory. `balance`: see `shammah_trainer.balance`; `opening`: tokens of an
    answer that are trained on where it is known by heart, 0 for all (`shammah_trainer.openings`).
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
    tokens_at_once: int = 4096
    balance: float = 1.0
    opening: int = 0


@dataclass(frozen=True)
class Progress:
    """Where the training stands; `loss` is the running mean over the last steps, `seconds_left` an estimate."""

    step: int
    steps: int
    examples: int
    loss: float
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """A merged model, the mean loss of each epoch, and how it came about.

    `curve`: dicts of step, loss, heldout_loss (or None) and learning_rate. `step`: the one whose weights these are.
    `resumed`: the step at which a killed training was taken up, or None.
    """

    model: Any
    epoch_losses: list[float]
    curve: list[dict[str, Any]]
    steps: int
    step: int
    stopped: Stopped
    resumed: int | None
    preferred: Outcome | None = None


@dataclass
class _Standing:
    """All that changes from step to step but the tensors."""

    step: int = 0
    # Batches of this epoch that are done, and what the random numbers were when it began.
    batch: int = 0
    epoch_rng: Any = None
    # How often each answer had been shown then.
    shown: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    running: float = math.nan
    losses: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    since_point: list[float] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    best_file: str | None = None


class Loop:
    """The steps of one training on one of its processes."""

    def __init__(
        self,
        accelerator: Any,
        objective: Any,
        recipe: Recipe,
        pad: int,
        measured: Sequence[Encoded],
        checkpoints: Checkpoints | None,
    ) -> None:
        """`objective`: a torch module with `model`, a loss of (batch, whole) and `nll` of a batch, as ResponseLoss."""
        model = objective.model
        self._accelerator = accelerator
        self._recipe = recipe
        self._pad = pad
        self._checkpoints = checkpoints
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        trained = list(self._parameters.values())
        optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
        self._loss, self._optimizer = accelerator.prepare(objective, optimizer)
        # Made after the model has moved to where it is trained.
        self._rounding = ThroughQuantizer(model, recipe.through).applied if recipe.through else contextlib.nullcontext
        mine = list(measured)[accelerator.process_index :: accelerator.num_processes]
        self._measured = [batch.to(accelerator.device) for batch in batches(mine, 8, pad)]
        self._measures, self._decides = bool(measured), len(measured) >= DECISIVE
        self._rng = random.Random(recipe.seed)
        self._steps = self._examples = 0
        self._best: dict[str, torch.Tensor] | None = None
        self._now = _Standing()

    def run(
        self,
        encoder: Encoder,
        examples: Sequence[Example],
        report: Callable[[Progress], None],
        clock: Callable[[], float],
        most_seconds: float | None,
    ) -> Trained:
        """Take all steps, or as many as time and the held-out loss allow; every example must fit."""
        resumed = self._resume()
        now, recipe, checkpoints = self._now, self._recipe, self._checkpoints
        self._examples = len(examples)
        self._steps = max(1, round(recipe.epochs * math.ceil(len(examples) / recipe.batch_size)))
        pace = Pace(self._steps, most_seconds, now.step)
        measure_at = evaluation_steps(self._steps) if self._measures else frozenset()
        before, started = now.seconds, clock()
        stopped: Stopped = "complete"
        self._loss.train()
        while now.step < self._steps and stopped == "complete":
            if now.epoch_rng is None:
                now.epoch_rng = self._rng.getstate()
            openings = Openings(recipe.opening, now.shown)
            epoch = encoder.epoch(examples, recipe.context_share, self._rng, recipe.reworded_share, recipe.balance, openings)
            for chunk in list(chunks(epoch, recipe.batch_size, self._rng))[now.batch :]:
                rate = recipe.learning_rate * pace.rate(now.step, now.seconds - before)
                self._step(chunk, rate)
                now.seconds = before + self._agreed(clock() - started, most_seconds)
                report(self._progress())
                over = pace.over(now.seconds - before)
                self._point(rate, now.step in measure_at or (over and self._measures))
                if now.step == self._steps or over or now.best.hopeless:
                    if now.step < self._steps:
                        stopped = "time" if over else "held-out loss"
                    break
                if checkpoints and self._accelerator.is_main_process and checkpoints.due:
                    checkpoints.save(self._state())
            now.epoch_losses.append(sum(now.losses) / len(now.losses))
            now.losses, now.batch, now.epoch_rng, now.shown = [], 0, None, openings.shown
        self._accelerator.wait_for_everyone()
        kept = now.best.step or now.step
        if kept != now.step:
            self._put_best()
        model = self._accelerator.unwrap_model(self._loss).model
        return Trained(model, now.epoch_losses, now.curve, now.step, kept, stopped, resumed)

    def _step(self, chunk: Sequence[Encoded], rate: float) -> None:
        now, recipe, accelerator = self._now, self._recipe, self._accelerator
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Each process knows the whole batch, and so what to divide by; the gradients of all are averaged.
        whole = sum(item.weight * len(item.response) for item in chunk) / accelerator.num_processes
        mine = list(chunk)[accelerator.process_index :: accelerator.num_processes] or [replace(chunk[0], weight=0.0)]
        parts = [collate(piece, self._pad).to(accelerator.device) for piece in pieces(mine, recipe.tokens_at_once)]
        total = torch.zeros((), device=accelerator.device)
        with self._rounding():
            for n, part in enumerate(parts):
                last = n == len(parts) - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(self._loss):
                    with accelerator.autocast():
                        loss = self._loss(part, whole)
                    accelerator.backward(loss)
                total += loss.detach()
        value = float(accelerator.reduce(total, "mean"))
        if not math.isfinite(value):
            raise TrainingError(f"the loss became {value} at step {now.step}: lower train.learning_rate in config.toml")
        accelerator.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimizer.step()
        # Kept and zeroed: to free and fault in half a gigabyte of gradients cost a fifth of each step.
        self._optimizer.zero_grad(set_to_none=False)
        now.losses.append(value)
        now.since_point.append(value)
        now.running = value if math.isnan(now.running) else 0.9 * now.running + 0.1 * value
        now.step, now.batch = now.step + 1, now.batch + 1
        now.tokens += sum(part.tokens for part in parts) * accelerator.num_processes

    def _point(self, rate: float, measure: bool) -> None:
        """Add to the curve where it is time to, and keep the weights that are the best so far."""
        now = self._now
        loss = self._heldout_loss() if measure else None
        if loss is not None or now.step % max(1, self._steps // _POINTS) == 0:
            mean = sum(now.since_point) / len(now.since_point)
            now.curve.append({"step": now.step, "loss": mean, "heldout_loss": loss, "learning_rate": rate})
            now.since_point = []
        if loss is None or not self._decides:
            return
        now.best = now.best.after(now.step, loss)
        if now.best.step == now.step < self._steps and self._accelerator.is_main_process:
            self._keep_best()

    def _keep_best(self) -> None:
        """On disk, or in memory where that has no room."""
        now = self._now
        now.best_file = f"best-{now.step:08d}.pt"
        if not (self._checkpoints and self._checkpoints.save_best(now.best_file, self._weights())):
            now.best_file = None
            self._best = {name: weight.to("cpu", copy=True) for name, weight in self._weights().items()}

    def _put_best(self) -> None:
        """The first process has them."""
        accelerator, best = self._accelerator, self._best
        if accelerator.is_main_process:
            if self._checkpoints and self._now.best_file:
                best = self._checkpoints.load_best(self._now.best_file)
            assert best is not None
            self._put(best)
        if accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            self._put({name: broadcast(weight.clone(), 0) for name, weight in self._weights().items()})

    def _heldout_loss(self) -> float:
        """In nats per response token, over what all processes measured."""
        accelerator = self._accelerator
        plain = accelerator.unwrap_model(self._loss).eval()
        found = torch.zeros(2, device=accelerator.device, dtype=torch.float64)
        with torch.no_grad(), self._rounding(), accelerator.autocast():
            for batch in self._measured:
                nll_R, _ = plain.nll(batch)
                found += torch.stack((nll_R.sum().double(), torch.tensor(len(nll_R), device=found.device).double()))
        self._loss.train()
        total, count = accelerator.reduce(found, "sum").tolist()
        return float(total / count)

    def _agreed(self, seconds: float, most_seconds: float | None) -> float:
        """The first process's time where time decides something: no two clocks are alike."""
        if most_seconds is None or self._accelerator.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor([seconds], dtype=torch.float64, device=self._accelerator.device), 0))

    def _progress(self) -> Progress:
        now = self._now
        done = min(now.step * self._recipe.batch_size, math.ceil(self._recipe.epochs * self._examples))
        left = now.seconds / now.step * (self._steps - now.step)
        return Progress(now.step, self._steps, done, now.running, now.tokens / now.seconds, left)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def prefer(self, encoder: Encoder, pairs: Sequence[Pair], watched: Sequence[Encoded]) -> Outcome | None:
        """Train on pairs what has been trained; one process only, for the pairs are few."""
        accelerator = self._accelerator
        if not pairs or accelerator.num_processes > 1:
            return None
        # Its moments are of no use any more, and their room is.
        self._optimizer.state.clear()
        objective = accelerator.unwrap_model(self._loss)
        preferring = Preferring(objective, self._pad, self._rounding, accelerator.autocast, accelerator.device)
        return preferring.run(encoder, pairs, watched, self._recipe.learning_rate, self._recipe.seed)

    @torch.no_grad()
    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    def _state(self) -> dict[str, Any]:
        return {
            **{name: value for name, value in vars(self._now).items() if name != "best"},
            "best": asdict(self._now.best),
            "torch_rng": torch.get_rng_state(),
            "weights": self._weights(),
            "optimizer": self._optimizer.state_dict(),
        }

    def _resume(self) -> int | None:
        """Take up what a killed process left; the step that it had come to."""
        state = self._checkpoints.load() if self._checkpoints else None
        # Before the first process writes another.
        self._accelerator.wait_for_everyone()
        if state is None:
            return None
        self._put(state.pop("weights"))
        # A copy: what is mapped keeps the file on the disk when the next state has taken its place.
        self._optimizer.load_state_dict(copy.deepcopy(state.pop("optimizer")))
        torch.set_rng_state(state.pop("torch_rng"))
        known = {item.name for item in fields(_Standing)} - {"best"}
        self._now = _Standing(**{name: state[name] for name in known}, best=Best(**state["best"]))
        self._rng.setstate(self._now.epoch_rng)
        return self._now.step
