"""The learned index of a version, and how far its answers can be trusted: measured on held-out queries, as they will be served.

Only what was trained on is looked up while it measures; what is published holds the held-out exchanges too. Knows the engine
that scores and the embedder that retrieves, no torch.
"""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from shammah_data import embedder as card
from shammah_data.binomial import lower_bound
from shammah_data.judge import normalize
from shammah_data.learned import FOLDER, Learned, LearnedAnswer, LearnedExchange
from shammah_data.manifest import Evidence, Retrieval, Step
from shammah_data.trust import CAUTIOUS, Record, fit_prior
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.evidence import likelihood, sure
from shammah_trainer.calibrate import CERTAIN, NOTHING
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind, Report
from shammah_trainer.logistic import Prior, fit_logistic
from shammah_trainer.lookups import Lookup, Priors, Tried, look_up
from shammah_trainer.unlogged import Unlogged, as_repeated

# Few labels must not make the curve a step: weights are drawn towards what tuned small models show.
_PRIOR = Prior(
    weights={"similarity": 8.0, "gap": 6.0, "share": 1.0, "mean": 1.0, "least": 0.1, "opening": 0.3, "lift": 0.3},
    widths={"similarity": 8.0, "gap": 6.0, "share": 2.0, "mean": 1.0, "least": 0.3, "opening": 0.5, "lift": 0.5},
    # Where nothing was seen, an answer is right when its query is nearly the same.
    intercept=-8.0,
)
_FOLDS = 10
# How often a threshold that is not certified may be worse than promised. Stricter than for the model's own answers: these are
# tried on what it is not sure of, and a question that was never logged has near neighbours all the same.
_PROBABLE = 0.25
# However well it did on what was held out, an answer that is more likely wrong than right is not given.
_LEAST_THRESHOLD = 0.5
# Answers, the newest, whose likelihood after no question is measured at night; of others it is when they are first needed.
_MOST_PRIORS = 1000


@dataclass(frozen=True)
class Retrieved:
    """What the manifest says of the index and of the graph's evidence, and figures for the run's record."""

    retrieval: Retrieval
    evidence: Evidence
    figures: dict[str, Any]


def build_index(
    decoder: Decoder,
    graph: str,
    dataset: Dataset,
    questions: Sequence[tuple[Kind, Example]],
    earlier: Earlier,
    given: Mapping[float, Sequence[bool]],
    embedder: Path,
    staging: Path,
    target_precision: float,
    report: Report,
    unlogged: Sequence[Unlogged] = (),
    seed: int = 0,
) -> Retrieved | None:
    """Write the learned index into `staging` and measure the evidence on the held-out `questions`; None without an embedder.

    `graph` is the path that the manifest names the decoder's graph by. `earlier` has looked the questions up. `given`: of each
    question, and then of each `unlogged` one, whether the model's own answer is given, for every target that the version may
    be held to.
    """
    reader, known = earlier.reader, earlier.known
    if reader is None or earlier.vectors_NH is None:
        return None
    held_out = [one for one in (*dataset.heldout_phrasings, *dataset.heldout_groups) if not one.context]
    vectors_NH = np.concatenate([earlier.vectors_NH, reader.embed([example.query for example in held_out])])
    priors = Priors(decoder)
    lookups = look_up(decoder, earlier, questions, report, priors)
    own = given.get(target_precision, ())
    evidence = fit_evidence([*lookups, *as_repeated(unlogged, lookups, seed)], target_precision, own, given)
    records = _records(lookups, evidence)
    texts = list(dict.fromkeys(example.target for example in (*known, *held_out)))
    answers = []
    for place, text in enumerate(texts):
        record = records.get(normalize(text), Record())
        prior = {graph: priors.of(text)} if place >= len(texts) - _MOST_PRIORS or priors.known(text) else {}
        answers.append(LearnedAnswer(text, prior, int(record.right), int(record.wrong)))
        report(place + 1, len(texts))
    place_of = {text: place for place, text in enumerate(texts)}
    exchanges = [LearnedExchange(one.id, one.query, place_of[one.target]) for one in (*known, *held_out)]
    folder = staging / FOLDER
    folder.mkdir()
    Learned(tuple(answers), tuple(exchanges), vectors_NH.astype(np.float16)).save(folder)
    for name in (card.NAME, card.GRAPH, card.TOKENIZER):
        shutil.copyfile(embedder / name, folder / name)
    retrieval = Retrieval(FOLDER, len(exchanges), vectors_NH.shape[1], reader.card.digest)
    return Retrieved(retrieval, evidence, {"evidence": asdict(evidence), "heldout": _counts(lookups, evidence, own)})


