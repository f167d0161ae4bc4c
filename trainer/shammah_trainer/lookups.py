"""The earlier answers to held-out questions, as they would be found and weighed when they are served.

Knows the engine that scores, no thresholds and no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shammah_data.errors import InputError
from shammah_data.judge import judge
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.evidence import Candidate, Features, answer_ids, candidates, features
from shammah_trainer.dataset import Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind, Report


@dataclass(frozen=True)
class Tried:
    """A candidate for a held-out query: what speaks for it, and whether its answer is right."""

    answer: str
    features: Features
    right: bool


@dataclass(frozen=True)
class Lookup:
    """A held-out query and the candidates that nothing speaks against, in the order in which they are tried."""

    kind: Kind
    group: str
    tried: tuple[Tried, ...]


class Priors:
    """The mean log-probability of an answer's first tokens after no question; each answer is read once."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._prompt = decoder.tokenizer.prompt("")
        self._found: dict[str, float] = {}

    def known(self, text: str) -> bool:
        """Whether this answer was read already."""
        return text in self._found

    def of(self, text: str) -> float:
        """Nats per token, at most 0."""
        if text not in self._found:
            ids = answer_ids(self._decoder.tokenizer.answer(text, self._decoder.stop_ids))
            (logprobs,) = self._decoder.score(self._prompt, [ids])
            self._found[text] = sum(logprobs) / len(logprobs)
        return self._found[text]


def look_up(
    decoder: Decoder, earlier: Earlier, questions: Sequence[tuple[Kind, Example]], report: Report, priors: Priors
) -> list[Lookup]:
    """The earlier answers to questions that `earlier` has looked up, weighed by the model, and which of them are right."""
    lookups = []
    for done, (kind, example) in enumerate(questions):
        found = [one for one in candidates(example.query, earlier.neighbours(example.query)) if one.agreeing is not None]
        tried = tuple(
            Tried(one.answer, told, kind != "outside" and bool(judge(example.target, one.answer)))
            for one, told in zip(found, _weighed(decoder, priors, example, found), strict=True)
        )
        # Questions from outside belong to no group of the log: each is one of its own.
        lookups.append(Lookup(kind, example.id if kind == "outside" else str(example.group), tried))
        report(done + 1, len(questions))
    return lookups


def _weighed(decoder: Decoder, priors: Priors, example: Example, found: Sequence[Candidate]) -> list[Features]:
    if not found:
        return []
    ids = [answer_ids(decoder.tokenizer.answer(one.answer, decoder.stop_ids)) for one in found]
    try:
        scores = decoder.score(decoder.tokenizer.prompt(example.query, example.context), ids)
    except InputError:
        # Too long to be asked: when it serves, such a query is declined as well.
        return [features(one, (-np.inf,), 0.0) for one in found]
    return [features(one, logprobs, priors.of(one.answer)) for one, logprobs in zip(found, scores, strict=True)]
