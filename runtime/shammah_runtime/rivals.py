"""What the other version of a trial would have answered to a query: by its own tiers, thresholds and index, on spare time.

Knows the tiers that a version answers with; no log, no teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shammah_data.errors import ShammahError
from shammah_data.guard import Guard
from shammah_data.judge import same_facts
from shammah_runtime.courtesy import Courtesy
from shammah_runtime.engine.backing import Backing, backing
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model
from shammah_runtime.learned import LearnedIndex
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import Query
from shammah_runtime.retrieval import Retrieval
from shammah_runtime.verified import VerifiedTier


@dataclass(frozen=True)
class Said:
    """An answer, None where the version would have declined, and the reason as the tier gives it."""

    answer: str | None
    confidence: float | None
    reason: str

    def same(self, given: str) -> bool:
        """Whether it says what the given answer says."""
        return self.answer is not None and same_facts(given, self.answer)


class Rivals:
    """Asks one version at a time, with vectors and look-ups of its own: those of the version that serves stay as they are."""

    def __init__(
        self,
        index: LearnedIndex,
        guard: Guard,
        decoding: Callable[[], Decoding],
        seconds: float,
        courtesy: Courtesy,
        target: float = 0.0,
    ) -> None:
        """`decoding()`: how answers are drawn now; `seconds`: how long one may take to decode, 0 for any time.

        `target`: the precision to hold answers to (`shammah_data.targets`); 0 for the version's own.
        """
        self._index = index
        self._guard = guard
        self._decoding = decoding
        self._seconds = seconds
        self._courtesy = courtesy
        self._target = target
        self._chosen = _Chosen()
        self._retrieval: Retrieval | None = None

    def ask(self, model: Model, query: Query) -> Said | None:
        """What this version would have answered; None where a user's query came in between, or there is one already."""
        if self._retrieval is None:
            self._retrieval = Retrieval(self._index)
        if model.memory is not None:
            # Not on the engine, and not to be waited for.
            try:
                self._retrieval.attach(model.memory)
                self._retrieval.catch_up(model.memory)
            except ShammahError as error:
                return Said(None, None, str(error))
        verified = VerifiedTier(self._chosen, self._index, self._retrieval, lambda: self._decoding().max_tokens, self._target)
        neural = NeuralTier(
            self._chosen,
            self._decoding(),
            lambda text, answer: self._backing(verified, text, answer),
            verified.found,
            verified.against,
            self._guard,
            self._seconds,
            self._target,
            most=verified.most,
        )
        with self._courtesy.spare() as stop:
            if stop is None:
                return None
            self._chosen.model = model
            asked = Query(query.text, query.context, query.session, stop=stop)
            try:
                verified.look(asked)
                proposals = [neural.propose(asked)]
                if not proposals[0].accepted and (second := verified.propose(asked)) is not None:
                    proposals.append(second)
            except InterruptedError:
                return None
            finally:
                # Who holds on to a version keeps its memory.
                self._chosen.model = None
            if stop.asked():
                return None
        accepted = next((one for one in proposals if one.accepted), None)
        if accepted is not None:
            return Said(accepted.text, accepted.attempt.confidence, accepted.attempt.reason)
        first = proposals[0].attempt
        return Said(None, first.confidence, "; ".join(one.attempt.reason for one in proposals))

    def _backing(self, verified: VerifiedTier, query: str, answer: str) -> Backing:
        return backing(query, answer, verified.neighbours(query), self._index.support(query, answer))


class _Chosen:
    """The version that is asked, whatever the session."""

    reason = "no version is asked"

    def __init__(self) -> None:
        self.model: Model | None = None

    def current(self, session: str = "") -> Model | None:
        return self.model
