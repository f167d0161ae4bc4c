"""What is known and may be repeated: earlier exchanges by the words of their queries. Knows words, no model and no vectors.

Similarity is the cosine of word and word-pair counts weighted by inverse document frequency (Spärck Jones, "A statistical
interpretation of term specificity", 1972). Whatever the similarity, nothing may speak against giving two queries one answer
(`shammah_data.guards`).
"""

import itertools
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shammah_data.exchange import Attempt, named
from shammah_data.guards import conflict
from shammah_data.judge import normalize, same_facts
from shammah_data.similarity import Support
from shammah_data.standing import GIVEN, GOOD, displaces, in_force, standing
from shammah_data.trust import Record
from shammah_runtime.followup import depends_on_context
from shammah_runtime.proposal import Proposal, Query, declined

_WORD = re.compile(r"\w+(?:['.+-]\w+)*|[+*/%=<>-]")
# Exchanges that share a word with the query, those with its rarest words first, of which the similarity is taken.
_MOST_COMPARED = 500


@dataclass(frozen=True)
class Known:
    """An earlier exchange that may be repeated.

    `stands`: see `shammah_data.standing`; `said_at`: when its answer was given, or corrected last; None for what a version
    brings along.
    """

    id: str
    query: str
    answer: str
    stands: int = GIVEN
    said_at: datetime | None = None

    def gives_way(self, other: "Known") -> bool:
        """Whether another exchange takes its place, which may be the older one of the two."""
        if self.said_at is None or (other.said_at is not None and other.said_at >= self.said_at):
            return displaces(other.stands, self.stands)
        return not displaces(self.stands, other.stands)


def repeatable(rows: Iterable[Mapping[str, Any]]) -> list[Known]:
    """Of rows as `ExchangeLog.learnable` gives them, which follow no other, the one of each query that stands."""
    return [
        Known(str(row["id"]), row["query"], row["target"], standing(row), row["said_at"].replace(tzinfo=UTC))
        for row in in_force(rows)
    ]


@dataclass(frozen=True)
class Match:
    """The nearest known exchange and its similarity, from 0 to 1."""

    known: Known
    similarity: float


class _Outcome(NamedTuple):
    id: str
    right: bool
    version: str | None


