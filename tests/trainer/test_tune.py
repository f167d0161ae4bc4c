import io
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fakes.training import EXAMPLES, recipe
from shammah_data.errors import TrainingError
from shammah_data.settings import TrainSettings
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.budget import Sizes
from shammah_trainer.checkpoints import FOLDER, Checkpoints
from shammah_trainer.fakequant import keep_rounded
from shammah_trainer.finetune import finetune, load_model
from shammah_trainer.fitting import Fit, fit_base
from shammah_trainer.progress import Reporter
from shammah_trainer.tune import MERGED, Task, prepare, tune

SETTINGS = TrainSettings(
    least_steps=0, epochs=3.0, learning_rate=6e-3, context=256, max_length=128, threads=1, precision="fp32"
)


@pytest.fixture(scope="module")
def task(base: Base) -> Task:
    """The tiny model is to learn EXAMPLES."""
    watched = EXAMPLES[32:]
    return Task(base, base.folder, base.sha256, tuple(EXAMPLES[:32]), tuple(watched), tuple(watched))


@pytest.fixture
def night(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], str, Path]]:
    """Prepare and tune with changes to the settings; returns figures, what was said, and the run's folder."""
    monkeypatch.setattr("shammah_trainer.tune.mixed_precision", lambda: "no")
    short = Fit(texts=8, tokens=8, kept_back=4, steps=2)
    monkeypatch.setattr("shammah_trainer.fitting.fit_base", lambda base, precision, say: fit_base(base, precision, say, short))

    def run(name: str, memory: int | None = None, **changes: Any) -> tuple[dict[str, Any], str, Path]:
        said = io.StringIO()
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        order, figures = prepare(task, folder, replace(SETTINGS, **changes), 1, False, Reporter(said), memory)
        return figures | tune(order, Reporter(said), leads=True), said.getvalue(), folder

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_model(folder / MERGED).state_dict()
    return found


def test_short_memory_changes_the_way_and_not_the_result(night: Callable[..., Any]) -> None:
    figures, said, folder = night("a", memory=10**12)
    assert not figures["memory"]["gradient_checkpointing"]
    assert "computed twice" not in said
    short, said, other = night("b", memory=figures["memory"]["needed"] - 1)
    assert short["memory"]["gradient_checkpointing"]
    assert "memory is short: activations are computed twice" in said
    assert short["loss_curve"] == figures["loss_curve"]
    expected = weights(folder)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(other).items())


def test_weights_tuned_before_need_no_least_number_of_steps(task: Task, tmp_path: Path) -> None:
    few = replace(SETTINGS, least_steps=40, epochs=2.0, batch_size=8)
    for name, start_name, steps in (("base", task.base.sha256, 40), ("champion", "an earlier run", 8)):
        (tmp_path / name).mkdir()
        order, _ = prepare(replace(task, start_name=start_name), tmp_path / name, few, 1, False, Reporter(io.StringIO()))
        assert order.recipe.epochs * len(task.examples) / few.batch_size == pytest.approx(steps)


def test_too_little_memory_ends_it_before_it_starts(night: Callable[..., Any]) -> None:
    with pytest.raises(TrainingError, match="training needs about"):
        night("a", memory=10**6)


def test_the_figures_tell_how_it_went(night: Callable[..., Any]) -> None:
    figures, said, _ = night("a", memory=10**9)
    assert 8 <= figures["steps"] <= 12
    assert figures["stopped"] in ("complete", "held-out loss")
    assert figures["processes"] == figures["threads"] == 1
    assert figures["mixed_precision"] == "no"
    assert [point["step"] for point in figures["loss_curve"]] == list(range(1, figures["steps"] + 1))
    assert "training takes about 0.6 of 1.0 GB" in said


def test_it_is_deterministic_per_seed(night: Callable[..., Any]) -> None:
    """The whole training of a night, twice; the same weights to the last bit."""
    first, _, folder = night("a", precision="int4")
    again, _, other = night("b", precision="int4")
    changed, _, third = night("c", precision="int4", seed=1)
    assert first["loss_curve"] == again["loss_curve"] != changed["loss_curve"]
    expected, seeded = weights(folder), weights(third)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(other).items())
    assert not all(torch.equal(tensor, expected[name]) for name, tensor in seeded.items())


def test_what_was_learned_is_kept_beside_what_was_rounded(night: Callable[..., Any]) -> None:
    _, _, folder = night("a", precision="int4")
    learned, merged = load_model(folder / "learned"), weights(folder)
    name = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(learned.state_dict()[name], merged[name])
    keep_rounded(learned, "int4")
    assert all(torch.equal(tensor, merged[name]) for name, tensor in learned.state_dict().items())
    assert (folder / "learned" / "tokenizer.json").exists()


@pytest.mark.parametrize("enough", [True, False])
def test_what_an_interrupted_run_left_counts_as_room(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    """Where there is room all the same it goes on; where there is not it begins anew, as it says."""
    runs = tmp_path / "runs"
    for name in ("a", "b"):
        (runs / name).mkdir(parents=True)
    quiet = Reporter(io.StringIO())
    order, _ = prepare(task, runs / "a", SETTINGS, 1, False, quiet)
    left = Checkpoints(runs / "a" / FOLDER, order.key, manner=asdict(order.manner))
    left.save({"step": 5, "weights": {"one": torch.zeros(order.state_bytes // 4)}})
    sizes = Sizes.of(task.start, None)
    # Two states and the best weights twice, beside what any run writes.
    needed = (12 + 2 * 12 + 2 * 4) * sizes.parameters
    free = needed - order.state_bytes if enough else needed - 2 * order.state_bytes
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    said = io.StringIO()
    order, figures = prepare(task, runs / "b", SETTINGS, 1, False, Reporter(said))
    assert order.checkpoints == enough
    assert ("resumed" in figures) == enough
    assert ("going on after its step 5" in said.getvalue()) == enough
    assert ("will begin anew" in said.getvalue()) != enough
    assert (runs / "b" / FOLDER / "state.pt").exists() == enough


def test_max_minutes_ends_it(night: Callable[..., Any]) -> None:
    figures, said, folder = night("a", max_minutes=1e-9)
    assert figures["stopped"] == "time"
    assert figures["steps"] == 1
    assert "as its time was up" in said
    assert (folder / MERGED / "model.safetensors").exists()


def test_a_batch_in_pieces_is_the_same_step(base: Base, encoder: Encoder) -> None:
    """But for the rounding of sums; the pieces of a step have different lengths, and an example weighs three."""
    examples = [replace(EXAMPLES[0], weight=3.0), *EXAMPLES[1:16]]

    def losses(tokens: int) -> list[float]:
        changed = replace(recipe(), tokens_at_once=tokens)
        trained = finetune(load_model(base.folder), encoder, examples, changed, 2, lambda _: None, mixed="no")
        return [point["loss"] for point in trained.curve]

    assert losses(64) == pytest.approx(losses(4096), rel=1e-4)
