"""How much earlier queries speak for an answer: do they ask alike? Knows text, no model.

Queries are compared by the cosine of their words' character 3- and 4-grams, weighted by inverse document frequency
(Spärck Jones, "A statistical interpretation of term specificity", 1972): inflections and typing errors stay near.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from shammah_data.judge import normalize

# The newest queries of an answer say enough; a greeting may have been logged a thousand times.
_MOST_COMPARED = 64


class Support:
    """Known queries by the answer they got. Keeps texts and n-gram counts only: a hundred thousand fit a small machine."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, str]] = {}
        self._by_answer: dict[str, dict[str, None]] = defaultdict(dict)
        self._frequency: Counter[str] = Counter()

    def add(self, identity: str, query: str, answer: str) -> None:
        """Remember one query and its answer under an id; an entry with this id is replaced."""
        self.remove(identity)
        key = normalize(answer)
        self._entries[identity] = (query, key)
        self._by_answer[key][identity] = None
        self._frequency.update(grams(query).keys())

    def remove(self, identity: str) -> None:
        """Forget an entry; one that is not known is no error."""
        entry = self._entries.pop(identity, None)
        if entry is None:
            return
        query, key = entry
        del self._by_answer[key][identity]
        if not self._by_answer[key]:
            del self._by_answer[key]
        self._frequency.subtract(grams(query).keys())

    def of(self, query: str, answer: str) -> float:
        """The similarity, from 0 to 1, of the query to the nearest known one with the same answer text; 0 without any."""
        identities = list(self._by_answer.get(normalize(answer), ()))[-_MOST_COMPARED:]
        mine = self._weighted(query)
        return max((_cosine(mine, self._weighted(self._entries[identity][0])) for identity in identities), default=0.0)

    def alike(self, query: str, identities: Iterable[str]) -> float:
        """The similarity, from 0 to 1, of the query to the nearest one among these entries; 0 without any that is known."""
        mine = self._weighted(query)
        known = (self._entries[identity][0] for identity in identities if identity in self._entries)
        return max((_cosine(mine, self._weighted(other)) for other in known), default=0.0)

    def _weighted(self, query: str) -> dict[str, float]:
        total = 1 + len(self._entries)
        return {gram: count * (math.log(total / (1 + self._frequency[gram])) + 1.0) for gram, count in grams(query).items()}


def grams(query: str) -> Counter[str]:
    """The words of a query, marked with '=', and their character 3- and 4-grams, counted."""
    found: Counter[str] = Counter()
    for word in re.findall(r"\w+", normalize(query)):
        padded = f" {word} "
        found[f"={word}"] += 1
        for size in (3, 4):
            found.update(padded[at : at + size] for at in range(len(padded) - size + 1))
    return found


def _cosine(a: dict[str, float], b: dict[str, float]) -> float:
    dot = sum(weight * b[gram] for gram, weight in a.items() if gram in b)
    if not dot:
        return 0.0
    norms = math.sqrt(sum(w * w for w in a.values()) * sum(w * w for w in b.values()))
    return min(1.0, dot / norms)
