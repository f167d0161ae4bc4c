"""Questions as if nothing that asks for the same had been logged: what would back an answer that the model is sure of then.

A new question about a known subject is what a small model is most easily wrong about, and surely so; of such questions a night
holds out hardly any. What is logged tells how near they come: of an exchange everything that asks for the same is hidden, and
the answer that the others back best is a wrong one. How sure a model would be of it that had never seen the group, only another
training could tell. It is taken to be as sure as of its right answers: the worst that can be.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from shammah_data.judge import judge
from shammah_runtime.engine.evidence import Features, candidates
from shammah_runtime.engine.evidence import retrieved as told
from shammah_trainer.dataset import Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Outcome

# Of so many exchanges what is near is looked at.
_LOOKED_AT = 200
_Question = TypeVar("_Question")
# So many questions stand for new ones, for each phrasing held out. With fewer the promise broke; more cost coverage only.
_SHARE = 0.125


@dataclass(frozen=True)
class Unlogged:
    """The answer of other groups that is backed best: what backs it as the model's own and as an earlier one.

    `retrieved` is None where something speaks against repeating it.
    """

    query: str
    group: int
    answer: str
    backing: Features
    retrieved: Features | None


def unlogged(earlier: Earlier, seed: int) -> list[Unlogged]:
    """One for each of many exchanges, the least backed first; none without an embedder."""
    found = []
    for example in looked_at(earlier.known, seed):
        # Another group's answer may say the same all the same.
        others = [one for one in earlier.others(example) if not judge(example.target, one.answer)]
        backed = [(earlier.backing(example.query, one.answer, others), one) for one in candidates(example.query, others)]
        if not backed:
            continue
        backing, candidate = max(backed, key=lambda one: one[0].odds)
        retrieved = None
        if candidate.agreeing is not None:
            retrieved = told(candidate)
        found.append(Unlogged(example.query, example.group, candidate.answer, asdict(backing), retrieved))
    return sorted(found, key=lambda one: (one.backing["odds"], one.query))


def looked_at(known: Sequence[Example], seed: int) -> list[Example]:
    """The exchanges that stand for questions never logged, drawn."""
    return sorted(known, key=lambda one: draw(seed, one.query))[:_LOOKED_AT]


def spaced(found: Sequence[_Question], phrasings: int) -> list[_Question]:
    """As many as are to stand beside so many held-out phrasings, from the least backed to the best."""
    wanted = round(_SHARE * phrasings)
    return [found[(2 * n + 1) * len(found) // (2 * wanted)] for n in range(wanted)] if found else []


def as_answered(found: Sequence[Unlogged], outcomes: Sequence[Outcome], seed: int) -> list[Outcome]:
    """The model's own answers, each with the log-probabilities of one of the right `outcomes`; none where there is none."""
    sure = sorted((one for one in outcomes if one.right), key=lambda one: draw(seed, one.example.query))
    return [
        replace(
            model,
            example=Example(f"unlogged-{n}", one.query, "", group=one.group),
            kind="group",
            text=one.answer,
            features=model.features | one.backing,
            right=False,
            reason="as if never logged",
            early=None if model.early is None else model.early | one.backing,
        )
        for n, one in enumerate(found if sure else ())
        for model in [sure[n % len(sure)]]
    ]


def draw(seed: int, text: str) -> bytes:
    """A key that the text alone decides: what is sorted by it is in an order as good as drawn."""
    return hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "replace")).digest()
