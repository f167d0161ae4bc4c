"""The learned index of a version: the exchanges it was made from, and the vectors of their queries. Knows files, no model.

In the folder that the manifest's `retrieval` names: learned.json, with each distinct answer once, vectors.bin, float16 [N, H]
in the order of the exchanges, and answers.bin, float16 [A, H] in the order of the answers; beside them lies the embedder that
made the vectors. Older versions have no answers.bin.

Legend: N exchanges, A answers, H dimensions.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data import embedder
from shammah_data.durable import plain
from shammah_data.errors import ArtifactError
from shammah_data.manifest import Retrieval

FOLDER = "retrieval"
INDEX = "learned.json"
VECTORS = "vectors.bin"
ANSWERS = "answers.bin"
EMBEDDER = (embedder.NAME, embedder.GRAPH, embedder.TOKENIZER)

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class LearnedAnswer:
    """A distinct answer.

    `prior`: the mean log-probability, in nats, of its first tokens after no question at all, for each graph of the version by
    its path; a graph that is not named has none. `right` and `wrong`: how often it was the right one among the held-out queries
    for which it was the nearest.
    """

    text: str
    prior: dict[str, float]
    right: int = 0
    wrong: int = 0


@dataclass(frozen=True)
class LearnedExchange:
    """An exchange of the snapshot: its id in the log, its query, and the place of its answer."""

    id: str
    query: str
    answer: int


@dataclass(frozen=True)
class Learned:
    """All of a version's index; `vectors` has a row for each exchange, `answer_vectors` for each answer, or is None."""

    answers: tuple[LearnedAnswer, ...]
    exchanges: tuple[LearnedExchange, ...]
    vectors: Halves
    answer_vectors: Halves | None = None

    def save(self, folder: Path) -> None:
        """Write its files to a staging folder; the store sees to it that they last."""
        text = {
            "answers": [[one.text, one.prior, one.right, one.wrong] for one in self.answers],
            "exchanges": [[one.id, one.query, one.answer] for one in self.exchanges],
        }
        (folder / INDEX).write_text(json.dumps(text, ensure_ascii=False), encoding="utf-8", errors="replace")
        (folder / VECTORS).write_bytes(np.ascontiguousarray(self.vectors, "<f2").tobytes())
        if self.answer_vectors is not None:
            (folder / ANSWERS).write_bytes(np.ascontiguousarray(self.answer_vectors, "<f2").tobytes())

    @classmethod
    def load(cls, folder: Path, wanted: Retrieval) -> "Learned":
        """Read what `save` wrote. Raises ArtifactError for anything that is not as the manifest says."""
        path = folder / INDEX
        try:
            raw = json.loads(plain(path).read_text(encoding="utf-8"))
            answers = tuple(_answer(*fields) for fields in raw["answers"])
            exchanges = tuple(_exchange(*fields) for fields in raw["exchanges"])
            flat = np.fromfile(plain(folder / VECTORS), "<f2")
            toward = np.fromfile(plain(folder / ANSWERS), "<f2") if (folder / ANSWERS).exists() else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactError(f"{path}: cannot be read: {error}") from error
        if len(exchanges) != wanted.rows or flat.size != wanted.rows * wanted.dimensions:
            raise ArtifactError(f"{path}: {len(exchanges)} exchanges and {flat.size} numbers are not what the manifest says")
        if any(not 0 <= one.answer < len(answers) for one in exchanges):
            raise ArtifactError(f"{path}: an exchange has no answer")
        if toward is not None and toward.size != len(answers) * wanted.dimensions:
            raise ArtifactError(f"{path}: {len(answers)} answers and {toward.size} numbers are not what the manifest says")
        vectors_AH = None if toward is None else toward.reshape(len(answers), wanted.dimensions)
        return cls(answers, exchanges, flat.reshape(wanted.rows, wanted.dimensions), vectors_AH)


# Written out, for there may be a hundred thousand of them.
def _answer(text: Any, prior: Any, right: Any, wrong: Any) -> LearnedAnswer:
    known = type(prior) is dict and all(type(value) in (int, float) for value in prior.values())
    if not (type(text) is str and known and type(right) is type(wrong) is int):
        raise TypeError("an answer is a text, likelihoods by graph, and two counts")
    return LearnedAnswer(text, prior, right, wrong)


def _exchange(identity: Any, query: Any, answer: Any) -> LearnedExchange:
    if not (type(identity) is type(query) is str and type(answer) is int):
        raise TypeError("an exchange is an id, a query, and the place of an answer")
    return LearnedExchange(identity, query, answer)
