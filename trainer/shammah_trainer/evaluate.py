"""How good an exported graph is, measured through the engine that will serve it. Knows examples and ids, no torch."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from shammah_data.errors import InputError
from shammah_data.judge import judge
from shammah_runtime.engine.backing import Backing, followed
from shammah_runtime.engine.confidence import Features, features
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.evidence import answer_ids
from shammah_trainer.dataset import Example
from shammah_trainer.matching import Matching, match

if TYPE_CHECKING:
    # A run that has nothing to do should not wait for torch.
    from shammah_trainer.batches import Encoder

# phrasing: another phrasing of a trained group; group: of a group never trained on; outside: nobody can answer it here.
Kind = Literal["phrasing", "group", "outside"]
Report = Callable[[int, int], None]
# What was trained on says so much for an answer to a query.
Backs = Callable[[str, str], Backing]
# After so many tokens it is decided whether an answer may be shown before its end: twice those in which a model decides which
# answer it gives.
COMMITTED_AFTER = 8
# Held-out queries whose answers are scored after each other's queries; the work grows with the square.
MOST_MATCHED = 24


@dataclass(frozen=True)
class Outcome:
    """The model's own answer of so many tokens to a held-out query, and whether it is right.

    `milliseconds` from query to end. `early`: the features as they stood after COMMITTED_AFTER tokens, None for a shorter one.
    """

    example: Example
    kind: Kind
    text: str
    features: Features
    finished: bool
    right: bool
    reason: str
    milliseconds: float
    tokens: int = 0
    early: Features | None = None


def answer_all(
    decoder: Decoder,
    examples: Sequence[tuple[Kind, Example]],
    backing: Backs,
    max_tokens: int,
    report: Report,
    clock: Callable[[], float] = time.monotonic,
    likely: Callable[[str], Sequence[str]] = lambda _: (),
) -> list[Outcome]:
    """Let the model answer every example greedily, as it will when it serves; a right answer holds the facts.

    `backing` knows what was trained on. `likely(query)`: answers that the model may well give; they make it faster and change
    nothing.
    """
    outcomes = []
    for done, (kind, example) in enumerate(examples):
        began = clock()
        prompt = decoder.tokenizer.prompt(example.query, example.context)
        try:
            texts = likely(example.query)
            drafts = [decoder.tokenizer.answer(text, decoder.stop_ids) for text in texts]
            answer = decoder.generate(prompt, Decoding(max_tokens=max_tokens), answers=drafts)
        except InputError as error:
            # Too long to be asked: when it serves, such a query is declined as well.
            nothing = features((), Backing())
            outcomes.append(Outcome(example, kind, "", nothing, False, False, str(error), (clock() - began) * 1000.0))
            report(done + 1, len(examples))
            continue
        verdict = judge(example.target, answer.text)
        early = None
        if len(answer.ids) > COMMITTED_AFTER:
            draft = followed(answer.ids[:COMMITTED_AFTER], list(zip(texts, drafts, strict=True)))
            backed = Backing() if draft is None else backing(example.query, draft)
            early = features(answer.logprobs[:COMMITTED_AFTER], backed)
        outcomes.append(
            Outcome(
                example,
                kind,
                answer.text,
                features(answer.logprobs, backing(example.query, answer.text)),
                answer.finished,
                kind != "outside" and verdict.right and answer.finished,
                verdict.reason if answer.finished else "did not end",
                (clock() - began) * 1000.0,
                len(answer.ids),
                early,
            )
        )
        report(done + 1, len(examples))
    return outcomes


def heldout_losses(
    decoder: Decoder, encoder: "Encoder", examples: Sequence[Example], report: Report
) -> list[tuple[float, int] | None]:
    """(nats, tokens) of each example's answer after its query; None for one that does not fit."""
    found: list[tuple[float, int] | None] = []
    for done, example in enumerate(examples):
        report(done + 1, len(examples))
        encoded = encoder.encode(example)
        if encoded is None:
            found.append(None)
            continue
        (scores,) = decoder.score(encoded.prompt, [encoded.response])
        found.append((-sum(scores), len(scores)))
    return found


def mean_of(losses: Sequence[tuple[float, int] | None]) -> float:
    """Mean negative log-likelihood per response token, in nats; NaN when no example fits."""
    count = sum(loss[1] for loss in losses if loss is not None)
    return sum(loss[0] for loss in losses if loss is not None) / count if count else float("nan")


def match_answers(decoder: Decoder, encoder: "Encoder", examples: Sequence[Example], seed: int, report: Report) -> Matching:
    """Score the beginning of every answer of the examples after every query of theirs, at most MOST_MATCHED of them.

    Queries, own answers and rivals come from the same examples, so that none has been seen more often than another.
    """
    fitting = [example for example in _spread(examples) if encoder.encode(example) is not None][:MOST_MATCHED]
    targets = sorted({example.target for example in fitting})
    groups = {example.target: example.group for example in fitting}
    scores_NM = np.zeros((len(fitting), len(targets)))
    for n, example in enumerate(fitting):
        report(n + 1, len(fitting))
        prompt = decoder.tokenizer.prompt(example.query, example.context)
        answers = [answer_ids(decoder.tokenizer.answer(target, decoder.stop_ids)) for target in targets]
        scores_NM[n] = [sum(score) / len(score) for score in decoder.score(prompt, answers)]
    own = [targets.index(example.target) for example in fitting]
    rivals = np.array([[groups[target] != example.group for target in targets] for example in fitting], dtype=bool)
    return match(scores_NM, own, rivals.reshape(len(fitting), len(targets)), seed)


def _spread(examples: Sequence[Example]) -> list[Example]:
    """The same examples, with one of each group before a second of any."""
    seen: Counter[int] = Counter()
    ranked = []
    for n, example in enumerate(examples):
        ranked.append((seen[example.group], n, example))
        seen[example.group] += 1
    return [example for *_, example in sorted(ranked, key=lambda item: item[:2])]
