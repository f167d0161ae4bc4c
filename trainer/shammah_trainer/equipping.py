"""The embedder of a home, made by the first night that has a use for it. Knows when, not how."""

from collections.abc import Callable
from typing import Any

import numpy as np

from shammah_data.embedder import NAME
from shammah_data.errors import ShammahError
from shammah_data.home import Home
from shammah_trainer.dataset import Dataset
from shammah_trainer.likeness import LEXICAL, Likeness

Say = Callable[[str], None]
# What an embedder could say of the questions at most, and at least.
_ALL_ALIKE = Likeness("all alike", lambda texts: np.ones((len(texts), 1), np.float32), 0.0, 2.0)
_NONE_ALIKE = Likeness("none alike", lambda texts: np.ones((len(texts), 1), np.float32), 2.0, 2.0)


def lacks(home: Home, wanted: str) -> bool:
    """Whether an embedder is still to be made."""
    return wanted != "none" and not (home.embedder / NAME).exists()


def equip(home: Home, wanted: str, say: Say) -> None:
    """Make the embedder of a home without one, unless `wanted` is "none"; a night does without where that cannot be."""
    from shammah_trainer.embedder import make_embedder

    if not lacks(home, wanted):
        return
    try:
        make_embedder(wanted, home, say)
    except ShammahError as error:
        say(f"earlier answers are found by their words only: {error}")


def holds_out(dataset: Dataset) -> bool:
    """Whether there is anything that can show what is learned."""
    return bool(dataset.heldout_phrasings or dataset.heldout_groups)


def could_hold_out(split: Callable[..., Dataset], *rows_and_seed: Any) -> bool:
    """Whether a split of these rows holds anything out, whatever an embedder says: looked at before one is fetched."""
    return any(holds_out(split(*rows_and_seed, likeness)) for likeness in (LEXICAL, _ALL_ALIKE, _NONE_ALIKE))
