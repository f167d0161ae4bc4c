"""The peers of scripts/bench forward that repeat earlier answers, and the thresholds from which they do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from serving import Serving

from shammah_data.exclusions import left_out_of
from shammah_data.home import Home
from shammah_data.judge import judge, normalize
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.settings import Settings
from shammah_runtime.engine.confidence import logistic
from shammah_runtime.learned import Known, LearnedIndex, repeatable
from shammah_trainer.calibrate import NOTHING, given
from shammah_trainer.dataset import Example
from shammah_trainer.logistic import Prior, fit_logistic
from shammah_trainer.unlogged import looked_at, spaced

# Where few were asked, a cosine of 0.7 is taken for an even chance.
_PRIOR = Prior(weights={"similarity": 10.0}, widths={"similarity": 10.0}, intercept=-7.0)
_EXACT = "exact cache"
# How sure an exact cache is of the answer to the same words.
_SAME = 1.0


@dataclass(frozen=True)
class Answer:
    """What a contestant would say, and how sure it is: any number that rises with it."""

    text: str = ""
    sure: float = 0.0


@dataclass
class Cache:
    """A peer that repeats earlier answers: `find` gives the answer to a query; `threshold` from where it is given."""

    find: Callable[[str], Answer]
    learn: Callable[[Known], None]
    threshold: float = NOTHING


def caches(serving: Serving, home: Home) -> dict[str, Cache]:
    """The peers that repeat earlier answers, and know all that was logged, as the version does when it serves.

    Their thresholds come from the night's held-out questions, with what it trained on as their log.
    """
    # These import torch, which takes seconds.
    from shammah_trainer.assess import questions_of
    from shammah_trainer.dataset import build_dataset
    from shammah_trainer.likeness import likeness_of

    manifest = serving.model.manifest
    log, until = ExchangeLog(home), datetime.fromisoformat(manifest.snapshot_until)
    left_out = log.read(lambda session: left_out_of(session, until))
    found = read_snapshot(home.runs / manifest.run / "snapshot.parquet")
    train = Settings().train
    dataset = build_dataset(found, train.seed, likeness_of(home, 1, print), left_out)
    taught = [one for one in dataset.train if not one.context]
    # All of it: the night leaves out what is nearly the same as something else.
    logged = repeatable(log.learnable())
    labels = questions_of(dataset, train.seed)
    vectors: dict[str, Any] = {}
    kinds: dict[str, Callable[[], Cache]] = {
        _EXACT: exact,
        "nearest words": words,
        "nearest embedding": lambda: _embedding(serving, vectors),
    }
    made = {}
    for name, make in kinds.items():
        cache = _taught(make, taught)
        said = [cache.find(one.query) for _, one in labels]
        right = [
            kind != "outside" and bool(judge(one.target, answer.text)) for (kind, one), answer in zip(labels, said, strict=True)
        ]
        scored = list(zip((one.sure for one in said), right, strict=True))
        new = sorted(as_if_new(make, taught, train.seed))
        scored += [(sure, False) for sure in spaced(new, len(dataset.heldout_phrasings))]
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        likely = promised(scored)
        accepted, _ = given(likely, [sure for sure, _ in likely], train.target_precision)
        made[name] = make()
        # Nothing held out is asked in the very words of the log: no label speaks for an exact cache, and none is needed.
        made[name].threshold = _SAME if name == _EXACT else scored[accepted - 1][0] if accepted else NOTHING
        for known in logged:
            made[name].learn(known)
    return made


def promised(scored: Sequence[tuple[float, bool]]) -> list[tuple[float, bool]]:
    """The same (similarity, right) with the chance that an answer found at such a similarity is right instead of it."""
    rows, right = [{"similarity": sure} for sure, _ in scored], [label for _, label in scored]
    weights, intercept = fit_logistic(rows, right, _PRIOR)
    return [
        (logistic(intercept + sum(weight * row[name] for name, weight in weights.items())), label)
        for row, label in zip(rows, right, strict=True)
    ]


def _taught(make: Callable[[], Cache], examples: Sequence[Example]) -> Cache:
    cache = make()
    for example in examples:
        cache.learn(_known(example))
    return cache


def _known(example: Example) -> Known:
    return Known(example.id, example.query, example.given or example.target)


def as_if_new(make: Callable[[], Cache], taught: Sequence[Example], seed: int) -> Iterator[float]:
    """How sure a cache is of a wrong answer to each of many questions of which nothing had been logged."""
    for example in looked_at(taught, seed):
        # Another group's answer may say the same all the same.
        others = [one for one in taught if one.group != example.group]
        while others and (found := _taught(make, others).find(example.query)).text:
            if not judge(example.target, found.text):
                yield found.sure
                break
            others = [one for one in others if _known(one).answer != found.text]


def exact() -> Cache:
    """The answer to the same question, whatever its case and spaces."""
    known: dict[str, str] = {}
    return Cache(
        lambda query: Answer(known[normalize(query)], _SAME) if normalize(query) in known else Answer(),
        lambda one: known.update({normalize(one.query): one.answer}),
    )


def words() -> Cache:
    """The answer to the query with the likest words."""
    index = LearnedIndex()

    def find(query: str) -> Answer:
        match = index.nearest(query)
        return Answer(match.known.answer, match.similarity) if match else Answer()

    return Cache(find, index.add)


def _embedding(serving: Serving, embedded: dict[str, Any]) -> Cache:
    """`embedded`: the vectors of queries seen before."""
    memory = serving.model.memory
    assert memory is not None, "the version brings no embedder"
    vectors: list[Any] = []
    answers: list[str] = []

    def vector(text: str) -> Any:
        if text not in embedded:
            embedded[text] = memory.embedder.embed([text])[0]
        return embedded[text]

    def find(query: str) -> Answer:
        if not vectors:
            return Answer()
        cosines = np.stack(vectors) @ vector(query)
        best = int(np.argmax(cosines))
        return Answer(answers[best], float(cosines[best]))

    def learn(one: Known) -> None:
        vectors.append(vector(one.query))
        answers.append(one.answer)

    return Cache(find, learn)
