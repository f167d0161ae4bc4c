"""scripts/bench thresholds: whether what the night promises holds: thresholds from some questions, tried on the others.

Versions that `scripts/bench night --keep DIR` left are asked questions whose answers the data name: other phrasings of what was
logged, questions never logged and questions out of scope, with what was trained on as their log. Then, many times, whole
clusters are drawn until there are as many questions as a night holds out; curve and thresholds come from these as they do at
night, and what they give on all other questions is counted. `below`: the share of splits in which the precision there is lower
than the target, judged by the exact upper 95% limit (Clopper and Pearson, 1934): the promise was not kept. In brackets: what
nine of ten splits lie between.

The data are no part of the project; scripts/streams.py tells what the folder holds.
"""

import argparse
import dataclasses
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

import arguments
import streams

from shammah_data.binomial import lower_bound
from shammah_data.exclusions import left_out_of
from shammah_data.home import Home
from shammah_data.learned import FOLDER
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.confidence import Features, confidence
from shammah_runtime.engine.model import open_model
from shammah_trainer.again import asked_again, imputed
from shammah_trainer.calibrate import calibrate
from shammah_trainer.dataset import Example, build_dataset
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind, answer_all
from shammah_trainer.likeness import likeness_of
from shammah_trainer.logistic import Prior, fit_logistic
from shammah_trainer.lookups import Lookup, Priors, Tried, look_up
from shammah_trainer.retrieved import fit_evidence, repeated
from shammah_trainer.unlogged import Unlogged, spaced, unlogged

_LIMIT = 0.05
# Where few were asked, the curve stays near to what was assumed before any were.
_ASSUMED = {
    "similarity": (8.0, 8.0),
    "gap": (6.0, 6.0),
    "share": (1.0, 2.0),
    "relevance": (6.0, 6.0),
    "mean": (1.0, 1.0),
    "least": (0.1, 0.3),
    "opening": (0.3, 0.5),
    "lift": (0.3, 0.5),
}
_PRIOR = Prior(
    weights={name: weight for name, (weight, _) in _ASSUMED.items()},
    widths={name: width for name, (_, width) in _ASSUMED.items()},
    intercept=-8.0,
)
_KINDS: dict[str, Kind] = {"heldout": "phrasing", "reserved": "group", "outside": "outside"}


@dataclass(frozen=True)
class Label:
    """One question: what speaks for the model's own answer, whether that is right, and the earlier answers to it."""

    kind: str
    cluster: str
    features: Features
    right: bool
    earlier: tuple[Tried, ...]


@dataclass(frozen=True)
class Asked:
    """All questions to one version.

    `unlogged`: what would back answers of other groups to what it was trained on; `again`: what the rest of the log has for
    each known exchange.
    """

    labels: Sequence[Label]
    unlogged: Sequence[Unlogged] = ()
    again: Sequence[Lookup] = ()