class LearnedIndex:
    """Known exchanges by the words of their queries; grows and shrinks while it serves.

    It also keeps what became of answers that were given: how often one was right, and after which query it was wrong.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Known, Counter[str]]] = {}
        self._by_feature: dict[str, set[str]] = defaultdict(set)
        self._by_query: dict[str, str] = {}
        self._support = Support()
        self._followers: list[tuple[Callable[[Known], None], Callable[[str], None]]] = []
        self._seeded: set[str] = set()
        self._logged: set[str] | None = None
        self._gone: set[str] = set()
        # By the answer, and by query and answer: oldest first.
        self._outcomes: dict[str, list[_Outcome]] = defaultdict(list)
        self._verdicts: dict[tuple[str, str], list[_Outcome]] = defaultdict(list)
        self._judged: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._known)

    def follow(self, added: Callable[[Known], None], removed: Callable[[str], None]) -> None:
        """Be told of every exchange that comes or goes from now on."""
        self._followers.append((added, removed))

    def add(self, known: Known) -> None:
        """Remember an exchange in the place of one with the same id or the same query, where that one gives way.

        One that was forgotten is not remembered again.
        """
        with self._lock:
            # The log may have been read before it was forgotten.
            if known.id in self._gone:
                return
            replaced = {known.id, self._by_query.get(normalize(known.query), known.id)} & self._known.keys()
            if not all(self._known[one][0].gives_way(known) for one in replaced):
                return
            lost = [one for one in replaced if self._remove(one)]
            self._insert(known)
            if self._logged is not None:
                # A version that is made from the log later brings it along.
                self._logged.add(known.id)
        self._tell(lost, [known])

    def seed(self, rows: Iterable[Known]) -> None:
        """Remember exchanges that a version brings along, except what was forgotten since, or has been asked again.

        Where the log holds any of them it holds all that may still be repeated, and the others are left out.
        """
        with self._lock:
            new = []
            for known in rows:
                if known.id in self._known:
                    self._seeded.add(known.id)
                elif known.id not in self._gone and normalize(known.query) not in self._by_query:
                    self._insert(known)
                    self._seeded.add(known.id)
                    new.append(known)
            lost = self._settle()
        self._tell(lost, new)

    def reword(self, wordings: Mapping[str, str]) -> None:
        """Take over, by the id of the exchange, the words that a version gives an answer; not where the facts have changed."""
        with self._lock:
            for identity, text in wordings.items():
                found = self._known.get(identity)
                if found is not None and found[0].answer != text and same_facts(found[0].answer, text):
                    known = replace(found[0], answer=text)
                    self._known[identity] = known, found[1]
                    self._support.add(identity, known.query, text)

    def logged(self, ids: Iterable[str]) -> None:
        """Learn which exchanges the log holds that may be repeated, besides those that are known to; see `seed`."""
        with self._lock:
            # What this process learned while the log was read may not be in it yet.
            self._logged = (self._logged or set()).union(ids)
            lost = self._settle()
        self._tell(lost, [])

    def withdraw(self, exchange_id: str) -> None:
        """Repeat an exchange no more, whatever a version brings along; one that is said anew is added again."""
        with self._lock:
            if self._logged is not None:
                self._logged.discard(exchange_id)
            lost = [exchange_id] if self._remove(exchange_id) else []
        self._tell(lost, [])

    def remove(self, exchange_id: str) -> None:
        """Forget an exchange and what became of its answer, for good; one that is not known is no error."""
        with self._lock:
            self._gone.add(exchange_id)
            for pair in self._judged.pop(exchange_id, ()):
                for said in (self._verdicts[pair], self._outcomes[pair[1]]):
                    said[:] = [one for one in said if one.id != exchange_id]
            lost = [exchange_id] if self._remove(exchange_id) else []
        self._tell(lost, [])

    def get(self, exchange_id: str) -> Known | None:
        """A known exchange by its id."""
        with self._lock:
            found = self._known.get(exchange_id)
        return found[0] if found else None

    def all(self) -> list[Known]:
        """Everything that is known."""
        with self._lock:
            return [known for known, _ in self._known.values()]

    def observe(self, query: str, answer: str, right: bool, version: str | None, exchange_id: str) -> None:
        """Take note that an answer was right or wrong after a query, when this version gave it in this exchange."""
        with self._lock:
            if exchange_id in self._gone:
                return
            pair, outcome = (normalize(query), normalize(answer)), _Outcome(exchange_id, right, version)
            self._outcomes[pair[1]].append(outcome)
            self._verdicts[pair].append(outcome)
            self._judged[exchange_id].add(pair)

    def refused(self, query: str, answer: str) -> bool:
        """Whether this answer was wrong when this very query was asked last; never of a user's own word."""
        last = self._verdicts.get((normalize(query), normalize(answer)), [])[-1:]
        return last != [] and not last[0].right and not self.settled(query, answer)

    def settled(self, query: str, answer: str) -> bool:
        """Whether a user has said that this is the answer to this very query: corrected it to that, or called it good."""
        with self._lock:
            found = self._known.get(self._by_query.get(normalize(query), ""))
        return found is not None and found[0].stands >= GOOD and normalize(found[0].answer) == normalize(answer)

    def record(self, answer: str, version: str, start: Record = Record()) -> Record:
        """What became of an answer, `start` included, with less weight for what other versions gave."""
        for one in self._outcomes.get(normalize(answer), ()):
            start = start.plus(one.right, one.version == version)
        return start

    def support(self, query: str, answer: str) -> float:
        """How alike the nearest known query with this very answer is, from 0 to 1."""
        with self._lock:
            return self._support.of(query, answer)

    def alike(self, query: str, identities: Iterable[str]) -> float:
        """How alike, by its words, the likest of these known queries is, from 0 to 1."""
        with self._lock:
            return self._support.alike(query, identities)

    def forget_answer(self, query: str, answer: str) -> None:
        """Forget the exchange that led to an answer that was rated bad, if one did."""
        with self._lock:
            match = self._nearest(query)
            lost = []
            if match is not None and match.known.answer == answer and self._remove(match.known.id):
                lost = [match.known.id]
        self._tell(lost, [])

    def _insert(self, known: Known) -> None:
        features = _features(known.query)
        self._known[known.id] = (known, features)
        self._by_query[normalize(known.query)] = known.id
        for feature in features:
            self._by_feature[feature].add(known.id)
        self._support.add(known.id, known.query, known.answer)

    def _settle(self) -> list[str]:
        """Drop what a version brought along and the log, being the one it was made from, no longer holds."""
        if self._logged is None or not self._seeded & self._logged:
            return []
        doomed = self._seeded - self._logged
        self._seeded -= doomed
        return [one for one in doomed if self._remove(one)]

    def _tell(self, lost: Iterable[str], new: Iterable[Known]) -> None:
        # Without the lock: a follower may hold one of its own while it asks.
        for added, removed in self._followers:
            for identity in lost:
                removed(identity)
            for known in new:
                added(known)

    def _remove(self, exchange_id: str) -> bool:
        found = self._known.pop(exchange_id, None)
        if found is None:
            return False
        known, features = found
        self._support.remove(exchange_id)
        if self._by_query.get(normalize(known.query)) == exchange_id:
            del self._by_query[normalize(known.query)]
        for feature in features:
            self._by_feature[feature].discard(exchange_id)
        return True

    def nearest(self, query: str, without: str | None = None) -> Match | None:
        """The most similar known exchange but the one with the id `without`, or None when no word is shared."""
        with self._lock:
            return self._nearest(query, without)

    def _nearest(self, query: str, without: str | None = None) -> Match | None:
        if not normalize(query):
            return None  # "?" and "..." are both nothing, and do not say the same
        same = self._by_query.get(normalize(query))
        if same is not None and same != without:
            return Match(self._known[same][0], 1.0)
        features = _features(query)
        candidates: set[str] = set()
        for feature in sorted(features, key=lambda one: len(self._by_feature.get(one, ()))):
            candidates |= self._by_feature.get(feature, set())
            if len(candidates) >= _MOST_COMPARED:
                break
        candidates.discard(without or "")
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
    """Repeats the answer of the nearest known exchange when its query is similar enough.

    Where `verifies` says of a query that a version weighs earlier answers for it, only the same words are similar enough.
    """

    def __init__(self, index: LearnedIndex, threshold: float, verifies: Callable[[Query], bool] = lambda _: False) -> None:
        self._index = index
        self._threshold = threshold
        self._verifies = verifies

    def propose(self, query: Query) -> Proposal:
        """The earlier answer, or the reason for none."""
        if depends_on_context(query):
            return declined("learned", "the question depends on earlier turns")
        match = self._index.nearest(query.text)
        if match is None:
            return declined("learned", "nothing similar was asked before")
        told = f"similarity {match.similarity:.2f} to {named(match.known.query)}"
        if match.similarity < self._threshold:
            return declined("learned", f"{told}, below {self._threshold:.2f}", None, self._threshold)
        same_words = normalize(query.text) == normalize(match.known.query)
        if not same_words and self._verifies(query):
            return declined("learned", f"{told}, which the model did not confirm", None, self._threshold)
        if (found := conflict(query.text, match.known.query)) is not None:
            return declined("learned", f"{told}, but {found.reason}", None, self._threshold)
        if self._index.refused(query.text, match.known.answer):
            return declined("learned", f"{told}, but its answer was wrong when this was asked before", None, self._threshold)
        attempt = Attempt("learned", "accepted", told, None, self._threshold)
        return Proposal(attempt, text=match.known.answer, repeats=match.known.id, same_query=same_words)


def _features(query: str) -> Counter[str]:
    words = _WORD.findall(normalize(query))
    return Counter(words) + Counter(f"{a} {b}" for a, b in itertools.pairwise(words))
