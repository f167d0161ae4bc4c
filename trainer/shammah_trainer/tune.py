"""The training of a run, as each of its processes goes through it: what is ordered, the weights, the figures.

Knows which settings make which recipe, and where weights go; the log, the graph and the gate are not its business.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from shammah_data.durable import private_folder
from shammah_data.settings import TrainSettings
from shammah_data.text import counted
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.memory import available
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.budget import Sizes, Work, checkpoint_bytes, plan_disk, plan_memory
from shammah_trainer.checkpoints import FOLDER, Checkpoints, adopt, read, remove, size
from shammah_trainer.dataset import Example
from shammah_trainer.finetune import finetune, load_model, mean_loss, mixed_precision
from shammah_trainer.fitting import begin_with
from shammah_trainer.loop import Mixed, Recipe
from shammah_trainer.preferences import Pair
from shammah_trainer.priority import threads
from shammah_trainer.progress import Reporter

# As torch counts them, before a run takes fewer.
_CORES = torch.get_num_threads()
# Below the run's folder: the weights that were exported, and, where those were rounded, what had been learned.
MERGED, LEARNED = "merged", "learned"


@dataclass(frozen=True)
class Task:
    """What is to be learned: from the weights in `start`, which `start_name` tells from all others, on `examples`.

    The held-out loss is told of `heldout`; `watched` are those that decide when to stop.
    """

    base: Base
    start: Path
    start_name: str
    examples: tuple[Example, ...]
    heldout: tuple[Example, ...]
    watched: tuple[Example, ...]
    pairs: tuple[Pair, ...] = ()

    @property
    def continues(self) -> bool:
        """Whether the weights have learned from this log before."""
        return self.start_name != self.base.sha256


@dataclass(frozen=True)
class Manner:
    """What of the machine decides a result's last bits; a training that is taken up again keeps it."""

    mixed: Mixed
    threads: int
    save_memory: bool
    tokens_at_once: int


@dataclass(frozen=True)
class Order:
    """All that a process needs to take part: plain values, the same for each."""

    task: Task
    run: Path
    train: TrainSettings
    recipe: Recipe
    manner: Manner
    key: str
    checkpoints: bool
    state_bytes: int


def prepare(
    task: Task,
    run: Path,
    train: TrainSettings,
    processes: int,
    serving_busy: bool,
    reporter: Reporter,
    memory: int | None = None,
) -> tuple[Order, dict[str, Any]]:
    """Make the order of a run and its first figures; the first process's work.

    A killed training of the same task is taken up from an earlier run's folder. `memory`: bytes that there are (default: what
    the system says). `serving_busy`: a session is at work. Raises TrainingError where memory or disk do not suffice.
    """
    encoder = _encoder(task.base, train)
    # A query and its answer are never cut, so what is longer cannot be trained on.
    lengths = [len(item) for example in task.examples if (item := encoder.encode(example, ())) is not None]
    # Weights that were tuned before know most of it by heart: a small log needs no more passes then.
    least = 0 if task.continues else train.least_steps
    epochs = max(train.epochs, least * train.batch_size / max(1, len(lengths)))
    recipe = Recipe(
        train.method,
        train.lora_rank,
        epochs,
        train.learning_rate,
        train.batch_size,
        train.context_share,
        train.reworded_share,
        train.seed,
        # Rounded to 4 bits afterwards, a model this small loses what it learned.
        "int4" if train.precision == "int4" else None,
        balance=train.balance,
        opening=train.opening,
    )
    count = threads(train.threads, _CORES, serving_busy)
    task, fitted = _fitted(task, recipe, count, reporter)
    key = _key(task, recipe, train.max_length, processes)
    earlier = adopt(run.parent, run)
    found = read(run / FOLDER)
    if found is None or found["key"] != key:
        remove(run / FOLDER)
        found = None
    sizes = Sizes.of(task.start, train.lora_rank if train.method == "lora" else None)
    mixed = mixed_precision()
    # What an interrupted run left lies where the next state goes.
    keeps = plan_disk(sizes, shutil.disk_usage(run).free + size(run / FOLDER))
    if not keeps:
        remove(run / FOLDER)
        found = None
    work = Work(max(lengths, default=0), recipe.tokens_at_once, mixed == "bf16", recipe.through is not None, not keeps)
    room = available() if memory is None else memory
    plan = plan_memory(sizes, work, room)
    manner = Manner(mixed, count, plan.save_memory, plan.tokens_at_once)
    figures: dict[str, Any] = {
        "memory": {"needed": plan.needed, "available": room, "gradient_checkpointing": plan.save_memory},
        "processes": processes,
        "trained_through": recipe.through,
        "epochs": round(epochs, 2),
        "too_long": len(task.examples) - len(lengths),
        **fitted,
    }
    known = "" if room is None else f" of {room / 1e9:.1f}"
    saving = "; memory is short: activations are computed twice" if plan.save_memory else ""
    reporter.say(f"training takes about {plan.needed / 1e9:.1f}{known} GB{saving}")
    if not keeps:
        reporter.say("the disk has no room for checkpoints: a killed run will begin anew")
    if found is not None:
        # Computing activations twice changes no bit; fewer tokens at once do, but a training that fits beats one that does not.
        tokens = min(plan.tokens_at_once, found["manner"]["tokens_at_once"])
        manner = Manner(**{**found["manner"], "save_memory": plan.save_memory, "tokens_at_once": tokens})
        figures["resumed"] = {"run": earlier, "step": found["step"]}
        reporter.say(f"run {earlier} was interrupted: going on after its step {found['step']}")
    figures["mixed_precision"], figures["threads"] = manner.mixed, manner.threads
    recipe = replace(recipe, tokens_at_once=manner.tokens_at_once)
    return Order(task, run, train, recipe, manner, key, keeps, checkpoint_bytes(sizes)), figures


