"""The learned tier: the answer of an earlier exchange whose query says the same. Knows words, no model.

Similarity is the cosine of word and word-pair counts weighted by inverse document frequency (Spärck Jones, "A statistical
interpretation of term specificity", 1972). The numbers, names and negations of both queries must be the same,
whatever the similarity.
"""

import itertools
import math
import re
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass

from shammah_data.exchange import Attempt
from shammah_data.judge import facts, normalize
from shammah_data.similarity import Support
from shammah_runtime.followup import depends_on_context
from shammah_runtime.proposal import Proposal, Query, declined

_WORD = re.compile(r"\w+(?:['.+-]\w+)*|[+*/%=<>-]")


@dataclass(frozen=True)
class Known:
    """An earlier exchange that may be repeated."""

    id: str
    query: str
    answer: str


@dataclass(frozen=True)
class Match:
    """The nearest known exchange and its similarity, from 0 to 1."""

    known: Known
    similarity: float


class LearnedIndex:
    """Known exchanges by the words of their queries; grows and shrinks while it serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Known, Counter[str]]] = {}
        self._by_feature: dict[str, set[str]] = defaultdict(set)
        self._by_query: dict[str, str] = {}
        self._support = Support()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, known: Known) -> None:
        """Remember an exchange; one with the same id or the same query is replaced."""
        features = _features(known.query)
        with self._lock:
            self._remove(known.id)
            if (older := self._by_query.get(normalize(known.query))) is not None:
                self._remove(older)
            self._known[known.id] = (known, features)
            self._by_query[normalize(known.query)] = known.id
            for feature in features:
                self._by_feature[feature].add(known.id)
            self._support.add(known.id, known.query, known.answer)

    def remove(self, exchange_id: str) -> None:
        """Forget an exchange; one that is not known is no error."""
        with self._lock:
            self._remove(exchange_id)

    def support(self, query: str, answer: str) -> float:
        """How alike the nearest known query with this very answer is, from 0 to 1."""
        with self._lock:
            return self._support.of(query, answer)

    def forget_answer(self, query: str, answer: str) -> None:
        """Forget the exchange that led to an answer that was rated bad, if one did."""
        with self._lock:
            match = self._nearest(query)
            if match is not None and match.known.answer == answer:
                self._remove(match.known.id)

    def _remove(self, exchange_id: str) -> None:
        found = self._known.pop(exchange_id, None)
        if found is None:
            return
        known, features = found
        self._support.remove(exchange_id)
        if self._by_query.get(normalize(known.query)) == exchange_id:
            del self._by_query[normalize(known.query)]
        for feature in features:
            self._by_feature[feature].discard(exchange_id)

    def nearest(self, query: str) -> Match | None:
        """The most similar known exchange, or None when no word is shared."""
        with self._lock:
            return self._nearest(query)

    def _nearest(self, query: str) -> Match | None:
        if not normalize(query):
            return None  # "?" and "..." are both nothing, and do not say the same
        same = self._by_query.get(normalize(query))
        if same is not None:
            return Match(self._known[same][0], 1.0)
        features = _features(query)
        candidates: set[str] = set()
        for feature in features:
            candidates |= self._by_feature.get(feature, set())
        best: Match | None = None
        for identity in candidates:
            known, theirs = self._known[identity]
            similarity = self._cosine(features, theirs)
            if best is None or (similarity, known.id) > (best.similarity, best.known.id):
                best = Match(known, similarity)
        return best

    def _cosine(self, a: Counter[str], b: Counter[str]) -> float:
        dot = sum(count * b[feature] * self._idf(feature) ** 2 for feature, count in a.items() if feature in b)
        if not dot:
            return 0.0
        norms = math.prod(math.sqrt(sum((n * self._idf(f)) ** 2 for f, n in side.items())) for side in (a, b))
        return dot / norms

    def _idf(self, feature: str) -> float:
        return math.log((1 + len(self._known)) / (1 + len(self._by_feature.get(feature, ())))) + 1.0


class LearnedTier:
    """Repeats the answer of the nearest known exchange when its query is similar enough."""

    def __init__(self, index: LearnedIndex, threshold: float) -> None:
        self._index = index
        self._threshold = threshold

    def propose(self, query: Query) -> Proposal:
        """The earlier answer, or the reason for none."""
        if depends_on_context(query):
            return declined("learned", "the question depends on earlier turns")
        match = self._index.nearest(query.text)
        if match is None:
            return declined("learned", "nothing similar was asked before")
        told = f"similarity {match.similarity:.2f} to {match.known.query[:60]!r}"
        if match.similarity < self._threshold:
            return declined("learned", f"{told}, below {self._threshold:.2f}", None, self._threshold)
        mine, theirs = facts(query.text), facts(match.known.query)
        if mine.numbers != theirs.numbers:
            return declined("learned", f"{told}, but the numbers differ", None, self._threshold)
        if mine.negated != theirs.negated:
            return declined("learned", f"{told}, but one of the two is negated", None, self._threshold)
        if other := _other_names(query.text, match.known.query):
            return declined("learned", f"{told}, but only one of the two names {other}", None, self._threshold)
        attempt = Attempt("learned", "accepted", told, None, self._threshold)
        return Proposal(attempt, text=match.known.answer, repeats=match.known.id, same_query=match.similarity == 1.0)


def _other_names(a: str, b: str) -> str | None:
    """The first name that only one of two queries has; looked for in all of the other, where it may be spelled small."""
    for named, text in ((a, normalize(b)), (b, normalize(a))):
        for name in sorted(facts(named).names):
            if name not in text:
                return name
    return None


def _features(query: str) -> Counter[str]:
    words = _WORD.findall(normalize(query))
    return Counter(words) + Counter(f"{a} {b}" for a, b in itertools.pairwise(words))
