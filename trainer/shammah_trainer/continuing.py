"""From which weights a night starts, and on what it then trains. Knows what was learned before, touches no tensor.

Continued is only what is a prefix of today: the same base, and nothing forgotten or rated bad since. What is new, or has got
another answer, is then trained on together with a bounded sample of the rest, so that a night takes as long as its day was.
Every so many nights one starts from the base again: errors do not add up for ever. Not more often: a few passes over everything
teach less than the passes of all the nights before did (docs/decisions/0021-nights-upon-one-another.md).
"""

import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shammah_data.durable import atomic_write
from shammah_data.errors import ArtifactError
from shammah_data.manifest import Manifest
from shammah_data.settings import Start
from shammah_data.store import ModelStore
from shammah_data.text import counted
from shammah_trainer.dataset import BEHIND, Dataset, Example, without_held_out
from shammah_trainer.duplicates import near_duplicates

_LINEAGE = "lineage.json"
# Older exchanges beside each new one, and at least.
_OLDER = 2.0
_LEAST_OLDER = 200
# What earlier nights learned cannot be held out today; with less than this share of the held-out left, too little is measured.
_LEAST_HELDOUT = 0.67


@dataclass(frozen=True)
class Lineage:
    """What the weights of a run have learned since the base.

    `learned`: every exchange trained on, by id, with a digest of its answer. `nights`: runs since the base, that one included.
    `rows`: rows of the snapshot with which the first of them began.
    """

    learned: dict[str, str]
    nights: int
    rows: int

    def write(self, run: Path) -> None:
        """Keep it in the folder of the run."""
        atomic_write(run / _LINEAGE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, run: Path) -> "Lineage | None":
        """That of a run; None where it cannot be read."""
        try:
            content = json.loads((run / _LINEAGE).read_text(encoding="utf-8"))
            return cls(dict(content["learned"]), int(content["nights"]), int(content["rows"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Predecessor:
    """The champion as something to start from. `folder` holds its float weights; `name` tells them from all others."""

    folder: Path
    name: str
    base_sha256: str
    lineage: Lineage
    saw_forgotten: bool


@dataclass(frozen=True)
class Beginning:
    """The decision. `predecessor` is None where the night starts from the base; `reason` is one line."""

    predecessor: Predecessor | None
    reason: str


def champion(store: ModelStore, runs: Path, stale: Collection[str]) -> Predecessor | str:
    """The champion and its weights, or why there is nothing to continue from. `stale`: versions that saw what was forgotten."""
    try:
        version = store.pointer().champion
        if version is None:
            return "there is no champion"
        manifest = Manifest.load(store.folder(version))
    except ArtifactError as error:
        return str(error)
    run = runs / manifest.run
    folder = next((run / name for name in ("learned", "merged") if (run / name / "config.json").is_file()), None)
    lineage = Lineage.read(run)
    if folder is None or lineage is None:
        return f"the weights of {version} are no longer there"
    return Predecessor(folder, f"{manifest.run}/{folder.name}", manifest.base_sha256, lineage, version in stale)


def runs_that_serve(store: ModelStore) -> set[str]:
    """The runs of the versions that the pointer names: their weights are what a night may continue from."""
    found = set()
    # What is damaged is told of where it is loaded; nothing can be continued from it.
    with contextlib.suppress(ArtifactError):
        pointer = store.pointer()
        for version in {pointer.champion, pointer.previous, pointer.candidate} - {None}:
            with contextlib.suppress(ArtifactError):
                found.add(Manifest.load(store.folder(str(version))).run)
    return found


def begin(
    start: Start, base_sha256: str, found: Predecessor | str, rows: Collection[str], nights: int, last: Mapping[str, Any] | None
) -> Beginning:
    """Whether to continue. `rows`: ids of today's snapshot; `nights`: after how many a night starts from the base again.

    `last`: the record of the run before, if there was one. What was forgotten is never continued from, whatever `start` says,
    nor are weights of another base.
    """
    if start == "base":
        return Beginning(None, "the settings say so")
    if isinstance(found, str):
        return Beginning(None, found)
    if found.base_sha256 != base_sha256:
        return Beginning(None, "the base is another one")
    if found.saw_forgotten or not found.lineage.learned.keys() <= set(rows):
        return Beginning(None, "what the champion learned was forgotten or rated bad since")
    # Where what began anew was worse than the champion, the next nights go on from that.
    if start == "auto" and found.lineage.nights % nights == 0 and not _refused_from_base(last):
        return Beginning(None, f"{counted(found.lineage.nights, 'night was', 'nights were')} built upon one another")
    return Beginning(found, f"night {found.lineage.nights + 1} upon one another")


def _refused_from_base(last: Mapping[str, Any] | None) -> bool:
    return last is not None and last["status"] == "refused" and last["figures"].get("start", {}).get("from") == "base"


def without_known(dataset: Dataset, known: Mapping[str, str]) -> Dataset | None:
    """The dataset with nothing held out that earlier nights trained on, nor its like; None where too little would be left.

    `known`: the queries of what they trained on, by their ids. Of a question that was asked again the dataset has the newest
    exchange only, which is not the one that was trained on then. What is no longer held out is trained on.
    """
    if not known:
        return dataset
    heldout = [*dataset.heldout_phrasings, *dataset.heldout_groups]
    everything = [*dataset.train, *heldout]
    twins = near_duplicates([*(example.query for example in everything), *known.values()])
    seen = {twins.root(n) for n in range(len(everything), len(everything) + len(known))}
    groups = {example.group for n, example in enumerate(everything) if twins.root(n) in seen}
    first = len(dataset.train)
    phrasings: list[Example] = []
    whole: list[Example] = []
    moved: list[Example] = []
    for n, example in enumerate(heldout, first):
        is_phrasing = n < first + len(dataset.heldout_phrasings)
        if twins.root(n) in seen or (not is_phrasing and example.group in groups):
            moved.append(example)
        else:
            (phrasings if is_phrasing else whole).append(example)
    if len(phrasings) < _LEAST_HELDOUT * len(dataset.heldout_phrasings) or not (phrasings or whole):
        return None
    # What was held out may follow what still is.
    more = without_held_out(moved, phrasings, whole)
    return replace(
        dataset,
        train=(*dataset.train, *more),
        heldout_phrasings=tuple(phrasings),
        heldout_groups=tuple(whole),
        excluded=dataset.excluded + Counter({BEHIND: len(moved) - len(more)}),
    )


def split(train: Sequence[Example], learned: Mapping[str, str]) -> tuple[list[Example], list[Example]]:
    """What is new or has another answer than was learned, and the rest."""
    new = [example for example in train if learned.get(example.id) != _digest(example)]
    taken = {example.id for example in new}
    return new, [example for example in train if example.id not in taken]


def tonight(train: Sequence[Example], learned: Mapping[str, str], seed: int) -> tuple[tuple[Example, ...], int]:
    """What to train on: all that is new and a sample of the rest, even over the groups; and how many of the rest.

    The sample is another one every night, as more is learned.
    """
    new, old = split(train, learned)
    wanted = min(len(old), max(_LEAST_OLDER, round(_OLDER * len(new))))
    # What was asked rarely is forgotten first.
    rng = random.Random(f"{seed}/{len(learned)}")
    rng.shuffle(old)
    turn: dict[int, int] = {}
    place: dict[str, int] = {}
    for example in old:
        place[example.id] = turn[example.group] = turn.get(example.group, -1) + 1
    sample = sorted(old, key=lambda example: place[example.id])[:wanted]
    return (*new, *sample), len(sample)


def lineage_after(predecessor: Predecessor | None, examples: Sequence[Example], rows: int) -> Lineage:
    """What the weights will have learned: `examples`, those replayed left out, and what they knew; `rows` of a snapshot."""
    fresh = {example.id: _digest(example) for example in examples}
    if predecessor is None:
        return Lineage(fresh, 1, rows)
    before = predecessor.lineage
    return Lineage(before.learned | fresh, before.nights + 1, before.rows)


def _digest(example: Example) -> str:
    return hashlib.sha256(example.target.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def figures(beginning: Beginning, lineage: Lineage, new: int, older: int) -> dict[str, Any]:
    """For the run's record."""
    predecessor = beginning.predecessor
    return {
        "from": predecessor.name if predecessor else "base",
        "reason": beginning.reason,
        "nights": lineage.nights,
        "rows_at_base": lineage.rows,
        "new": new,
        "older": older,
    }
