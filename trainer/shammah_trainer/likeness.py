"""How alike two queries are: by the sentence embedder where the home has one, else by their letters. Knows text only.

Legend: N texts, H dimensions.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shammah_data.embedder import NAME
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.similarity import grams

Floats = npt.NDArray[np.float32]
_BUCKETS = 2048
_CHUNK = 1024


@dataclass(frozen=True)
class Likeness:
    """`vectors` turns texts into rows of length one, float32 [N, H], whose products are cosines.

    From `least` on, two questions whose answers could be one answer may be one question; below `akin` a question is about
    something else. `name` is for the record.
    """

    name: str
    vectors: Callable[[Sequence[str]], Floats]
    least: float
    akin: float


def lexical_vectors(texts: Sequence[str]) -> Floats:
    """Words and their 3- and 4-grams, hashed, weighted by inverse document frequency (Spärck Jones, 1972)."""
    counted = [grams(text) for text in texts]
    frequency: Counter[str] = Counter()
    for one in counted:
        frequency.update(one.keys())
    vectors_NH = np.zeros((len(texts), _BUCKETS), np.float32)
    for row, one in enumerate(counted):
        for gram, count in one.items():
            weight = count * (math.log((1 + len(texts)) / (1 + frequency[gram])) + 1.0)
            vectors_NH[row, zlib.crc32(gram.encode("utf-8", "replace")) % _BUCKETS] += weight
    lengths_N1 = np.linalg.norm(vectors_NH, axis=1, keepdims=True)
    vectors_NH /= np.maximum(lengths_N1, 1e-9)
    return vectors_NH


LEXICAL = Likeness("words", lexical_vectors, 0.08, 0.3)


def likeness_of(home: Home, threads: int, say: Callable[[str], None]) -> Likeness:
    """The embedder of a home, or words where there is none; says so where there is one that cannot be used."""
    if not (home.embedder / NAME).exists():
        return LEXICAL
    from shammah_runtime.engine.embedder import Embedder

    embedder = Embedder(home.embedder, threads)
    try:
        embedder.embed(["Does it work?"])
    except ArtifactError as error:
        say(f"questions are compared by their words: {error}")
        return LEXICAL
    return Likeness("embedder", embedder.embed, 0.3, 0.4)


def nearest(known: Sequence[str], asked: Sequence[str]) -> dict[str, int]:
    """For each text asked, which of the known ones is most like it, by its letters; nothing where none is known."""
    if not known:
        return {}
    vectors_NH = lexical_vectors([*known, *asked])
    best = np.argmax(vectors_NH[len(known) :] @ vectors_NH[: len(known)].T, axis=1)
    return dict(zip(asked, best.tolist(), strict=True))


def alone(texts: Sequence[str], likeness: Likeness) -> list[bool]:
    """For each text, whether none of the others is akin to it."""
    if not texts:
        return []
    vectors_NH = likeness.vectors(texts)
    found: list[bool] = []
    for start in range(0, len(texts), _CHUNK):
        cosines = vectors_NH[start : start + _CHUNK] @ vectors_NH.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -1.0
        found += (cosines.max(axis=1) < likeness.akin).tolist()
    return found
