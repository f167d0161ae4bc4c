"""Which examples an epoch trains on: what was asked rarely is shown more often than its share, what was asked often less.

Knows examples and their answers, no tokens. An answer that was asked for n times is shown n ** SHARE times as often as one that
was asked for once, as languages of few texts are in multilingual models (Arivazhagan et al., "Massively multilingual neural
machine translation in the wild", 2019). What was asked once is mostly never asked again, the less so if nothing else is like
it: it is shown by the chance that it is (Good, "The population frequencies of species", 1953), so that one-off questions do not
crowd out the others. And a long answer costs as much as several short ones: n counts per length.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from shammah_data.judge import normalize
from shammah_trainer.dataset import Example

SHARE = 0.5
_LEAST_CHANCE = 0.15
# Everyday exchanges (groups below 0) take no more of an epoch than this, however few the user's own are.
_MOST_EVERYDAY = 0.2


def balanced(examples: Sequence[Example], rng: random.Random, share: float = SHARE) -> list[Example]:
    """As many examples as there are, drawn so that each answer gets its room; in random order.

    Of an answer's examples none is drawn again before the others were. With `share` 1 every example is drawn once.
    """
    if share >= 1.0:
        return list(examples)
    own = [example for example in examples if example.group >= 0]
    everyday = [example for example in examples if example.group < 0]
    most = round(_MOST_EVERYDAY * len(examples)) if own else len(examples)
    shown = min(len(everyday), most)
    drawn = _drawn(own, len(examples) - shown, share, rng) + rng.sample(everyday, shown)
    rng.shuffle(drawn)
    return drawn


def _drawn(examples: Sequence[Example], total: int, share: float, rng: random.Random) -> list[Example]:
    of_answer: dict[tuple[str, bool], list[Example]] = defaultdict(list)
    for example in examples:
        # A turn in a conversation is an answer of its own.
        of_answer[normalize(example.target), bool(example.context)].append(example)
    groups = list(of_answer.values())
    drawn: list[Example] = []
    answers = [Answer(len(group), len(group[0].target), all(example.alone for example in group)) for group in groups]
    for group, wanted in zip(groups, rooms(answers, total, share), strict=True):
        whole = int(wanted)
        whole += rng.random() < wanted - whole
        drawn += islice(_rounds(group, rng), whole)
    rng.shuffle(drawn)
    # Rounding leaves a few too many or too few.
    missing = total - len(drawn)
    return drawn + rng.choices(examples, k=missing) if missing > 0 else drawn[:total]


@dataclass(frozen=True)
class Answer:
    """How many examples have it, how long it is, and whether their questions are like no others."""

    size: int
    length: int
    alone: bool = False


def rooms(answers: Sequence[Answer], total: int, share: float) -> list[float]:
    """How often an epoch of `total` examples shows each answer."""
    if not answers:
        return []
    once, twice = (sum(answer.size == size for answer in answers) for size in (1, 2))
    chance = min(1.0, max(_LEAST_CHANCE, 2 * twice / once)) if once else 1.0
    typical = median(answer.length for answer in answers)
    weights = [
        _again(answer, chance) * (answer.size * min(1.0, typical / max(1, answer.length))) ** share for answer in answers
    ]
    return [total * weight / sum(weights) for weight in weights]


def _again(answer: Answer, chance: float) -> float:
    """The chance that it is asked for again, higher where its question is like others."""
    if answer.size > 1:
        return 1.0
    return chance if answer.alone else math.sqrt(chance)


def _rounds(group: Sequence[Example], rng: random.Random) -> Iterator[Example]:
    while True:
        yield from rng.sample(list(group), len(group))
