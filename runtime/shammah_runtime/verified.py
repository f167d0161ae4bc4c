"""The learned tier of a version that brings its own index: an earlier answer that the model itself finds likely.

The nearest earlier queries propose up to three answers, which are drafts of the model's own first. Where that one is not sure
enough, the model, which has read the question, reads the first tokens of each of them in one pass; similarity and likelihood
together say how sure one can be of it. Knows the retrieval and the model, no log.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from shammah_data.errors import ShammahError
from shammah_data.exchange import Attempt, named
from shammah_data.judge import facts, normalize, same_facts
from shammah_data.manifest import Evidence
from shammah_data.targets import beyond, held_to
from shammah_data.trust import Record, shift
from shammah_runtime.engine.backing import Backing, Neighbour, at_most
from shammah_runtime.engine.evidence import Candidate, answer_ids, candidates, features, likelihood, sure
from shammah_runtime.engine.model import Memory, Model
from shammah_runtime.followup import depends_on_context
from shammah_runtime.learned import LearnedIndex
from shammah_runtime.neural import interruptible, read_prompt
from shammah_runtime.proposal import REPLACED, Proposal, Query, declined
from shammah_runtime.retrieval import Retrieval
from shammah_runtime.serving import Serving

# Answers that a version did not bring along are read once without a question; of so many that is remembered.
_MOST_PRIORS = 4096
# From this cosine on, a query that contradicts another one is likely what misled the model.
_NEAR = 0.6


@dataclass(frozen=True)
class _Weighed:
    candidate: Candidate
    sure: float
    told: str


class VerifiedTier:
    """Repeats an earlier answer above the threshold that its version has for that; the first one that reaches it."""

    def __init__(
        self,
        models: Serving,
        index: LearnedIndex,
        retrieval: Retrieval,
        most_tokens: Callable[[], int],
        target: float = 0.0,
    ) -> None:
        """`most_tokens`: how long an answer of the model may become; the prompt leaves as much room as the neural tier's.

        `target`: the precision to hold answers to (`shammah_data.targets`); 0 for the version's own.
        """
        self._models = models
        self._index = index
        self._retrieval = retrieval
        self._most_tokens = most_tokens
        self._target = target
        self._priors: dict[tuple[str, str], float] = {}
        self._forget_looked()

    def look(self, query: Query) -> None:
        """Find earlier answers before the model gives its own: they are its drafts, and say what it must not repeat."""
        # What another version found, or was found before something was learned, backs no answer of this one.
        self._forget_looked()
        model = query.version(self._models)
        if model is None or model.memory is None or model.graph.evidence is None:
            return
        with contextlib.suppress(ShammahError):  # `propose` meets it again and tells
            self._candidates(query, model.memory)

    def _forget_looked(self) -> None:
        self._looked: tuple[str, Memory, list[Candidate]] | None = None
        self._neighbours: tuple[str, list[Neighbour]] = "", []
        self._found: tuple[str, list[str]] = "", []
        self._against: tuple[str, list[Candidate]] = "", []

    def _candidates(self, query: Query, memory: Memory) -> list[Candidate]:
        text = query.text
        looked = self._looked
        # Since then the model has answered, perhaps another query of these words: what was found may be forgotten by now.
        known = all(self._index.get(one.id) is not None for one in self._neighbours[1])
        if looked is not None and looked[0] == text and looked[1] is memory and known:
            return looked[2]
        near = self._retrieval.neighbours(memory, text, query.stop)
        found = candidates(text, near)
        self._looked = text, memory, found
        self._neighbours = text, near
        self._found = text, [one.answer for one in found]
        self._against = text, [one for one in found if one.agreeing is None and one.nearest.similarity >= _NEAR]
        return found

    def propose(self, query: Query) -> Proposal | None:
        """The earlier answer, or the reason for none; None where the version that serves can verify nothing."""
        model = query.version(self._models)
        if query.replaced:
            return declined("learned", REPLACED)
        if model is None or model.memory is None or model.graph.evidence is None:
            return None
        evidence = held_to(model.graph.evidence, self._target)
        if depends_on_context(query):
            return declined("learned", "the question depends on earlier turns")
        if evidence.threshold > 1.0:
            reason = beyond(model.graph.evidence, self._target) or "no threshold reached the target precision"
            return declined("learned", f"{model.manifest.version} may not repeat answers: {reason}")
        try:
            return self._propose(query, model, model.memory, evidence)
        except ShammahError as error:
            return declined("learned", str(error))

    def found(self, text: str) -> list[str]:
        """The answers that were found for a query when it was tried last, the likeliest first: drafts for the model's own."""
        asked, answers = self._found
        return answers if asked == text else []

    def neighbours(self, text: str) -> list[Neighbour]:
        """The earlier exchanges that were found for a query when it was tried last, the nearest first."""
        asked, near = self._neighbours
        return near if asked == text else []

    def most(self, text: str) -> Backing:
        """The most that can back any answer to a query that was tried last."""
        near = self.neighbours(text)
        return at_most(near, self._index.alike(text, [one.id for one in near]))

    def against(self, text: str, answer: str) -> str | None:
        """What speaks against this answer of the model to a query that was tried last; None where nothing does.

        It must not give in its own words what only near queries of another meaning got.
        """
        asked, contradicted = self._against
        if self._index.refused(text, answer):
            return "it was wrong when this was asked before"
        for one in contradicted if asked == text else ():
            computed = one.conflict is not None and one.conflict.kind == "number" and _computed(answer, text)
            if not computed and one.conflict is not None and same_facts(one.answer, answer):
                return f"it is the answer to {named(one.nearest.query, 40)}, but {one.conflict.reason}"
        return None

    def verifies(self, query: Query) -> bool:
        """Whether the version that answers this query weighs earlier answers for it."""
        model = query.version(self._models)
        # One that left weighs nothing any more, and what it did not confirm stays unconfirmed.
        return query.replaced or (model is not None and model.memory is not None and model.graph.evidence is not None)

    def _propose(self, query: Query, model: Model, memory: Memory, evidence: Evidence) -> Proposal:
        found = self._candidates(query, memory)
        # What is learned until the same is asked again must be found then.
        self._looked = None
        if not found:
            return declined("learned", "nothing was asked before")
        best: _Weighed | None = None
        against: list[str] = []
        for candidate in found:
            if candidate.agreeing is None:
                reason = candidate.conflict.reason if candidate.conflict else ""
                against.append(f"near {named(candidate.nearest.query, 40)}, but {reason}")
                continue
            if self._index.refused(query.text, candidate.answer):
                against.append(f"the answer to {named(candidate.nearest.query, 40)} was wrong when this was asked before")
                continue
            weighed = self._weigh(query, model, memory, evidence, candidate)
            if best is None or weighed.sure > best.sure:
                best = weighed
            if best.sure >= evidence.threshold:
                break
        if best is None:
            return declined("learned", "; ".join(against), None, evidence.threshold)
        figures = best.sure, evidence.threshold
        # Not `<`, which lets pass what is no number.
        if not best.sure >= evidence.threshold:
            return declined("learned", "; ".join([f"{best.told}, below {evidence.threshold:.2f}", *against]), *figures)
        nearest = best.candidate.agreeing or best.candidate.nearest
        return Proposal(
            Attempt("learned", "accepted", f"{best.told}, at least {evidence.threshold:.2f}", *figures),
            text=nearest.answer,
            model_version=model.manifest.version,
            repeats=nearest.id,
            same_query=normalize(nearest.query) == normalize(query.text),
        )

    def _weigh(self, query: Query, model: Model, memory: Memory, evidence: Evidence, candidate: Candidate) -> _Weighed:
        """How sure one can be of a candidate. The prompt is read once for all of them, and for the neural tier after them."""
        nearest = candidate.agreeing or candidate.nearest
        near = (
            f"the answer to {named(nearest.query)}: similarity {nearest.similarity:.2f}, {candidate.gap:+.2f} to another answer"
        )
        night = self._retrieval.brought(memory, candidate.answer)
        prior = night.prior.get(model.graph.path) if night else None
        record = self._index.record(
            candidate.answer, model.manifest.version, Record(night.right, night.wrong) if night else Record()
        )
        before = f", right {record.right:g} and wrong {record.wrong:g} times before" if record != Record() else ""
        shifted = shift((evidence.prior_right, evidence.prior_wrong), record)
        if prior is not None:
            # As if the model found each of its tokens certain: where that does not do, the model need not be asked.
            best = sure(likelihood(evidence, features(candidate, (0.0,), prior)) + shifted)
            if best < evidence.threshold:
                return _Weighed(candidate, best, f"confidence at most {best:.2f} in {near}{before}")
        prompt = read_prompt(model, query, self._most_tokens())
        ids = answer_ids(model.decoder.tokenizer.answer(candidate.answer, model.decoder.stop_ids))
        logprobs = interruptible(model.decoder, lambda: model.decoder.score(prompt.ids, [ids])[0], query.stop)
        if prior is None:
            prior = self._prior(model, candidate.answer, ids)
        log_odds = likelihood(evidence, features(candidate, logprobs, prior)) + shifted
        told = f"confidence {sure(log_odds):.2f} in {near}, likelihood {sum(logprobs) / len(logprobs):.2f}"
        return _Weighed(candidate, sure(log_odds), f"{told}{before}")

    def _prior(self, model: Model, answer: str, ids: list[int]) -> float:
        key = f"{model.manifest.version}/{model.graph.path}", normalize(answer)
        if key not in self._priors:
            prompt = model.decoder.tokenizer.prompt("")
            logprobs = interruptible(model.decoder, lambda: model.decoder.score(prompt, [ids])[0])
            while len(self._priors) >= _MOST_PRIORS:
                del self._priors[next(iter(self._priors))]
            self._priors[key] = sum(logprobs) / len(logprobs)
        return self._priors[key]


def _computed(answer: str, query: str) -> bool:
    """Whether an answer speaks of the query's own numbers, as that of a sum does."""
    asked = facts(query).numbers
    return bool(asked) and set(asked) <= set(facts(answer).numbers)
