"""The exchanges of a night as the runtime will know them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shammah_runtime.engine.embedder import Embedder
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier

KNOWN = [Example(f"{n}", query, f"Desk {n}.", group=n) for n, query in enumerate(("where is the scanner", "book a holiday"))]
ASKED = Example("asked", "the garage is shut", "Desk 3.", group=3)


def known(*examples: Example) -> Dataset:
    return Dataset(examples, (), (), len(examples))


def test_what_was_embedded_is_not_embedded_again(embedder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    embed = Embedder.embed

    def counted(self: Embedder, texts: Sequence[str], *rest: Any) -> Any:
        read.extend(texts)
        return embed(self, texts, *rest)

    monkeypatch.setattr(Embedder, "embed", counted)
    first = Earlier(known(*KNOWN), embedder_folder)
    first.look_up([ASKED])
    second = Earlier(known(*KNOWN, ASKED), embedder_folder, first)
    answers = [example.target for example in (*KNOWN, ASKED)]
    assert sorted(read) == sorted([*(example.query for example in KNOWN), ASKED.query, *answers])
    assert second.vectors_NH is not None
    assert first.vectors_NH is not None
    assert np.array_equal(second.vectors_NH[: len(KNOWN)], first.vectors_NH)
    second.look_up([ASKED])
    assert second.neighbours(ASKED.query)[0].id == ASKED.id
    assert ASKED.id not in {one.id for one in first.neighbours(ASKED.query)}


def test_nothing_asked_finds_nothing(embedder_folder: Path) -> None:
    one = Earlier(known(*KNOWN), embedder_folder)
    one.look_up([])
    assert one.neighbours(ASKED.query) == []
