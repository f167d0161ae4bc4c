"""The exchanges of a night as the runtime will know them: what it finds for a query, and how far that backs an answer.

Only what was trained on is found. Knows the embedder that retrieves, no graph that answers and no torch.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shammah_data import embedder as card
from shammah_data.judge import normalize
from shammah_data.nearest import Nearest
from shammah_data.similarity import Support
from shammah_runtime.engine.backing import Backing, Neighbour, backing
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.engine.evidence import NEIGHBOURS, candidates
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.likeness import nearest

_Vector = npt.NDArray[np.floating]


class Earlier:
    """What was trained on, by the words of the queries and, where there is an embedder, by their meaning.

    Legend: N exchanges that stand alone, H dimensions of the embedder.
    """

    def __init__(self, dataset: Dataset, embedder: Path, after: "Earlier | None" = None) -> None:
        """`embedder`: its folder; without one in it nothing is found by meaning. What the one `after` which this comes has
        embedded is not embedded again. Raises ArtifactError for a damaged embedder.
        """
        self.reader = Embedder(embedder) if (embedder / card.NAME).exists() else None
        self._vector_of: dict[str, _Vector] = after._vector_of if after else {}
        self._train = dataset.train
        # An answer to a follow-up means nothing without what it follows.
        self.known = [example for example in dataset.train if not example.context]
        self._support = Support()
        for example in dataset.train:
            # Only a version that brings its exchanges along knows them in the words that it was taught.
            self._support.add(example.id, example.query, example.target if self.reader else example.given or example.target)
        self._place = {example.id: place for place, example in enumerate(self.known)}
        self._same: dict[str, set[str]] = defaultdict(set)
        for example in self.known:
            self._same[normalize(example.query)].add(example.id)
        self._near: dict[str, list[Neighbour]] = {}
        self._like: dict[str, str] = {}
        self.vectors_NH: npt.NDArray[np.floating] | None = None
        if self.reader is not None and self.known:
            self.vectors_NH = np.stack(self._embedded(self.reader, [example.query for example in self.known]))
            self._answers_NH = np.stack(self._embedded(self.reader, [example.target for example in self.known]))
            self._index = Nearest(self.vectors_NH.shape[1])
            self._index.add([example.id for example in self.known], self.vectors_NH)

    def look_up(self, questions: Sequence[Example]) -> None:
        """Find what is near to many queries at once."""
        queries = list(dict.fromkeys(example.query for example in questions))
        like = nearest([example.query for example in self._train], queries)
        self._like = {query: self._train[place].target for query, place in like.items()}
        if self.reader is None or self.vectors_NH is None:
            return
        for query, vector_H in zip(queries, self._embedded(self.reader, queries), strict=True):
            self._near[query] = [self._neighbour(vector_H, *one) for one in self._index.nearest(vector_H, NEIGHBOURS)]

    def neighbours(self, query: str) -> list[Neighbour]:
        """The nearest exchanges to a query that was looked up, nearest first."""
        return self._near.get(query, [])

    def others(self, example: Example) -> list[Neighbour]:
        """What would be near to a known exchange if nothing of its group were there, nearest first."""
        return self._without(example, {one.id for one in self.known if one.group == example.group})

    def without(self, example: Example) -> list[Neighbour]:
        """What would be near to a known exchange if its query had never been logged in these words, nearest first."""
        return self._without(example, self._same[normalize(example.query)])

    def group(self, identity: str) -> int:
        """The group of a known exchange."""
        return self.known[self._place[identity]].group

    def _without(self, example: Example, hidden: Collection[str]) -> list[Neighbour]:
        if self.vectors_NH is None:
            return []
        vector_H = self.vectors_NH[self._place[example.id]]
        found = self._index.nearest(vector_H, NEIGHBOURS + len(hidden))
        return [self._neighbour(vector_H, *one) for one in found if one[0] not in hidden][:NEIGHBOURS]

    def backing(self, query: str, answer: str, neighbours: Sequence[Neighbour] | None = None) -> Backing:
        """How far what was trained on, or of it these `neighbours`, backs an answer."""
        near = self.neighbours(query) if neighbours is None else neighbours
        return backing(query, answer, near, self._support.of(query, answer))

    def likely(self, query: str) -> list[str]:
        """Answers that the model may well give to a query that was looked up, as they are found when it serves."""
        found = [one.answer for one in candidates(query, self.neighbours(query))]
        return found or ([self._like[query]] if query in self._like else [])

    def _embedded(self, reader: Embedder, texts: Sequence[str]) -> list[_Vector]:
        new = [text for text in dict.fromkeys(texts) if text not in self._vector_of]
        if new:
            self._vector_of.update(zip(new, reader.embed(new), strict=True))
        return [self._vector_of[text] for text in texts]

    def answer_vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        """The vectors of answers, which were embedded with what is known: [len(texts), H]."""
        return np.stack([self._vector_of[text] for text in texts]).astype(np.float16)

    def _neighbour(self, vector_H: _Vector, identity: str, cosine: float) -> Neighbour:
        assert self.vectors_NH is not None
        place = self._place[identity]
        known = self.known[place]
        relevance = float((vector_H - self.vectors_NH[place]) @ self._answers_NH[place])
        return Neighbour(identity, known.query, known.target, cosine, relevance)
