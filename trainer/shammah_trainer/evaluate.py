"""How good an exported graph is, measured through the engine that will serve it. Knows examples and ids, no torch."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shammah_data.judge import judge
from shammah_runtime.engine.confidence import Features, features
from shammah_runtime.engine.model import Decoder
from shammah_runtime.engine.sampling import Decoding
from shammah_trainer.batches import Encoder
from shammah_trainer.dataset import Example

# phrasing: another phrasing of a trained group; group: of a group never trained on; outside: nobody can answer it here.
Kind = Literal["phrasing", "group", "outside"]
# Answers of other groups that a held-out answer is compared with.
RIVALS = 4


@dataclass(frozen=True)
class Outcome:
    """The model's own answer to a held-out query, and whether it is right; `milliseconds` from query to end."""

    example: Example
    kind: Kind
    text: str
    features: Features
    finished: bool
    right: bool
    reason: str
    milliseconds: float


def answer_all(
    decoder: Decoder,
    examples: Sequence[tuple[Kind, Example]],
    max_tokens: int,
    report: Callable[[int, int], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Let the model answer every example greedily, as it will when it serves; a right answer holds the facts."""
    outcomes = []
    for done, (kind, example) in enumerate(examples):
        began = clock()
        prompt = decoder.tokenizer.prompt(example.query, example.context)
        answer = decoder.generate(prompt, Decoding(max_tokens=max_tokens))
        verdict = judge(example.target, answer.text)
        outcomes.append(
            Outcome(
                example,
                kind,
                answer.text,
                features(answer.logprobs),
                answer.finished,
                kind != "outside" and verdict.right and answer.finished,
                verdict.reason if answer.finished else "did not end",
                (clock() - began) * 1000.0,
            )
        )
        report(done + 1, len(examples))
    return outcomes


@dataclass(frozen=True)
class Likelihoods:
    """What the graph thinks of the held-out answers.

    `loss`: mean negative log-likelihood per token, in nats. `wins`, one per example: the share of other groups' answers
    that its own answer outscores by mean log-probability per token; 0.5 is what style alone would give. None where there
    is no other answer, or the example does not fit.
    """

    loss: float
    wins: tuple[float | None, ...]


def likelihoods(
    decoder: Decoder, encoder: Encoder, examples: Sequence[Example], seed: int, report: Callable[[int, int], None]
) -> Likelihoods:
    """Score each held-out answer, and a few answers of other groups, under the query.

    Rivals come from the same examples, so that neither side has been seen more often. NaN loss for no examples.
    """
    rng = random.Random(seed)
    total, count = 0.0, 0
    wins: list[float | None] = []
    for done, example in enumerate(examples):
        report(done + 1, len(examples))
        own = encoder.encode(example)
        if own is None:
            wins.append(None)
            continue
        others = {other.target for other in examples if other.group != example.group} - {example.target}
        rivals = rng.sample(sorted(others), min(RIVALS, len(others)))
        encoded = [item for rival in rivals if (item := encoder.encode(replace(example, target=rival))) is not None]
        scores = decoder.score(own.prompt, [own.response, *(item.response for item in encoded)])
        total, count = total - sum(scores[0]), count + len(scores[0])
        mine, *theirs = (sum(score) / len(score) for score in scores)
        wins.append(sum((mine > other) + 0.5 * (mine == other) for other in theirs) / len(theirs) if theirs else None)
    return Likelihoods(total / count if count else float("nan"), tuple(wins))
