"""A base is fitted to its rounding: once, without an exchange, and not where it does not fit or brings nothing."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from fakes.training import EXAMPLES
from shammah_data.errors import TrainingError
from shammah_data.settings import TrainSettings
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer import fitting
from shammah_trainer.base import Base
from shammah_trainer.fakequant import keep_rounded
from shammah_trainer.finetune import load_model
from shammah_trainer.fitting import INFO, Fit, fit_base
from shammah_trainer.progress import Reporter
from shammah_trainer.tune import Order, Task, prepare

SHORT = Fit(texts=96, tokens=48, kept_back=16, steps=60, texts_a_step=8, places=400, learning_rate=4e-4, written_at_once=48)


@pytest.fixture
def loud(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """The tiny base, with weights so large that it prefers some words, and rounding them changes what it says."""
    monkeypatch.setattr(fitting, "mixed_precision", lambda: "no")
    folder = Path(shutil.copytree(base.folder, tmp_path / "base", ignore=shutil.ignore_patterns("int4")))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 8
    model.to(torch.bfloat16).save_pretrained(folder)
    return Base.open(folder)


def said(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of every next token."""
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)


def test_a_fitted_base_says_rounded_what_it_says_plain(loud: Base) -> None:
    lines: list[str] = []
    fitted = fit_base(loud, "int4", lines.append, SHORT)
    assert fitted.kl_after < 0.85 * fitted.kl_before
    assert f"KL to the plain one {fitted.kl_before:.3f} -> {fitted.kl_after:.3f}" in lines[-1]
    # What is read back is what was measured: on texts that it never saw, and with the exporter's rounding.
    plain, before, after = load_model(loud.folder), load_model(loud.folder), load_model(fitted.folder)
    keep_rounded(before, "int4")
    keep_rounded(after, "int4")
    ids = ChatTokenizer(loud.folder / "tokenizer.json", loud.chat).prompt("How does the wifi work?")
    wanted = said(plain, ids)
    lost = [float((wanted.exp() * (wanted - said(model, ids))).sum(-1).mean()) for model in (before, after)]
    assert lost[1] < lost[0]
    assert Base.open(fitted.folder).sha256 == loud.sha256


def test_it_is_fitted_once(loud: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = loud.folder / ".fitting-killed"
    leftover.mkdir()
    first = fit_base(loud, "int4", lambda _: None, SHORT)
    assert not leftover.exists()
    lines: list[str] = []
    assert fit_base(loud, "int4", lines.append, SHORT) == first
    assert not lines
    # Another base of that name is another one to fit, and so is a folder that was not finished.
    weights = (first.folder / "model.safetensors").read_bytes()
    for broken in (json.dumps({**json.loads((first.folder / INFO).read_text()), "base_sha256": "another"}), "{"):
        (first.folder / INFO).write_text(broken)
        assert fit_base(loud, "int4", lines.append, SHORT) == first
        assert lines
        # The same to the last bit.
        assert (first.folder / "model.safetensors").read_bytes() == weights
        lines.clear()


def test_what_brings_nothing_is_not_kept(loud: Base) -> None:
    with pytest.raises(TrainingError, match="brought nothing"):
        fit_base(loud, "int4", lambda _: None, replace(SHORT, learning_rate=0.0))
    assert {path.name for path in loud.folder.iterdir() if path.is_dir()} == set()


def test_what_brought_nothing_is_not_tried_again_until_the_base_or_the_fitting_changes(
    loud: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, in_vain = fit_base, replace(SHORT, learning_rate=0.0)
    monkeypatch.setattr("shammah_trainer.fitting.fit_base", lambda base, precision, say: whole(base, precision, say, in_vain))
    said_first = ordered(loud, tmp_path, "int4", run="first")[2]
    assert "fitting it to the rounding of int4, once" in said_first
    order, figures, told = ordered(loud, tmp_path, "int4", run="second")
    assert order.task.start == loud.folder
    assert "fitted" not in figures
    (line,) = [line for line in told.splitlines() if "fitting" in line]
    assert f"starting from the base as it is: base {loud.name}: fitting it to int4 brought nothing before (KL " in line
    # Another base of that name.
    info = json.loads((loud.folder / "base.json").read_text())
    (loud.folder / "base.json").write_text(json.dumps({**info, "sha256": "another"}))
    assert "fitting it to the rounding of int4, once" in ordered(Base.open(loud.folder), tmp_path, "int4", run="third")[2]
    (loud.folder / "base.json").write_text(json.dumps(info))
    # A note that cannot be read is none.
    (note,) = loud.folder.glob("*nothing*")
    for broken in ("{", "[]", "{}"):
        note.write_text(broken)
        with pytest.raises(TrainingError, match=r"brought nothing \("):
            whole(loud, "int4", lambda _: None, in_vain)
    # Another fitting may bring something, and then there is nothing to remember.
    assert whole(loud, "int4", lambda _: None, SHORT).folder == loud.folder / "int4"
    assert not note.exists()


def test_a_folder_that_cannot_be_written_ends_no_night(loud: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    order, _, told = ordered(loud, tmp_path, "int4")
    assert order.task.start == loud.folder
    assert "starting from the base as it is: [Errno 28] No space left on device" in told


@pytest.mark.parametrize("lacking", ["memory", "disk"])
def test_without_room_the_night_starts_from_the_base_as_it_is(
    loud: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "memory":
        monkeypatch.setattr(fitting, "available", lambda: 10**6)
    else:
        monkeypatch.setattr(fitting.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 0))  # type: ignore[attr-defined]
        monkeypatch.setattr("shammah_trainer.tune.plan_disk", lambda *_: False)
    order, figures, told = ordered(loud, tmp_path, "int4")
    assert order.task.start == loud.folder
    assert "fitted" not in figures
    assert "starting from the base as it is: fitting the base takes about" in told
    assert f"GB of {lacking} and 0.0 are free" in told


def test_a_night_through_the_quantizer_begins_with_the_fitted_base(
    loud: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit_base
    monkeypatch.setattr("shammah_trainer.fitting.fit_base", lambda base, precision, say: whole(base, precision, say, SHORT))
    order, figures, _ = ordered(loud, tmp_path, "int4")
    assert order.task.start == loud.folder / "int4"
    assert not order.task.continues
    assert figures["fitted"]["kl_after"] < figures["fitted"]["kl_before"]
    plain, figures, _ = ordered(loud, tmp_path, "int8")
    assert plain.task.start == loud.folder
    assert "fitted" not in figures
    # What was tuned before has been through the quantizer.
    later, figures, _ = ordered(loud, tmp_path, "int4", start_name="an earlier run")
    assert later.task.start == loud.folder
    assert "fitted" not in figures


def ordered(
    base: Base, tmp_path: Path, precision: str, start_name: str | None = None, run: str = "run"
) -> tuple[Order, dict[str, Any], str]:
    """The order of a night, its first figures, and what was said."""
    told = io.StringIO()
    folder = tmp_path / f"{run}-{precision}-{start_name}"
    folder.mkdir()
    task = Task(base, base.folder, start_name or base.sha256, tuple(EXAMPLES), (), ())
    train = TrainSettings(precision=precision, max_length=128, threads=1)  # type: ignore[arg-type]
    order, figures = prepare(task, folder, train, 1, False, Reporter(told), memory=10**12)
    return order, figures, told.getvalue()