def fit_evidence(
    lookups: Sequence[Lookup],
    target_precision: float,
    given: Sequence[bool] = (),
    others: Mapping[float, Sequence[bool]] = MappingProxyType({}),
) -> Evidence:
    """Weights by Newton's method on the penalized likelihood, and a threshold from answers that were not fitted to.

    An earlier answer is only tried where the model's own is not given (`given`, see `build_index`), and those are the harder
    questions: the threshold is chosen on them, for the precision of what is given there. The rule is that of the model's own
    answers (`shammah_trainer.calibrate`), only stricter while there are few labels: on out-of-fold chances, whose folds do not
    divide a group, the most answers whose precision is at least the target with 95% confidence; failing that, with 75%; failing
    that, the surer half of the answers surer than every wrong one. `others`: `given` for each target of the ladder, whose
    thresholds are chosen alike; at a higher target more questions are left, and easier ones.
    """
    weights, intercept = fit(lookups)
    apart: list[list[tuple[float, bool]]] = [[] for _ in lookups]
    folds = {group: n % _FOLDS for n, group in enumerate(sorted({one.group for one in lookups}, key=_order))}
    for fold in sorted(set(folds.values())):
        curve = _evidence(*fit([one for one in lookups if folds[one.group] != fold]), target_precision)
        for n, lookup in enumerate(lookups):
            if folds[lookup.group] == fold:
                apart[n] = _scored([lookup], curve)[0]
    curve_of_all = _evidence(weights, intercept, target_precision)

    def step(target: float, given: Sequence[bool]) -> Step:
        left = [n for n in range(len(lookups)) if not (given and given[n])]
        accepted, right, certified = _accepted([apart[n] for n in left], target)
        # The curve fitted to all has a scale of its own: on it, too, as many answers are given.
        scored = _scored([lookups[n] for n in left], curve_of_all)
        threshold = next((chance for chance, found in _steps(scored) if len(found) >= accepted > 0), NOTHING)
        return Step(target, threshold, accepted, right, certified)

    own = step(target_precision, given)
    ladder = tuple(own if target == target_precision else step(target, others[target]) for target in sorted(others))
    found = replace(
        curve_of_all,
        threshold=own.threshold,
        examples=len(lookups),
        accepted=own.accepted,
        accepted_right=own.accepted_right,
        certified=own.certified,
        ladder=ladder,
    )
    prior_right, prior_wrong = fit_prior(_records(lookups, found).values())
    return replace(found, prior_right=prior_right, prior_wrong=prior_wrong)


def _scored(lookups: Sequence[Lookup], curve: Evidence) -> list[list[tuple[float, bool]]]:
    return [[(sure(likelihood(curve, one.features)), one.right) for one in lookup.tried] for lookup in lookups]


def _order(group: str) -> bytes:
    """A place that does not follow the order in which groups are numbered, the same in every process."""
    return hashlib.sha256(group.encode("utf-8", "replace")).digest()


def _evidence(weights: dict[str, float], intercept: float, target: float) -> Evidence:
    """A curve that accepts nothing."""
    return Evidence(weights, intercept, NOTHING, target, 0, 0, 0, False, *CAUTIOUS)


def _accepted(scored: Sequence[Sequence[tuple[float, bool]]], target: float) -> tuple[int, int, bool]:
    """How many answers are given, how many of them are right, and whether the bound holds at the higher confidence."""
    steps = [given for _, given in _steps(scored)]
    for error in (CERTAIN, _PROBABLE):
        good = [given for given in steps if lower_bound(sum(given), len(given), error) >= target]
        if good:
            return len(good[-1]), sum(good[-1]), error == CERTAIN
    faultless = max((len(given) for given in steps if all(given)), default=0)
    return (faultless + 1) // 2, (faultless + 1) // 2, False


def _steps(scored: Sequence[Sequence[tuple[float, bool]]]) -> Iterator[tuple[float, list[bool]]]:
    """Every threshold worth having, the highest first, and for the answers given at it whether they are right."""
    for step in sorted({chance for tried in scored for chance, _ in tried if chance >= _LEAST_THRESHOLD}, reverse=True):
        yield step, [one for tried in scored if (one := _given(tried, step)) is not None]


def _given(tried: Sequence[tuple[float, bool]], threshold: float) -> bool | None:
    return next((right for chance, right in tried if chance >= threshold), None)


def fit(lookups: Sequence[Lookup]) -> tuple[dict[str, float], float]:
    """Weights and intercept; a weight that comes out negative is left out, so that more evidence never counts against."""
    rows = [one for lookup in lookups for one in lookup.tried]
    return fit_logistic([row.features for row in rows], [row.right for row in rows], _PRIOR)


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


def _counts(lookups: Sequence[Lookup], evidence: Evidence, own: Sequence[bool]) -> dict[str, dict[str, int]]:
    """Per kind of held-out query: asked, right answer among the candidates, given at the threshold, right among those.

    Given is an earlier answer only where the model's own is not (`own`).
    """
    counts = {}
    tried = [lookup for n, lookup in enumerate(lookups) if not (own and own[n])]
    for kind in ("phrasing", "group", "outside"):
        of_kind = [one for one in lookups if one.kind == kind]
        given = [one for lookup in tried if lookup.kind == kind and (one := repeated(lookup, evidence)) is not None]
        counts[kind] = {
            "asked": len(of_kind),
            "found": sum(any(one.right for one in lookup.tried) for lookup in of_kind),
            "accepted": len(given),
            "accepted_right": sum(one.right for one in given),
        }
    return counts
