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
from shammah_runtime.stopping import NEVER, Stop

# New queries that a look-up embeds before it answers; `catch_up` does the rest in the background.
_AT_ONCE = 32
_BATCH = 64
# The versions that a trial asks in turn each have an embedder of their own.
_SPACES = 2


class _Space:
    """What there is by one embedder: the vectors of queries and answers, and the queries that are still to be embedded.

    `answers` are those of the version that `brought_by` names, by `answer_of` each exchange: what that version brought by its
    place, others by the exchange.
    """

    def __init__(self, dimensions: int) -> None:
        self.vectors = Nearest(dimensions)
        self.waiting: dict[str, str] = {}
        self.answers = Nearest(dimensions)
        self.answer_of: dict[str, str] = {}
        # The version itself must not be held on to.
        self.brought_by: Callable[[], Memory | None] = lambda: None
        self.brought: dict[str, LearnedAnswer] = {}
        self.wording: dict[str, str] = {}

    def read(self, memory: Memory) -> None:
        """Take what a version says of its answers."""
        if self.brought_by() is memory:
            return
        learned = memory.learned
        self.brought = {normalize(one.text): one for one in learned.answers}
        self.wording = {one.id: learned.answers[one.answer].text for one in learned.exchanges}
        self.answers, self.answer_of = Nearest(learned.vectors.shape[1]), {}
        if learned.answer_vectors is not None:
            self.answers.add([str(place) for place in range(len(learned.answers))], learned.answer_vectors)
            self.answer_of = {one.id: str(one.answer) for one in learned.exchanges}
        self.brought_by = weakref.ref(memory)

    def relevance(self, identity: str, vector_H: Floats) -> float:
        """How much nearer a query is to the answer of a known exchange than its own; see `Neighbour`."""
        key = self.answer_of.get(identity)
        # Of versions without vectors of answers no threshold rests on it; the other may have been forgotten just now.
        if key is None or identity not in self.vectors:
            return 0.0
        return float((vector_H - self.vectors.vector(identity)) @ self.answers.vector(key))

    def has_answer(self, known: Known) -> bool:
        """Whether the vector of this answer is there."""
        key = self.answer_of.get(known.id)
        # What a version brought along is not the answer any more where that has other facts by now.
        return key == known.id or (key is not None and self.wording[known.id] == known.answer)

    def forget(self, identity: str) -> None:
        """Nothing of an exchange is left but what its version holds."""
        self.waiting.pop(identity, None)
        self.vectors.remove(identity)
        if self.answer_of.pop(identity, None) == identity:
            self.answers.remove(identity)


class Retrieval:
    """The vectors of all that a learned index holds, by the embedder of the version that asks."""

    def __init__(self, index: LearnedIndex) -> None:
        self._index = index
        self._lock = threading.RLock()
        # By the digest of the embedder, the one that was asked last at the end.
        self._spaces: dict[str, _Space] = {}
        index.follow(self._added, self._removed)

    def attach(self, memory: Memory) -> None:
        """Hold the vectors of this version's embedder: its own, and those of what it has not seen, which are to be made."""
        self._space(memory)

    def _space(self, memory: Memory) -> _Space:
        with self._lock:
            space = self._spaces.pop(memory.digest, None) or self._made(memory)
            others = {digest: other for digest, other in self._spaces.items() if other.brought_by() is not None}
            # Of versions that are gone nothing is kept.
            self._spaces = dict(list(others.items())[1 - _SPACES :]) | {memory.digest: space}
            return space

    def _made(self, memory: Memory) -> _Space:
        learned = memory.learned
        answers = [one.text for one in learned.answers]
        self._index.seed([Known(one.id, one.query, answers[one.answer]) for one in learned.exchanges])
        known = {one.id: one.query for one in self._index.all()}
        rows = [row for row, one in enumerate(learned.exchanges) if known.get(one.id) == one.query]
        space = _Space(learned.vectors.shape[1])
        space.vectors.add([learned.exchanges[row].id for row in rows], learned.vectors[rows])
        space.waiting = {identity: query for identity, query in known.items() if identity not in space.vectors}
        return space

    def brought(self, memory: Memory, answer: str) -> LearnedAnswer | None:
        """What a version says of an answer, if it brought it along."""
        with self._lock:
            space = self._space(memory)
            space.read(memory)
            return space.brought.get(normalize(answer))

    def catch_up(self, memory: Memory) -> None:
        """Embed all that waits, a batch at a time, so that a query that comes meanwhile waits for no more than one."""
        with self._lock:
            self._space(memory).read(memory)
        while self._embed(memory, _BATCH):
            pass

    def neighbours(self, memory: Memory, query: str, stop: Stop = NEVER) -> list[Neighbour]:
        """The known exchanges with the nearest queries, nearest first.

        Raises ArtifactError when the embedder fails, InterruptedError where `stop` is met on the way.
        """
        self.attach(memory)
        self._embed(memory, _AT_ONCE)
        stop.heed()
        vector_H = memory.embedder.embed([query])[0]
        stop.heed()
        with self._lock:
            space = self._space(memory)
            found = space.vectors.nearest(vector_H, NEIGHBOURS)
            space.read(memory)
            wording = {identity: space.wording[identity] for identity, _ in found if identity in space.wording}
        # The model gives an answer in the words that it was taught, whatever words the log holds.
        self._index.reword(wording)
        listed = [(known, cosine) for identity, cosine in found if (known := self._index.get(identity)) is not None]
        self._embed_answers(memory, space, [known for known, _ in listed])
        stop.heed()
        with self._lock:
            return [
                Neighbour(known.id, known.query, known.answer, cosine, space.relevance(known.id, vector_H))
                for known, cosine in listed
            ]

    def _embed_answers(self, memory: Memory, space: _Space, near: Sequence[Known]) -> None:
        """Embed the answers to near queries that the version did not bring along; of those far away nobody wants to know."""
        with self._lock:
            missing = [known for known in near if not space.has_answer(known)] if len(space.answers) else []
        if not missing:
            return
        vectors_NH = memory.embedder.embed([known.answer for known in missing])
        with self._lock:
            # What was forgotten or corrected while it was embedded is not what was embedded.
            same = [n for n, known in enumerate(missing) if known.id in space.vectors and self._index.get(known.id) == known]
            if same and space.brought_by() is memory:
                space.answers.add([missing[n].id for n in same], vectors_NH[same])
                space.answer_of.update((missing[n].id, missing[n].id) for n in same)

    def _embed(self, memory: Memory, most: int) -> int:
        with self._lock:
            space = self._space(memory)
            taken = dict(list(space.waiting.items())[:most])
        if not taken:
            return 0
        vectors_NH = memory.embedder.embed(list(taken.values()))
        with self._lock:
            # What was forgotten or asked anew while it was embedded is not what was embedded.
            same: Sequence[int] = [n for n, (one, query) in enumerate(taken.items()) if space.waiting.get(one) == query]
            ids = list(taken)
            space.vectors.add([ids[n] for n in same], vectors_NH[list(same)])
            for n in same:
                del space.waiting[ids[n]]
        return len(taken)

    def _added(self, known: Known) -> None:
        with self._lock:
            for space in self._spaces.values():
                space.waiting[known.id] = known.query

    def _removed(self, identity: str) -> None:
        with self._lock:
            for space in self._spaces.values():
                space.forget(identity)
