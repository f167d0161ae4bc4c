"""The learned index of a tiny version: exchanges, the vectors of a tiny embedder, and evidence with given weights."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fakes.bert import make_bert
from shammah_data import embedder as card
from shammah_data.learned import FOLDER, Learned, LearnedAnswer, LearnedExchange
from shammah_data.manifest import Evidence, Retrieval
from shammah_export.embedder import export_embedder
from shammah_runtime.engine.embedder import Embedder


def evidence(threshold: float = 0.5, intercept: float = 0.0, **weights: float) -> Evidence:
    """Evidence with these weights only."""
    return Evidence(weights, intercept, threshold, 0.95, 20, 10, 10, False, 4.75, 0.25)


@dataclass(frozen=True)
class Told:
    """What a version brings along: `rows` are (id, query, answer); `priors` the likelihood of answers after no question.

    `older`: made before versions brought the vectors of answers.
    """

    embedder: Path
    rows: Sequence[tuple[str, str, str]]
    prior: float = -3.0
    right: int = 0
    wrong: int = 0
    older: bool = False

    def put(self, graph: str) -> Callable[[Path], None]:
        """Writes the index into a staging folder, for a graph of this path."""

        def prepare(staging: Path) -> None:
            folder = staging / FOLDER
            folder.mkdir()
            for name in (card.NAME, card.GRAPH, card.TOKENIZER):
                shutil.copyfile(self.embedder / name, folder / name)
            texts = list(dict.fromkeys(answer for _, _, answer in self.rows))
            answers = tuple(LearnedAnswer(text, {graph: self.prior}, self.right, self.wrong) for text in texts)
            exchanges = tuple(LearnedExchange(one, query, texts.index(answer)) for one, query, answer in self.rows)
            embed = Embedder(self.embedder, threads=1).embed
            vectors = embed([query for _, query, _ in self.rows]).astype(np.float16)
            Learned(answers, exchanges, vectors, None if self.older else embed(texts).astype(np.float16)).save(folder)

        return prepare

    @property
    def retrieval(self) -> Retrieval:
        """What the manifest says of it."""
        made = card.EmbedderCard.load(self.embedder)
        return Retrieval(FOLDER, len(self.rows), made.dimensions, made.digest)


def make_embedder(folder: Path, **settings: Any) -> Path:
    """A tiny embedder in `folder`/embedder."""
    target = folder / "embedder"
    target.mkdir()
    export_embedder(make_bert(folder / "bert", **settings), target, name="tiny")
    return target
