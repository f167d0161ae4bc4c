"""Near-duplicate queries: which ones a split must never part. Knows text, not exchanges.

Two queries are near-duplicates when they hold the same numbers and their character trigrams overlap by at least
`LEAST_OVERLAP` (Jaccard). Numbers are compared apart: "15 + 27" and "15 + 28" look alike and ask different things;
"1,000" is 1000.
"""

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from shammah_data.judge import normalize

LEAST_OVERLAP = 0.7
# Not the commas of "1,2,3", "3,14" and "1,000,5".
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)")
_BUCKETS = 4096
_CHUNK = 1024


class Partition:
    """Disjoint sets over 0..n-1 (union by the smaller root, so that the result does not depend on the order)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, item: int) -> int:
        """The smallest item of the set."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        """Make the sets of a and b one."""
        first, second = sorted((self.root(a), self.root(b)))
        self._parent[second] = first


def near_duplicates(queries: Sequence[str]) -> Partition:
    """Partition queries so that near-duplicates share a set (transitively)."""
    partition = Partition(len(queries))
    plain = [_plain(query) for query in queries]
    numbers = [tuple(sorted(re.findall(r"\d+", text))) for text in plain]
    trigrams = [_trigrams(text) for text in plain]
    for a, b in overlapping(trigrams, LEAST_OVERLAP):
        if numbers[a] == numbers[b]:
            partition.join(a, b)
    return partition


def overlapping(sets: Sequence[frozenset[str]], least: float) -> Iterator[tuple[int, int]]:
    """Pairs of sets, the lower index first, whose overlap is at least so large (Jaccard); two empty sets are the same."""
    for a, b in _candidates(sets, least):
        union = len(sets[a] | sets[b])
        if not union or len(sets[a] & sets[b]) / union >= least:
            yield a, b


def _plain(query: str) -> str:
    """Normalized, numbers without the commas of their thousands."""
    return _THOUSANDS.sub(lambda number: number.group().replace(",", ""), normalize(query))


def _trigrams(plain: str) -> frozenset[str]:
    words = re.sub(r"[^\w+*/%=<>-]+", " ", plain).strip()
    padded = f"  {words} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))


def _candidates(sets: Sequence[frozenset[str]], least: float) -> Iterator[tuple[int, int]]:
    """Pairs whose hashed members overlap enough; hashing can only add pairs, never lose one."""
    marks = np.zeros((len(sets), _BUCKETS), dtype=np.float32)
    for row, members in enumerate(sets):
        # crc32, not hash(): the split must be the same in every process.
        marks[row, [zlib.crc32(member.encode()) % _BUCKETS for member in members]] = 1.0
    sizes = marks.sum(axis=1)
    for start in range(0, len(sets), _CHUNK):
        shared = marks[start : start + _CHUNK] @ marks.T
        union = sizes[start : start + _CHUNK, None] + sizes[None, :] - shared
        rows, columns = np.nonzero(shared >= (least - 0.1) * union)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if start + row < column:
                yield start + row, column