def tune(order: Order, reporter: Reporter, leads: bool) -> dict[str, Any]:
    """Train, as one of the processes of the run; the one that leads also writes the weights and returns figures."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task, train, manner = order.task, order.train, order.manner
    torch.set_num_threads(manner.threads)
    encoder = _encoder(task.base, train)
    pad = task.base.stop_ids[0]
    figures: dict[str, Any] = {}
    if leads:
        figures["loss_before"] = mean_loss(load_model(task.base.folder), encoder, task.heldout, pad, manner.mixed)
        if math.isnan(figures["loss_before"]):
            reporter.say("no held-out answer fits into train.max_length tokens: the gate will refuse the version")
        else:
            reporter.say(f"held-out loss before: {figures['loss_before']:.3f} nats per token")
    checkpoints = Checkpoints(
        order.run / FOLDER, order.key, train.checkpoint_seconds, order.state_bytes, manner=asdict(manner), say=reporter.say
    )

    def keep_learned(model: Any) -> None:
        if leads and order.recipe.through:
            _save(model, order.run / LEARNED, task.base)

    began = time.monotonic()
    trained = finetune(
        load_model(task.start),
        encoder,
        task.examples,
        order.recipe,
        pad,
        reporter.training,
        heldout=task.watched,
        pairs=task.pairs,
        checkpoints=checkpoints if order.checkpoints else None,
        most_seconds=60 * train.max_minutes or None,
        save_memory=manner.save_memory,
        mixed=manner.mixed,
        learned=keep_learned,
    )
    reporter.end()
    if not leads:
        return {}
    figures |= {
        "train_seconds": round(time.monotonic() - began, 1),
        "epoch_losses": [round(loss, 4) for loss in trained.epoch_losses],
        "loss_curve": [_rounded(point) for point in trained.curve],
        "steps": trained.steps,
        "kept_step": trained.step,
        "stopped": trained.stopped,
        "loss_after_torch": mean_loss(trained.model, encoder, task.heldout, pad, manner.mixed),
    }
    if trained.preferred:
        figures["preferences"] = trained.preferred.figures
        found = trained.preferred
        done = "kept" if found.kept else "put back"
        reporter.say(
            f"preferences: {counted(found.pairs, 'pair')}; of {found.heldout_pairs} held out, right "
            f"{found.right_before:.0%} -> {found.right_after:.0%}, held-out loss "
            f"{found.loss_before:.3f} -> {found.loss_after:.3f}: {done}"
        )
    why = {"complete": "", "time": ", as its time was up", "held-out loss": ", as the held-out loss rose"}[trained.stopped]
    kept = "" if trained.step == trained.steps else f"; the weights of step {trained.step} are kept"
    reporter.say(
        f"trained in {figures['train_seconds']:.0f} s, {counted(trained.steps, 'step')}{why}{kept}; held-out loss after: "
        f"{figures['loss_after_torch']:.3f}"
    )
    # In bfloat16 the weights would no longer be the ones that were rounded.
    _save(trained.model if order.recipe.through else trained.model.to(torch.bfloat16), order.run / MERGED, task.base)
    return figures


def _save(model: Any, folder: Path, base: Base) -> None:
    private_folder(folder)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "base.json"):
        shutil.copyfile(base.folder / name, folder / name)


def _rounded(point: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in point.items()}


def _encoder(base: Base, train: TrainSettings) -> Encoder:
    return Encoder(ChatTokenizer(base.folder / "tokenizer.json", base.chat), base.stop_ids, train.max_length)


def _fitted(task: Task, recipe: Recipe, count: int, reporter: Reporter) -> tuple[Task, dict[str, Any]]:
    """The task from a base that was fitted to the rounding, where one begins with a base; and what was measured of it."""
    if recipe.through is None or task.continues:
        return task, {}
    torch.set_num_threads(count)
    fitted = begin_with(task.base, recipe.through, reporter.say)
    if fitted is None:
        return task, {}
    return replace(task, start=fitted.folder), {"fitted": {"kl_before": fitted.kl_before, "kl_after": fitted.kl_after}}


def _key(task: Task, recipe: Recipe, max_length: int, processes: int) -> str:
    """Digest of all that decides the result but the manner, which a state brings along."""
    fitted = task.start != task.base.folder and not task.continues
    said = [asdict(recipe), max_length, processes, task.start_name, task.base.sha256, fitted, torch.__version__]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for examples in (task.examples, task.watched):
        digest.update(_digest(examples))
    return digest.hexdigest()


def _digest(examples: Sequence[Example]) -> bytes:
    content = json.dumps([asdict(example) for example in examples], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
