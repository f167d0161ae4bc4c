"""The vectors nearest to one: exact among few, and among many first by their signs. Knows ids and numbers, no text.

Above some thousand vectors the signs of their numbers, packed to bits, choose a few thousand by Hamming distance, of which the
cosines decide (Charikar, "Similarity estimation techniques from rounding algorithms", 2002). A vector that is there itself has
distance 0 and is always among them. Numbers are kept in eight bits with one scale for each vector, which moves a cosine by a
few thousandths: 100,000 vectors of 384 numbers take 39 MB, their signs 5 MB.

Legend: N vectors, H dimensions, W words of 64 bits.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
_FIRST_ROOM = 256
# Up to so many vectors the cosines of all are taken; of more, those of this many.
SCANNED = 4096


class Nearest:
    """Vectors of length one by id; grows and shrinks. Not to be shared between threads without a lock."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._steps_NH = np.empty((_FIRST_ROOM, dimensions), np.int8)
        self._scale_N = np.empty(_FIRST_ROOM, np.float32)
        # By words, not by vectors: a sum over words is then a sum of whole arrays.
        self._signs_WN = np.empty((-(-dimensions // 64), _FIRST_ROOM), np.uint64)
        self._ids: list[str] = []
        self._place: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, identity: str) -> bool:
        return identity in self._place

    @property
    def bytes(self) -> int:
        """What the vectors take, room to grow included."""
        return self._steps_NH.nbytes + self._scale_N.nbytes + self._signs_WN.nbytes

    def add(self, ids: Sequence[str], vectors: Floats | Halves) -> None:
        """Take vectors [len(ids), H]; an id that is there gets the new one."""
        places = []
        for identity in ids:
            place = self._place.setdefault(identity, len(self._ids))
            if place == len(self._ids):
                self._ids.append(identity)
            places.append(place)
        self._make_room(len(self._ids))
        vectors_NH = np.asarray(vectors, np.float32)
        step_N = np.maximum(np.abs(vectors_NH).max(axis=1, initial=0.0) / 127.0, 1e-12)
        steps_NH = np.rint(vectors_NH / step_N[:, None])
        self._steps_NH[places] = steps_NH
        # So that what was rounded has length one again.
        self._scale_N[places] = 1.0 / np.maximum(np.sqrt(np.einsum("nh,nh->n", steps_NH, steps_NH)), 1.0)
        self._signs_WN[:, places] = self._packed(vectors_NH)

    def remove(self, identity: str) -> None:
        """Forget a vector; one that is not there is no error. The last one takes its place."""
        place = self._place.pop(identity, None)
        if place is None:
            return
        last = self._ids.pop()
        if last != identity:
            self._ids[place] = last
            self._place[last] = place
            self._steps_NH[place] = self._steps_NH[len(self._ids)]
            self._scale_N[place] = self._scale_N[len(self._ids)]
            self._signs_WN[:, place] = self._signs_WN[:, len(self._ids)]

    def vector(self, identity: str) -> Floats:
        """The vector [H] of an id, as it was kept. Raises KeyError for one that is not there."""
        place = self._place[identity]
        found: Floats = self._steps_NH[place].astype(np.float32) * self._scale_N[place]
        return found

    def nearest(self, vector_H: Floats, count: int) -> list[tuple[str, float]]:
        """At most `count` ids and their cosines, from -1 to 1, the nearest first."""
        total = len(self._ids)
        places = np.arange(total)
        if total > SCANNED:
            mine_W = self._packed(vector_H[None])[:, 0]
            apart_N = np.zeros(total, np.uint16)
            for signs_N, mine in zip(self._signs_WN, mine_W, strict=True):
                apart_N += np.bitwise_count(signs_N[:total] ^ mine)
            places = np.argpartition(apart_N, SCANNED)[:SCANNED]
        # Not the matrix product: its threads wait for each other where others want the cores too.
        cosines = np.einsum("nh,h->n", self._steps_NH[places].astype(np.float32), vector_H) * self._scale_N[places]
        best = np.argsort(-cosines, kind="stable")[:count]
        return [(self._ids[places[at]], float(np.clip(cosines[at], -1.0, 1.0))) for at in best]

    def _packed(self, vectors_NH: Floats) -> npt.NDArray[np.uint64]:
        """Signs [W, N]."""
        bits = np.packbits(vectors_NH > 0, axis=1)
        padded = np.zeros((len(bits), 8 * len(self._signs_WN)), np.uint8)
        padded[:, : bits.shape[1]] = bits
        return padded.view(np.uint64).T

    def _make_room(self, count: int) -> None:
        room = len(self._scale_N)
        if count <= room:
            return
        while room < count:
            # Half as much again: what doubles would hold twice the memory that is needed.
            room += room // 2
        more = room - len(self._scale_N)
        self._steps_NH = np.concatenate([self._steps_NH, np.empty((more, self.dimensions), np.int8)])
        self._scale_N = np.concatenate([self._scale_N, np.empty(more, np.float32)])
        self._signs_WN = np.concatenate([self._signs_WN, np.empty((len(self._signs_WN), more), np.uint64)], axis=1)
