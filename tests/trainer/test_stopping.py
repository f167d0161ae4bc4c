import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.tiny import exchanges
from fakes.training import EXAMPLES, recipe
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder, collate
from shammah_trainer.checkpoints import Checkpoints
from shammah_trainer.dataset import Example
from shammah_trainer.finetune import ResponseLoss, finetune, load_model
from shammah_trainer.loop import Progress, Trained
from shammah_trainer.stopping import EVALUATIONS, Best, evaluation_steps, sample


def after(*losses: float) -> Best:
    best = Best()
    for step, loss in enumerate(losses, 1):
        best = best.after(step, loss)
    return best


def test_the_least_loss_is_kept() -> None:
    assert after(3.0, 2.0, 2.5).step == 2
    assert after(3.0, 2.0, 2.5, 1.9).step == 4


def test_a_draw_goes_to_the_later_weights() -> None:
    best = after(3.0, 2.0, 2.03, 2.02)
    assert best.step == 4
    assert best.least == 2.0
    # A slow rise is no draw without end.
    assert after(2.0, 2.03, 2.06).step == 2


def test_it_gives_up_after_three_clear_rises_in_a_row() -> None:
    assert not after(2.0, 2.1, 2.2).hopeless
    assert after(2.0, 2.1, 2.2, 2.3).hopeless
    assert not after(2.0, 2.1, 2.2, 2.0, 2.3).hopeless


@pytest.mark.parametrize("steps", [1, 3, 8, 11, 1000])
def test_the_last_step_is_measured_and_few_others(steps: int) -> None:
    found = evaluation_steps(steps)
    assert steps in found
    assert len(found) == min(steps, EVALUATIONS)
    assert min(found) >= 1


def test_measuring_costs_little_beside_the_training() -> None:
    items = list(range(500))
    assert len(sample(items, 2000.0, 0)) == 37
    assert len(sample(items, 1e6, 0)) == 64
    assert len(sample(items, 1.0, 0)) == 16
    assert sample(items, 2000.0, 0) == sample(items, 2000.0, 0) != sample(items, 2000.0, 1)
    assert sample([], 2000.0, 0) == []


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    assert Best().after(8, 1.0).after(16, math.nan) == Best(8, 1.0, 1)
    assert Best().after(8, math.nan).step == 0


@pytest.fixture(scope="module")
def loaded(base: Base) -> Any:
    """The tiny model, not to be changed."""
    return load_model(base.folder)


# What is watched here was answered wrong on purpose: the better the training goes, the higher its loss.
CONTRARY = [Example(f"c{n}", one.query, exchanges()[(n + 48) % 96].response) for n, one in enumerate(exchanges()[:8])]


def trained(loaded: Any, encoder: Encoder, folder: Path | None, watched: list[Example], **more: Any) -> Trained:
    plain = recipe()
    changed = replace(
        plain,
        epochs=more.pop("epochs", 4.0),
        batch_size=8,
        opening=0,
        learning_rate=more.pop("learning_rate", plain.learning_rate),
    )
    kept = Checkpoints(folder, "key", 1e9) if folder else None
    return finetune(
        copy.deepcopy(loaded), encoder, EXAMPLES[:32], changed, 2, ignore, heldout=watched, checkpoints=kept, mixed="no", **more
    )


def ignore(_: Progress) -> None:
    """Report nothing."""


@pytest.mark.parametrize("disk", ["room", "none", "full later"])
def test_it_stops_where_the_heldout_loss_has_risen_and_keeps_the_best_weights(
    loaded: Any, encoder: Encoder, tmp_path: Path, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(kept: Checkpoints, path: Path, content: dict[str, Any]) -> None:
        if disk == "full later" and path.name > "best-00000008.pt":
            raise OSError(28, "No space left on device")
        really(kept, path, content)

    really = Checkpoints._write
    monkeypatch.setattr(Checkpoints, "_write", write)
    done = trained(loaded, encoder, None if disk == "none" else tmp_path, CONTRARY, epochs=16.0, learning_rate=3e-3)
    assert bool(list(tmp_path.glob("best*"))) == (disk == "room")
    assert done.stopped == "held-out loss"
    assert done.step < done.steps < 64
    losses = {point["step"]: point["heldout_loss"] for point in done.curve if point["heldout_loss"] is not None}
    assert losses[done.step] <= min(losses.values()) * 1.02
    assert max(losses.values()) > 1.02 * losses[done.step]
    # The weights are those of that step: measured again, they have its loss.
    encoded = [item for example in CONTRARY if (item := encoder.encode(example)) is not None]
    chosen = sample(encoded, 16.0 * 32, 0)
    total, count = 0.0, 0
    for item in chosen:
        with torch.no_grad():
            nll_R, _ = ResponseLoss(done.model).nll(collate([item], 0))
        total, count = total + float(nll_R.sum()), count + len(nll_R)
    assert total / count == pytest.approx(losses[done.step], rel=1e-4)


def test_too_few_to_decide_are_only_written_down(loaded: Any, encoder: Encoder, tmp_path: Path) -> None:
    done = trained(loaded, encoder, tmp_path, CONTRARY[:7], epochs=16.0)
    assert done.stopped == "complete"
    assert done.step == done.steps == 64
    losses = [point["heldout_loss"] for point in done.curve if point["heldout_loss"] is not None]
    assert losses[-1] > 1.02 * min(losses)


def test_the_curve_tells_every_step_of_a_short_run(loaded: Any, encoder: Encoder) -> None:
    done = trained(loaded, encoder, None, EXAMPLES[:8])
    assert [point["step"] for point in done.curve] == list(range(1, 17))
    assert [point["step"] for point in done.curve if point["heldout_loss"] is not None] == list(range(2, 17, 2))
    assert all(point.keys() == {"step", "loss", "heldout_loss", "learning_rate"} for point in done.curve)
    assert max(point["learning_rate"] for point in done.curve) == recipe().learning_rate
    assert done.stopped == "complete"
    assert done.step == done.steps == 16


def test_a_long_curve_is_thinned(loaded: Any, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shammah_trainer.loop._POINTS", 4)
    done = trained(loaded, encoder, None, [])
    assert [point["step"] for point in done.curve] == [4, 8, 12, 16]
    assert sum(point["loss"] for point in done.curve) / 4 == pytest.approx(sum(done.epoch_losses) / 4)


def test_time_that_is_up_ends_it_at_the_best_weights(loaded: Any, encoder: Encoder, tmp_path: Path) -> None:
    ticks = iter(float(n) for n in range(100))
    done = trained(loaded, encoder, tmp_path, EXAMPLES[:8], most_seconds=5.0, clock=lambda: next(ticks))
    assert done.stopped == "time"
    assert done.steps == 5
    assert done.step in (4, 5)
    assert done.curve[-1]["heldout_loss"] is not None
    assert done.curve[-1]["learning_rate"] < 0.5 * recipe().learning_rate


def test_watching_changes_no_weight(loaded: Any, encoder: Encoder) -> None:
    watched, plain = (trained(loaded, encoder, None, held).model.state_dict() for held in (EXAMPLES[:8], []))
    assert all(torch.equal(watched[name], plain[name]) for name in plain)
    assert not any(math.isnan(float(tensor.sum())) for tensor in plain.values())
