"""The known exchanges nearest to a query in meaning. Follows the learned index; knows embedders and vectors, no tiers.

A version brings the vectors of the exchanges that it was made from, and of its answers. What is learned while it serves is
embedded as it comes.
"""

import threading
import weakref
from collections.abc import Callable, Sequence

from shammah_data.judge import normalize
from shammah_data.learned import LearnedAnswer
from shammah_data.nearest import Floats, Nearest
from shammah_runtime.engine.backing import Neighbour
from shammah_runtime.engine.evidence import NEIGHBOURS
from shammah_runtime.engine.model import Memory
from shammah_runtime.learned import Known, LearnedIndex

# New queries that a look-up embeds before it answers; `catch_up` does the rest in the background.
_AT_ONCE = 32
_BATCH = 64


class Retrieval:
    """The vectors of all that a learned index holds, by the embedder of the version that asks."""

    def __init__(self, index: LearnedIndex) -> None:
        self._index = index
        self._lock = threading.RLock()
        self._digest: str | None = None
        self._vectors = Nearest(1)
        # Of answers, by `_answer_of` each exchange: those that a version brought by their place, others by the exchange.
        self._answers = Nearest(1)
        self._answer_of: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        # The version itself must not be held on to.
        self._brought_by: Callable[[], Memory | None] = lambda: None
        self._brought: dict[str, LearnedAnswer] = {}
        self._wording: dict[str, str] = {}
        index.follow(self._added, self._removed)

    def attach(self, memory: Memory) -> None:
        """Hold the vectors of this version's embedder: its own, and those of what it has not seen, which are to be made."""
        with self._lock:
            if self._digest == memory.digest:
                return
            learned = memory.learned
            answers = [one.text for one in learned.answers]
            self._index.seed([Known(one.id, one.query, answers[one.answer]) for one in learned.exchanges])
            known = {one.id: one.query for one in self._index.all()}
            rows = [row for row, one in enumerate(learned.exchanges) if known.get(one.id) == one.query]
            self._vectors = Nearest(learned.vectors.shape[1])
            self._vectors.add([learned.exchanges[row].id for row in rows], learned.vectors[rows])
            self._waiting = {identity: query for identity, query in known.items() if identity not in self._vectors}
            self._digest = memory.digest

    def brought(self, memory: Memory, answer: str) -> LearnedAnswer | None:
        """What a version says of an answer, if it brought it along."""
        with self._lock:
            self._read(memory)
            return self._brought.get(normalize(answer))

    def _read(self, memory: Memory) -> None:
        if self._brought_by() is memory:
            return
        learned = memory.learned
        self._brought = {normalize(one.text): one for one in learned.answers}
        self._wording = {one.id: learned.answers[one.answer].text for one in learned.exchanges}
        self._answers, self._answer_of = Nearest(learned.vectors.shape[1]), {}
        if learned.answer_vectors is not None:
            self._answers.add([str(place) for place in range(len(learned.answers))], learned.answer_vectors)
            self._answer_of = {one.id: str(one.answer) for one in learned.exchanges}
        self._brought_by = weakref.ref(memory)

    def catch_up(self, memory: Memory) -> None:
        """Embed all that waits, a batch at a time, so that a query that comes meanwhile waits for no more than one."""
        with self._lock:
            self._read(memory)
        while self._embed(memory, _BATCH):
            pass

    def neighbours(self, memory: Memory, query: str) -> list[Neighbour]:
        """The known exchanges with the nearest queries, nearest first. Raises ArtifactError when the embedder fails."""
        self.attach(memory)
        self._embed(memory, _AT_ONCE)
        vector_H = memory.embedder.embed([query])[0]
        with self._lock:
            found = self._vectors.nearest(vector_H, NEIGHBOURS)
            self._read(memory)
            wording = {identity: self._wording[identity] for identity, _ in found if identity in self._wording}
        # The model gives an answer in the words that it was taught, whatever words the log holds.
        self._index.reword(wording)
        listed = [(known, cosine) for identity, cosine in found if (known := self._index.get(identity)) is not None]
        self._embed_answers(memory, [known for known, _ in listed])
        with self._lock:
            return [
                Neighbour(known.id, known.query, known.answer, cosine, self._relevance(known.id, vector_H))
                for known, cosine in listed
            ]

    def _relevance(self, identity: str, vector_H: Floats) -> float:
        """How much nearer a query is to the answer of a known exchange than its own; see `Neighbour`."""
        key = self._answer_of.get(identity)
        # Of versions without vectors of answers no threshold rests on it; the other may have been forgotten just now.
        if key is None or identity not in self._vectors:
            return 0.0
        return float((vector_H - self._vectors.vector(identity)) @ self._answers.vector(key))

    def _embed_answers(self, memory: Memory, near: Sequence[Known]) -> None:
        """Embed the answers to near queries that the version did not bring along; of those far away nobody wants to know."""
        with self._lock:
            missing = [known for known in near if not self._has_answer(known)] if len(self._answers) else []
        if not missing:
            return
        vectors_NH = memory.embedder.embed([known.answer for known in missing])
        with self._lock:
            # What was forgotten or corrected while it was embedded is not what was embedded.
            same = [n for n, known in enumerate(missing) if known.id in self._vectors and self._index.get(known.id) == known]
            if same and self._brought_by() is memory:
                self._answers.add([missing[n].id for n in same], vectors_NH[same])
                self._answer_of.update((missing[n].id, missing[n].id) for n in same)

    def _has_answer(self, known: Known) -> bool:
        key = self._answer_of.get(known.id)
        # What a version brought along is not the answer any more where that has other facts by now.
        return key == known.id or (key is not None and self._wording[known.id] == known.answer)

    def _embed(self, memory: Memory, most: int) -> int:
        with self._lock:
            taken = dict(list(self._waiting.items())[:most]) if self._digest == memory.digest else {}
        if not taken:
            return 0
        vectors_NH = memory.embedder.embed(list(taken.values()))
        with self._lock:
            # What was forgotten or asked anew while it was embedded is not what was embedded.
            same: Sequence[int] = [n for n, (one, query) in enumerate(taken.items()) if self._waiting.get(one) == query]
            ids = list(taken)
            if self._digest == memory.digest:
                self._vectors.add([ids[n] for n in same], vectors_NH[list(same)])
                for n in same:
                    del self._waiting[ids[n]]
        return len(taken)

    def _added(self, known: Known) -> None:
        with self._lock:
            if self._digest is not None:
                self._waiting[known.id] = known.query

    def _removed(self, identity: str) -> None:
        with self._lock:
            self._waiting.pop(identity, None)
            self._vectors.remove(identity)
            if self._answer_of.pop(identity, None) == identity:
                self._answers.remove(identity)
