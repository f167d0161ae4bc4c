"""A version as it serves, for the benchmarks that ask it many questions: its real tiers, and what they would say unasked.

The tiers are those of `shammah-serve` but for the one of courtesies. Each question is asked twice: of tiers whose
thresholds are 0, for the answers and how sure they are, and of the deployed ones, for what is given.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.conversation import fill
from shammah_runtime.engine.backing import Backing, backing
from shammah_runtime.engine.choice import Choice, Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model, open_model
from shammah_runtime.learned import LearnedIndex, LearnedTier
from shammah_runtime.models import ModelKeeper
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import Query
from shammah_runtime.retrieval import Retrieval
from shammah_runtime.verified import VerifiedTier


@dataclass(frozen=True)
class Said:
    """An answer, how sure it is, and whether it would be given."""

    text: str = ""
    sure: float = 0.0
    given: bool = False


@dataclass(frozen=True)
class Answered:
    """The model's own answer, and the earlier one that would be repeated where that is not given."""

    own: Said
    earlier: Said

    @property
    def best(self) -> Said:
        """What the cascade gives; where it gives nothing, the surer of the two."""
        if self.own.given or self.earlier.given:
            return self.own if self.own.given else self.earlier
        return max(self.own, self.earlier, key=lambda said: said.sure)


@dataclass(frozen=True)
class Shown:
    """How the model's own answer came to whoever reads it as it streams.

    `committed`: after so many tokens it was shown, None where that was decided at its end; `given`: it stands. `first_ms` and
    `whole_ms`: until the first words could be read, and until the end.
    """

    text: str
    tokens: int
    committed: int | None
    given: bool
    first_ms: float
    whole_ms: float


class Serving:
    """The champion of a home, and all that its log knows."""

    def __init__(self, home: Home, threads: int, tokens: int) -> None:
        """`tokens`: the longest answer. Raises ArtifactError."""
        store = ModelStore(home.models)
        champion = store.pointer().champion
        assert champion is not None
        self.model = open_model(store.folder(champion), store.verify(champion), Wanted(threads=threads))
        self.index = LearnedIndex()
        fill(self.index, ExchangeLog(home))
        self.retrieval = Retrieval(self.index)
        if self.model.memory is not None:
            self.retrieval.attach(self.model.memory)
            self.retrieval.catch_up(self.model.memory)
        self._tokens = tokens
        self._deployed = self._tiers(self.model)
        self._bare = self._tiers(_without_thresholds(self.model))
        self._same = LearnedTier(self.index, Settings().serve.learned_threshold, self._deployed[1].verifies)

    def ask(self, text: str) -> Answered:
        """What the version makes of a question that stands alone."""
        query = Query(text)
        own = self._said(query, *self._bare)
        verified = self._deployed[1]
        given = own.sure > 0.0 and own.sure >= self.model.graph.calibration.threshold
        own = replace(own, given=given)
        repeated = self._bare[1].propose(query)
        earlier = Said()
        if repeated is not None and repeated.accepted:
            earlier = Said(repeated.text, repeated.attempt.confidence or 0.0)
        if not given:
            verified.look(query)
            tried = verified.propose(query)
            if tried is not None and tried.accepted:
                earlier = Said(tried.text, tried.attempt.confidence or 0.0, given=True)
            elif (same := self._same.propose(query)).accepted:
                earlier = Said(same.text, 1.0, given=True)
        return Answered(own, earlier)

    def watch(self, text: str) -> Shown:
        """How the deployed version's own answer would come to a reader, who is told of a cut."""
        pieces: list[str] = []
        times: list[float] = []
        began = time.perf_counter()

        def show(piece: str) -> None:
            pieces.append(piece)
            times.append(time.perf_counter() - began)

        neural, verified = self._deployed
        query = Query(text, cut=pieces.append, show=show)
        verified.look(query)
        said = neural.propose(query)
        whole = time.perf_counter() - began
        shown = said.text or "".join(pieces)
        tokens = said.answer_tokens or len(self.model.decoder.tokenizer.encode(shown))
        return Shown(shown, tokens, said.committed, said.accepted, 1000.0 * (times[0] if times else whole), 1000.0 * whole)

    def _said(self, query: Query, neural: NeuralTier, verified: VerifiedTier) -> Said:
        verified.look(query)
        proposed = neural.propose(query)
        return Said(proposed.text, proposed.attempt.confidence or 0.0) if proposed.accepted else Said()

    def _tiers(self, model: Model) -> tuple[NeuralTier, VerifiedTier]:
        keeper = cast(ModelKeeper, _Held(model))
        verified = VerifiedTier(keeper, self.index, self.retrieval, lambda: self._tokens)

        def backed(query: str, answer: str) -> Backing:
            return backing(query, answer, verified.neighbours(query), self.index.support(query, answer))

        def likely(query: str) -> Sequence[str]:
            if found := verified.found(query):
                return found
            match = self.index.nearest(query)
            return [match.known.answer] if match else []

        decoding = Decoding(max_tokens=self._tokens)
        return NeuralTier(keeper, decoding, backed, likely, verified.against, commit_early=True), verified


class _Held:
    """A keeper of one model."""

    reason = ""

    def __init__(self, model: Model) -> None:
        self._model = model

    def current(self, session: str = "") -> Model:
        return self._model


def _without_thresholds(model: Model) -> Model:
    graph = model.graph
    evidence = replace(graph.evidence, threshold=0.0) if graph.evidence else None
    graph = replace(graph, calibration=replace(graph.calibration, threshold=0.0), evidence=evidence)
    return Model(model.manifest, Choice(graph, model.why), model.decoder, model.memory)