def main() -> int:
    """Ask, split, count and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench thresholds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--homes", type=Path, metavar="DIR", help="homes of `scripts/bench night --keep DIR`")
    parser.add_argument("--seeds", type=arguments.seeds, default=[0, 1, 2], metavar="0,1,2")
    parser.add_argument("--events", type=arguments.count, default=500, help="on which the versions were trained")
    parser.add_argument("--sources", default="b77,clinc", help="which clusters of the data")
    parser.add_argument("--heldout", type=arguments.count, default=400, help="other phrasings that are asked")
    parser.add_argument("--reserved", type=arguments.at_least_none, default=100, help="questions never logged that are asked")
    parser.add_argument("--outside", type=arguments.at_least_none, default=100, help="questions out of scope that are asked")
    parser.add_argument("--labels", type=arguments.counts, default=[60, 120, 240], help="on so many thresholds are chosen")
    parser.add_argument("--targets", type=arguments.precisions, default=[0.95])
    parser.add_argument("--splits", type=arguments.count, default=200)
    parser.add_argument(
        "--curve", action="store_true", help="fit the curve of earlier answers to all of it, and print only that"
    )
    parser.add_argument("--keep", type=arguments.output, metavar="FILE", help="write what was asked there")
    parser.add_argument("--asked", type=Path, metavar="FILE", help="what an earlier run kept, instead of asking again")
    given = parser.parse_args()
    if given.asked and not given.asked.is_file():
        parser.error(f"{given.asked}: no such file")
    if given.asked:
        sets = _kept_before(given.asked)
        if not sets:
            parser.error(f"{given.asked}: not what --keep writes")
    elif given.data and given.homes:
        if lacking := streams.missing(given.data, (*streams.FILES, streams.OUTSIDE)):
            parser.error(lacking)
        if unknown := streams.unknown(given.data, given.sources):
            parser.error(unknown)
        if lacking := arguments.lacking(given.homes, [(seed, given.events) for seed in given.seeds]):
            parser.error(lacking)
        sets = [ask(given, seed) for seed in given.seeds]
    else:
        parser.error("--data and --homes, or --asked")
    if given.keep:
        given.keep.write_text(json.dumps([asdict(asked) for asked in sets]) + "\n", encoding="utf-8")
    fewest = min(len(asked.labels) for asked in sets)
    if not all(any(label.kind == "heldout" for label in asked.labels) for asked in sets):
        parser.error("no other phrasings of what was logged were asked")
    if not given.curve and 2 * max(given.labels) > fewest:
        parser.error(f"--labels {max(given.labels)}: {fewest} questions were asked, and as many must be left to try them on")
    for asked in sets:
        heldout = [label.right for label in asked.labels if label.kind == "heldout"]
        told = f"{len(asked.labels)} questions, {len(heldout)} other phrasings"
        print(f"{told}, {mean(heldout):.0%} of them right by the model itself")
    if given.curve:
        print(curve(sets))
        return 0
    for target in given.targets:
        for number in given.labels:
            tell(sets, number, target, given.splits)
    return 0


def _kept_before(path: Path) -> list[Asked]:
    """What --keep wrote there; nothing where that is something else."""
    try:
        return [_asked(found) for found in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError):
        return []


def _asked(found: dict[str, Any]) -> Asked:
    labels = [Label(**{**row, "earlier": tuple(Tried(**one) for one in row["earlier"])}) for row in found["labels"]]
    again = [Lookup(**{**row, "tried": tuple(Tried(**one) for one in row["tried"])}) for row in found.get("again", ())]
    return Asked(labels, [Unlogged(**row) for row in found["unlogged"]], again)


def ask(given: argparse.Namespace, seed: int) -> Asked:
    """All questions to one version, with what it was trained on as its log."""
    home = Home(arguments.kept(given.homes, seed, given.events))
    store = ModelStore(home.models)
    champion = store.pointer().champion
    assert champion is not None
    model = open_model(store.folder(champion), store.verify(champion), Wanted(threads=2))
    log, until = ExchangeLog(home), datetime.fromisoformat(model.manifest.snapshot_until)
    left_out = log.read(lambda session: left_out_of(session, until))
    found = read_snapshot(home.runs / model.manifest.run / "snapshot.parquet")
    train = Settings().train
    dataset = build_dataset(found, train.seed, likeness_of(home, 2, print), left_out)
    with tempfile.TemporaryDirectory(prefix="shammah-thresholds-") as folder:
        stream = streams.stream(given.data, seed, given.events, given.sources, Path(folder) / "stream.jsonl")
    arguments.same_user(home, [event["query"] for event in stream])
    counts = given.heldout, given.reserved, given.outside
    questions = streams.questions(given.data, given.sources, stream, *counts, seed)
    asked: list[tuple[Kind, Example]] = [
        (_KINDS[one.kind], Example(f"asked-{n}", one.query, "", group=n)) for n, one in enumerate(questions)
    ]
    embedder = store.folder(champion) / FOLDER
    earlier = Earlier(dataset, embedder)
    earlier.look_up([example for _, example in asked])
    counter = _counter(len(asked))
    outcomes = answer_all(model.decoder, asked, earlier.backing, streams.ANSWER_TOKENS, counter, likely=earlier.likely)
    lookups = look_up(model.decoder, earlier, asked, counter, Priors(model.decoder))
    labels = [
        Label(
            one.kind,
            one.cluster,
            outcome.features,
            outcome.finished and one.kind == "heldout" and streams.holds(outcome.text, one.facts),
            tuple(
                dataclasses.replace(tried, right=one.kind == "heldout" and streams.holds(tried.answer, one.facts))
                for tried in lookup.tried
            ),
        )
        for one, outcome, lookup in zip(questions, outcomes, lookups, strict=True)
    ]
    held_out = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    whole = Earlier(dataclasses.replace(dataset, train=(*dataset.train, *held_out)), embedder)
    return Asked(labels, unlogged(earlier, train.seed), asked_again(whole, train.seed))


def _counter(total: int) -> Callable[[int, int], None]:
    def report(done: int, _: int) -> None:
        if done % 50 == 0:
            print(f"asked {done} of {total}", file=sys.stderr, flush=True)

    return report


@dataclass(frozen=True)
class Kept:
    """What thresholds give on the questions that they were not chosen on."""

    coverage: float
    given: int
    right: int
    certified: bool
    # Of questions that had to be declined: answered, asked.
    reserved: tuple[int, int]
    outside: tuple[int, int]

    def below(self, target: float) -> bool:
        """Whether the precision is lower than the target beyond chance."""
        wrong = self.given - self.right
        return self.given > 0 and 1.0 - lower_bound(wrong, self.given, _LIMIT) < target


def split(asked: Asked, number: int, target: float, rng: random.Random) -> tuple[Kept, Kept]:
    """The model alone and with earlier answers, on what is left when thresholds were chosen on about so many questions."""
    labels = asked.labels
    clusters = sorted({label.cluster for label in labels})
    rng.shuffle(clusters)
    of = {cluster: [label for label in labels if label.cluster == cluster] for cluster in clusters}
    known: list[Label] = []
    used = set()
    for cluster in clusters:
        if len(known) >= number:
            break
        known += of[cluster]
        used.add(cluster)
    place = {cluster: n for n, cluster in enumerate(clusters)}
    lookups = [_lookup(label) for label in known]
    right = [label.features for label in known if label.right]
    new = spaced(asked.unlogged, sum(label.kind == "heldout" for label in known)) if right else []
    imagined = [(right[n % len(right)] | one.backing, False) for n, one in enumerate(new)]
    calibration, _ = calibrate(
        [*((label.features, label.right) for label in known), *imagined],
        target,
        [*(place[label.cluster] for label in known), *(-1 - n for n in range(len(imagined)))],
    )
    evidence = fit_evidence(lookups, imputed(asked.again, asked.unlogged, lookups, 0), target)
    rest = [label for label in labels if label.cluster not in used]
    alone, whole = [], []
    for label in rest:
        own = label.right if confidence(calibration, label.features) >= calibration.threshold else None
        tried = repeated(_lookup(label), evidence) if own is None else None
        alone.append((label.kind, own))
        whole.append((label.kind, own if tried is None else tried.right))
    return _kept(alone, calibration.certified), _kept(whole, evidence.certified)


def _kept(answers: Sequence[tuple[str, bool | None]], certified: bool) -> Kept:
    """From (kind, right) of each question; None is not answered."""
    asked = {kind: [right for one, right in answers if one == kind] for kind in _KINDS}
    given = [right for _, right in answers if right is not None]
    reserved, outside = ((sum(one is not None for one in asked[kind]), len(asked[kind])) for kind in ("reserved", "outside"))
    return Kept(sum(given) / max(1, len(asked["heldout"])), len(given), sum(given), certified, reserved, outside)


def curve(sets: Sequence[Asked]) -> str:
    """Weights and intercept for `shammah_trainer.retrieved`; a weight that comes out negative is left out."""
    rows = [tried for asked in sets for label in asked.labels for tried in label.earlier]
    weights, intercept = fit_logistic([row.features for row in rows], [row.right for row in rows], _PRIOR)
    told = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    return f"{told}, intercept {intercept:.2f}; {sum(len(asked.labels) for asked in sets)} questions"


def _lookup(label: Label) -> Lookup:
    return Lookup(_KINDS[label.kind], label.cluster, label.earlier)


def tell(sets: Sequence[Asked], number: int, target: float, splits: int) -> None:
    """One line for the model alone and one with earlier answers, over splits of all versions in turn."""
    rng = random.Random(0)
    found = [split(sets[n % len(sets)], number, target, rng) for n in range(splits)]
    print(f"\ntarget {target:.0%}, thresholds from {number} questions, {splits} splits")
    for place, told in enumerate(("the model alone", "and earlier answers")):
        kept = [pair[place] for pair in found]
        given, right = sum(one.given for one in kept), sum(one.right for one in kept)
        coverages = sorted(one.coverage for one in kept)
        print(
            f"  {told:<20} rightly answered {mean(coverages):6.1%} ({coverages[len(kept) // 20]:.0%} to "
            f"{coverages[-1 - len(kept) // 20]:.0%})   precision {_percent(right, given)}   "
            f"below {sum(one.below(target) for one in kept) / len(kept):5.1%}   "
            f"certified {sum(one.certified for one in kept) / len(kept):4.0%}   "
            f"answered of the never logged {_share(one.reserved for one in kept)}, "
            f"out of scope {_share(one.outside for one in kept)}"
        )
    sys.stdout.flush()


def _share(counts: Iterable[tuple[int, int]]) -> str:
    answered, asked = (sum(column) for column in zip(*counts, strict=True))
    return _percent(answered, asked)


def _percent(count: int, of: int) -> str:
    return f"{count / of:6.1%}" if of else "  none"


if __name__ == "__main__":
    sys.exit(main())
