"""A base whose rounded weights say what its plain ones say: fitted once, where every night through the quantizer begins.

Before anything is learned, int4 loses most by the rounding of the base (docs/decisions/0012-quantization-schemes.md). Data-free
distillation, as LLM-QAT does it (Liu et al., arXiv 2305.17888): the base writes texts, and its rounded self learns what the
plain one says at places of them. No exchange is seen, so that nothing need be forgotten.

B: texts of a batch, T: tokens, P: places, V: vocabulary, D: hidden size.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional

from shammah_data.bases import BASE_INFO
from shammah_data.durable import atomic_write, fsync_folder
from shammah_data.errors import TrainingError
from shammah_export.precision import Precision
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.memory import available
from shammah_trainer.base import Base
from shammah_trainer.budget import Sizes, Work, memory_needed
from shammah_trainer.fakequant import ThroughQuantizer
from shammah_trainer.finetune import load_model, mixed_precision

# Says that the folder is complete, and what was measured.
INFO = "fitted.json"
# Beside the base, behind the precision's name: what was measured where the fitting brought nothing.
_IN_VAIN = "-brought-nothing.json"
_STAGING = ".fitting-"
_SEED = 0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """How a base is fitted. `texts` of `tokens` tokens are written, `kept_back` of them to measure on.

    Each of `steps` sees `texts_a_step` texts and `places` of their tokens, at a cosine from `learning_rate` down to zero.
    """

    texts: int = 512
    tokens: int = 160
    kept_back: int = 32
    steps: int = 100
    texts_a_step: int = 4
    places: int = 320
    learning_rate: float = 2e-4
    written_at_once: int = 64


@dataclass(frozen=True)
class Fitted:
    """The weights to begin with, and the KL (nats per token) of the rounded base to the plain one, before and after."""

    folder: Path
    kl_before: float
    kl_after: float


def begin_with(base: Base, precision: Precision, say: Say) -> Fitted | None:
    """The fitted base; None, and a line that says why, where a night must begin with the base as it is."""
    try:
        return fit_base(base, precision, say)
    except (TrainingError, OSError) as error:
        # A base's folder that cannot be written ends no night: training writes elsewhere.
        say(f"starting from the base as it is: {error}")
        return None


def fit_base(base: Base, precision: Precision, say: Say, fit: Fit = Fit()) -> Fitted:
    """The base fitted to the rounding of `precision`: below its folder, made there if need be.

    Deterministic on one machine with one number of threads. Raises TrainingError where memory or disk do not suffice, and
    where fitting brought nothing, which is remembered: the same fitting of the same base is not tried again.
    """
    target = base.folder / str(precision)
    if (there := _there(target, base)) is not None:
        return there
    mixed = mixed_precision() == "bf16"
    in_vain = base.folder / f"{precision}{_IN_VAIN}"
    tried = {"base_sha256": base.sha256, "fit": asdict(fit), "mixed": mixed}
    if (measured := _measured(in_vain, tried)) is not None:
        raise TrainingError(
            f"base {base.name}: fitting it to {precision} brought nothing before ({measured}), and neither has changed since"
        )
    for leftover in base.folder.glob(f"{_STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _need_room(base, fit, mixed)
    say(f"base {base.name}: fitting it to the rounding of {precision}, once, so that it loses less by it")
    began = time.monotonic()
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=base.folder))
    try:
        with torch.random.fork_rng():
            torch.manual_seed(_SEED)
            before, after = _fit(base, precision, staging, fit, mixed, say)
        info = json.dumps({**tried, "kl_before": before, "kl_after": after}, indent=1).encode()
        if not after < before:
            atomic_write(in_vain, info)
            raise TrainingError(f"base {base.name}: fitting it to {precision} brought nothing ({_change(before, after)})")
        atomic_write(staging / INFO, info)
        fsync_folder(staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        in_vain.unlink(missing_ok=True)
        fsync_folder(base.folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    say(f"base {base.name}: fitted in {time.monotonic() - began:.0f} s, KL to the plain one {before:.3f} -> {after:.3f}")
    return Fitted(target, before, after)


def _there(target: Path, base: Base) -> Fitted | None:
    try:
        info = json.loads((target / INFO).read_text(encoding="utf-8"))
        known = Fitted(target, float(info["kl_before"]), float(info["kl_after"]))
        return known if info["base_sha256"] == base.sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measured(in_vain: Path, tried: dict[str, Any]) -> str | None:
    """What was measured when just this was tried, and brought nothing."""
    try:
        info = json.loads(in_vain.read_text(encoding="utf-8"))
        return _change(info["kl_before"], info["kl_after"]) if tried.items() <= info.items() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _change(before: float, after: float) -> str:
    return f"KL {before:.3f} -> {after:.3f}"


def _need_room(base: Base, fit: Fit, mixed: bool) -> None:
    sizes = Sizes.of(base.folder, None)
    work = Work(fit.tokens, fit.texts_a_step * fit.tokens, mixed, rounded=True)
    # The plain base is there beside the one that learns.
    needed = memory_needed(sizes, work, work.tokens_at_once, save_memory=False) + 4 * sizes.parameters
    rooms = (("memory", needed, available()), ("disk", 2 * sizes.parameters, shutil.disk_usage(base.folder).free))
    for what, takes, free in rooms:
        if free is not None and free < takes:
            raise TrainingError(f"fitting the base takes about {takes / 1e9:.1f} GB of {what} and {free / 1e9:.1f} are free")


def _fit(base: Base, precision: Precision, out: Path, fit: Fit, mixed: bool, say: Say) -> tuple[float, float]:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = load_model(base.folder).to(device, torch.bfloat16 if mixed else torch.float32).eval()
    texts_BT = _write(plain, base, fit, say)
    model = load_model(base.folder).to(device)
    kept_back_BT, texts_BT = texts_BT[: fit.kept_back], texts_BT[fit.kept_back :]
    rounding = ThroughQuantizer(model, precision)

    def measure() -> float:
        found = []
        with torch.no_grad(), rounding.applied():
            for ids_BT in torch.split(kept_back_BT, fit.texts_a_step):
                found.append(float(_kl(plain, model, ids_BT, torch.arange(ids_BT.numel(), device=device), mixed)))
        return sum(found) / len(found)

    before = measure()
    optimizer = torch.optim.AdamW(model.parameters(), lr=fit.learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    warm = max(1, fit.steps // 10)
    model.train()
    for step in range(fit.steps):
        for group in optimizer.param_groups:
            group["lr"] = fit.learning_rate * min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * step / fit.steps))
        ids_BT = texts_BT[torch.randperm(len(texts_BT))[: fit.texts_a_step]]
        places_P = torch.randperm(ids_BT.numel())[: fit.places].to(device)
        with rounding.applied():
            loss = _kl(plain, model, ids_BT, places_P, mixed)
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % max(1, fit.steps // 4) == 0:
            say(f"base {base.name}: fitting, step {step + 1} of {fit.steps}, KL {float(loss.detach()):.3f}")
    model.eval()
    # As it is stored, in half the bytes.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    after = measure()
    model.to("cpu", torch.bfloat16).save_pretrained(out)
    for name in ("tokenizer.json", BASE_INFO):
        shutil.copyfile(base.folder / name, out / name)
    return before, after


@torch.no_grad()
def _write(plain: Any, base: Base, fit: Fit, say: Say) -> torch.Tensor:
    """[texts, head + tokens] ids that the base writes from where a user's turn begins, drawn as it would say them."""
    tokenizer = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    head = tokenizer.before_question()
    written = []
    for start in range(0, fit.texts, fit.written_at_once):
        ids_BT = torch.tensor([head] * min(fit.written_at_once, fit.texts - start), device=plain.device)
        # It goes on after the end of a turn: the answer, the next question.
        texts_BT = plain.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            max_new_tokens=fit.tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=-1,
            pad_token_id=base.stop_ids[0],
        )
        written.append(texts_BT)
        say(f"base {base.name}: fitting, {start + len(ids_BT)} of {fit.texts} texts are written")
    return torch.cat(written)


def _kl(plain: Any, model: Any, ids_BT: torch.Tensor, places_P: torch.Tensor, mixed: bool) -> torch.Tensor:
    """Mean KL divergence in nats of what `model` says from what `plain` says, over some places of the texts taken in a row."""
    with torch.no_grad():
        hidden_BTD = plain.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        said_PV = functional.log_softmax(plain.lm_head(hidden_BTD.flatten(0, 1)[places_P]).float(), dim=-1)
    with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=mixed):
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        logits_PV = model.lm_head(hidden_BTD.flatten(0, 1)[places_P])
    have_PV = functional.log_softmax(logits_PV.float(), dim=-1)
    return functional.kl_div(have_PV, said_PV, reduction="batchmean", log_target=True)
