"""A training of the tiny model as a process of its own, that can be killed: python -m fakes.training BASE FOLDER METHOD.

Prints a line per step; leaves weights.pt and result.json in FOLDER, and a checkpoint after every step below it.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fakes.tiny import exchanges
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.checkpoints import FOLDER, Checkpoints
from shammah_trainer.dataset import Example
from shammah_trainer.finetune import finetune, load_model
from shammah_trainer.loop import Progress, Recipe, Trained

EXAMPLES = [Example(str(n), one.query, one.response, group=n // 8) for n, one in enumerate(exchanges()[:40])]
STEPS = 20


def recipe(method: str = "full") -> Recipe:
    """Four epochs of five steps, the last of which has one example; what is known by heart is cut.

    `method` may be "rounded": full, through the quantizer.
    """
    if method == "rounded":
        return replace(recipe(), through="int4")
    return Recipe(method, 4, 4.0, 6e-3, 7, 0.3, 0.5, 0, opening=3)


def train(folder: Path, run: Path, method: str, every_step: bool, report: bool) -> Trained:
    """Train what is in the base folder; with `every_step`, a checkpoint follows each step."""
    base = Base.open(folder)
    encoder = Encoder(ChatTokenizer(base.folder / "tokenizer.json", base.chat), base.stop_ids, 128)

    def say(progress: Progress) -> None:
        if report:
            print(f"step {progress.step}", flush=True)

    return finetune(
        load_model(base.folder),
        encoder,
        EXAMPLES[:29],
        recipe(method),
        base.stop_ids[0],
        say,
        heldout=EXAMPLES[32:],
        checkpoints=Checkpoints(run / FOLDER, method, 0.0 if every_step else 1e9, share=1.0),
        mixed="no",
    )


def main() -> None:
    """Train and write down the result."""
    torch.set_num_threads(1)
    run = Path(sys.argv[2])
    trained = train(Path(sys.argv[1]), run, sys.argv[3], every_step=True, report=True)
    if os.environ.get("RANK", "0") != "0":
        return
    torch.save(trained.model.state_dict(), run / "weights.pt")
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    result = {
        "curve": trained.curve,
        "epochs": trained.epoch_losses,
        "step": trained.step,
        "resumed": trained.resumed,
        "processes": processes,
    }
    (run / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
