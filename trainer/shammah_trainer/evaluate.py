"""How good an exported graph is, measured through the engine that will serve it. Knows examples and ids, no torch."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from shammah_data.judge import judge
from shammah_runtime.engine.confidence import mean_logprob
from shammah_runtime.engine.model import Decoder
from shammah_runtime.engine.sampling import Decoding
from shammah_trainer.batches import Encoder
from shammah_trainer.dataset import Example

Kind = Literal["phrasing", "group"]
# Answers of other groups that a held-out answer is compared with.
RIVALS = 4


@dataclass(frozen=True)
class Outcome:
    """The model's own answer to a held-out query, and whether it is right; `milliseconds` from query to end."""

    example: Example
    kind: Kind
    text: str
    ids: tuple[int, ...]
    mean_logprob: float
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
                answer.ids,
                mean_logprob(answer.logprobs),
                answer.finished,
                verdict.right and answer.finished,
                verdict.reason if answer.finished else "did not end",
                (clock() - began) * 1000.0,
            )
        )
        report(done + 1, len(examples))
    return outcomes


@dataclass(frozen=True)
class Likelihoods:
    """What the graph thinks of the held-out answers.

    `loss`: mean negative log-likelihood per token, in nats. `wins`: for each query the share of other groups' answers
    that its own answer outscores by mean log-probability per token; 0.5 is what style alone would give.
    """

    loss: float
    wins: tuple[float, ...]


def likelihoods(
    decoder: Decoder, encoder: Encoder, examples: Sequence[Example], seed: int, report: Callable[[int, int], None]
) -> Likelihoods:
    """Score each held-out answer, and a few answers of other groups, under the query.

    Rivals come from the same examples, so that neither side has been seen more often. NaN loss for no examples.
    """
    rng = random.Random(seed)
    total, count = 0.0, 0
    wins = []
    for done, example in enumerate(examples):
        own = encoder.encode(example)
        others = sorted({other.target for other in examples if other.group != example.group and other.target != example.target})
        rivals = rng.sample(others, min(RIVALS, len(others)))
        report(done + 1, len(examples))
        if own is None:
            continue
        encoded = [item for target in rivals if (item := encoder.encode(_retargeted(example, target))) is not None]
        scores = decoder.score(own.prompt, [own.response, *(item.response for item in encoded)])
        total, count = total - sum(scores[0]), count + len(scores[0])
        if encoded:
            mine = mean_logprob(scores[0])
            theirs = [mean_logprob(score) for score in scores[1:]]
            wins.append(sum(1.0 if mine > other else 0.5 if mine == other else 0.0 for other in theirs) / len(theirs))
    return Likelihoods(total / count if count else float("nan"), tuple(wins))


def _retargeted(example: Example, target: str) -> Example:
    return Example(example.id, example.query, target, example.context, example.weight, example.group)
