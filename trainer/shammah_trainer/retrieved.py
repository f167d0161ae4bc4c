"""The learned index of a version, and how far its answers can be trusted: measured on held-out queries, as they will be served.

For held-out queries only what was trained on is looked up; what is published holds the held-out exchanges too. Knows the engine
that scores and the embedder that retrieves, no torch.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shammah_data.binomial import lower_bound
from shammah_data.judge import normalize
from shammah_data.learned import FOLDER, Learned, LearnedAnswer, LearnedExchange
from shammah_data.manifest import Evidence, Retrieval, Step
from shammah_data.trust import CAUTIOUS, Record, fit_prior
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.evidence import likelihood, sure
from shammah_trainer.again import asked_again, imputed
from shammah_trainer.calibrate import CERTAIN, GUESS, NOTHING
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind, Report
from shammah_trainer.lookups import Lookup, Priors, Tried, look_up
from shammah_trainer.unlogged import Unlogged

# The log-odds that an earlier answer is right (all-MiniLM-L6-v2): one log has too few labels for it. Drawn between a fit to
# 1,800 questions to three tuned small models and one without likelihoods to 7,200 questions (docs/decisions/0017-relevance.md),
# and bent where 1,900 questions to three others showed it to be (docs/decisions/0018-no-answer-on-credit.md).
CURVE = {"similarity": 2.5, "gap": 1.55, "share": 1.75, "relevance": 5.0, "opening": 0.37, "lift": 1.18}
INTERCEPT = -2.95
BEND_FROM, BEND = -0.15, 1.45
# Where the threshold lies, the log's labels decide together with what the curve itself promises, which counts as so many.
_PROMISES = 300.0
# Of the wrong answers that the target allows: the model's own have some, too, and labels that are in part imputed flatter.
_WRONG = 0.5
# What is asked of all answers is asked of each, up to this.
_SURE = 0.95
# Answers, the newest, whose likelihood after no question is measured at night; of others it is when they are first needed.
_MOST_PRIORS = 1000


@dataclass(frozen=True)
class Weigher:
    """A graph that weighs earlier answers: the path that the manifest names it by, and its decoder.

    `given`: of each question whether the model's own answer is given, for every target that the version may be held to.
    """

    path: str
    decoder: Decoder
    given: Mapping[float, Sequence[bool]]


@dataclass(frozen=True)
class Retrieved:
    """What the manifest says of the index and of each graph's evidence, and figures of the first for the run's record.

    `given`: to each question the earlier answer that is given beside the first graph's own, or None.
    """

    retrieval: Retrieval
    evidence: tuple[Evidence, ...]
    figures: dict[str, Any]
    given: tuple[Tried | None, ...]


def build_index(
    weighers: Sequence[Weigher],
    dataset: Dataset,
    questions: Sequence[tuple[Kind, Example]],
    earlier: Earlier,
    staging: Path,
    target_precision: float,
    report: Report,
    unlogged: Sequence[Unlogged] = (),
    seed: int = 0,
) -> Retrieved | None:
    """Write the learned index into `staging` and measure the evidence on the held-out `questions`; None without an embedder.

    The embedder is in its folder already, and `earlier` has looked the questions up. What is kept with the answers is what the
    first of the graphs, one or more, says of them.
    """
    if earlier.reader is None or earlier.vectors_NH is None:
        return None
    held_out = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    folder = staging / FOLDER
    whole = Earlier(replace(dataset, train=(*dataset.train, *held_out)), folder, earlier)
    assert whole.reader is not None
    assert whole.vectors_NH is not None
    asked = asked_again(whole, seed)
    priors = [Priors(one.decoder) for one in weighers]
    lookups, beside, evidence = [], [], []
    for one, its_priors in zip(weighers, priors, strict=True):
        lookups.append(look_up(one.decoder, earlier, questions, report, its_priors))
        beside.append(imputed(asked, unlogged, lookups[-1], seed))
        evidence.append(fit_evidence(lookups[-1], beside[-1], target_precision, one.given))
    records = _records(lookups[0], evidence[0])
    texts = list(dict.fromkeys(example.target for example in whole.known))
    answers = []
    for place, text in enumerate(texts):
        record = records.get(normalize(text), Record())
        newest = place >= len(texts) - _MOST_PRIORS
        prior = {
            one.path: its_priors.of(text)
            for one, its_priors in zip(weighers, priors, strict=True)
            if newest or its_priors.known(text)
        }
        answers.append(LearnedAnswer(text, prior, int(record.right), int(record.wrong)))
        report(place + 1, len(texts))
    place_of = {text: place for place, text in enumerate(texts)}
    exchanges = [LearnedExchange(one.id, one.query, place_of[one.target]) for one in whole.known]
    Learned(tuple(answers), tuple(exchanges), whole.vectors_NH.astype(np.float16), whole.answer_vectors(texts)).save(folder)
    retrieval = Retrieval(FOLDER, len(exchanges), whole.vectors_NH.shape[1], whole.reader.card.digest)
    own = weighers[0].given.get(target_precision, ())
    given = tuple(None if own and own[n] else repeated(lookup, evidence[0]) for n, lookup in enumerate(lookups[0]))
    figures = {
        "evidence": asdict(evidence[0]),
        "labels": {"asked": len(lookups[0]), "imputed": len(beside[0])},
        "heldout": _counts(lookups[0], given),
    }
    return Retrieved(retrieval, tuple(evidence), figures, given)


def fit_evidence(
    asked: Sequence[Lookup], beside: Sequence[Lookup], target_precision: float, targets: Iterable[float] = ()
) -> Evidence:
    """The curve that all versions share, and thresholds for the target of the night and for other `targets`.

    A threshold is the lowest from which on the answers given, the first of each lookup that reaches it, hold the target by the
    labels, those of the held-out questions that were `asked` and those made up `beside` them, and with something to spare by
    the mean of the labels and what the curve promises for the same answers; it is never below the target itself, up to
    _SURE: see `calibrate.least`. What is counted, and certified (a lower 95% bound, as if the threshold had not been
    chosen by the same labels), rests on what was asked.
    """
    beginning = Evidence(CURVE, INTERCEPT, NOTHING, target_precision, len(asked), 0, 0, False, *CAUTIOUS)
    curve = replace(beginning, bend_from=BEND_FROM, bend=BEND)
    scored = [[(sure(likelihood(curve, one.features)), one.right) for one in lookup.tried] for lookup in (*asked, *beside)]
    levels = _levels(scored)

    def step(target: float) -> Step:
        wanted = 1.0 - _WRONG * (1.0 - target)
        good = [
            level
            for level, given, right, expected in levels
            if level >= min(target, _SURE) and right >= target * given and expected >= wanted * given
        ]
        threshold = good[-1] if good else NOTHING
        counted = [right for tried in scored[: len(asked)] for _, right in _given(tried, threshold)]
        certified = bool(counted) and lower_bound(sum(counted), len(counted), CERTAIN) >= target
        return Step(target, threshold, len(counted), sum(counted), certified)

    own = step(target_precision)
    found = replace(
        curve,
        threshold=own.threshold,
        accepted=own.accepted,
        accepted_right=own.accepted_right,
        certified=own.certified,
        ladder=tuple(step(target) for target in sorted({target_precision, *targets})) if targets else (),
    )
    prior_right, prior_wrong = fit_prior(_records(asked, found).values())
    return replace(found, prior_right=prior_right, prior_wrong=prior_wrong)


_Scored = Sequence[tuple[float, bool]]


def _levels(scored: Sequence[_Scored]) -> list[tuple[float, int, int, float]]:
    """Every threshold worth having, the highest first: how many answers are given at it, how many of these are right by their
    labels, and how many by labels and promises together.
    """
    promises = _PROMISES / max(1, len(scored))
    changes: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for tried in scored:
        before = (0.0, 0.0, 0.0)
        for level in sorted({chance for chance, _ in tried if chance >= GUESS}, reverse=True):
            ((chance, label),) = _given(tried, level)
            now = (1.0, float(label), (label + promises * chance) / (1.0 + promises))
            for place in range(3):
                changes[level][place] += now[place] - before[place]
            before = now
    found = []
    total = [0.0, 0.0, 0.0]
    for level in sorted(changes, reverse=True):
        total = [sum(pair) for pair in zip(total, changes[level], strict=True)]
        found.append((level, round(total[0]), round(total[1]), total[2]))
    return found


def _given(tried: _Scored, threshold: float) -> list[tuple[float, bool]]:
    """The first answer that reaches the threshold, or none."""
    return [one for one in tried if one[0] >= threshold][:1]


def repeated(lookup: Lookup, evidence: Evidence) -> Tried | None:
    """The earlier answer that is given, or None."""
    return next((one for one in lookup.tried if sure(likelihood(evidence, one.features)) >= evidence.threshold), None)


def _records(lookups: Sequence[Lookup], evidence: Evidence) -> dict[str, Record]:
    """What became of each answer that would have been given."""
    found: dict[str, Record] = defaultdict(Record)
    for lookup in lookups:
        if (one := repeated(lookup, evidence)) is not None:
            key = normalize(one.answer)
            found[key] = found[key].plus(one.right)
    return found


def _counts(lookups: Sequence[Lookup], given: Sequence[Tried | None]) -> dict[str, dict[str, int]]:
    """Per kind of held-out query: asked, right answer among the candidates, given, right among those."""
    counts = {}
    for kind in ("phrasing", "group", "outside"):
        of_kind = [(lookup, one) for lookup, one in zip(lookups, given, strict=True) if lookup.kind == kind]
        accepted = [one for _, one in of_kind if one is not None]
        counts[kind] = {
            "asked": len(of_kind),
            "found": sum(any(one.right for one in lookup.tried) for lookup, _ in of_kind),
            "accepted": len(accepted),
            "accepted_right": sum(one.right for one in accepted),
        }
    return counts
