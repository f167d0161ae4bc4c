"""The new version beside the one that serves, on the same held-out questions. Asks the champion, and publishes nothing."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shammah_data.errors import ArtifactError
from shammah_data.exchange import named_group
from shammah_data.home import Home
from shammah_data.manifest import Calibration, Manifest
from shammah_data.settings import TrainSettings
from shammah_data.store import ModelStore
from shammah_trainer.assess import Assessment
from shammah_trainer.calibrate import accepts
from shammah_trainer.champion import Answers, Remembered, ask_champion, past_of
from shammah_trainer.compare import Paired, loss_difference, paired
from shammah_trainer.dataset import Dataset
from shammah_trainer.evaluate import Outcome
from shammah_trainer.gate import LEAST_GROUP, Against
from shammah_trainer.progress import Reporter
from shammah_trainer.record import by_group


@dataclass(frozen=True)
class Beside:
    """`before`: the champion's answers to the questions that the new version was asked, None where they are not fair.

    `older`: groups that the champion's snapshot had.
    """

    against: Against | None = None
    before: tuple[Outcome | None, ...] = ()
    older: frozenset[int] = frozenset()
    figures: dict[str, Any] = field(default_factory=dict)


def beside_champion(
    home: Home,
    store: ModelStore,
    train: TrainSettings,
    dataset: Dataset,
    rows: Sequence[dict[str, Any]],
    found: Assessment,
    stale: Collection[str],
    reporter: Reporter,
) -> Beside:
    """Compare with the champion; without one that can be loaded and may stay, a first version is judged by itself.

    `stale`: versions that have to go, however good they are.
    """
    version = store.pointer().champion
    alone = {"by_group": by_group(found.outcomes, ())}
    if version is None:
        return Beside(figures=alone)
    if version in stale:
        reporter.say(f"not compared with {version}: it may know what was forgotten, and has to go")
        return Beside(figures={**alone, "champion": {"version": version, "not_compared": "it has to go"}})
    try:
        past = past_of(Manifest.load(store.folder(version)), home.runs, rows, dataset)
        questions = [(outcome.kind, outcome.example) for outcome in found.outcomes]
        heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
        answers = ask_champion(
            store,
            home,
            version,
            questions,
            heldout,
            found.backing,
            found.most_tokens,
            train.max_length,
            train.threads or 2,
            reporter.counter,
        )
        reporter.end()
    except ArtifactError as error:
        reporter.say(f"not compared with {version}: {error}")
        return Beside(figures={**alone, "champion": {"version": version, "not_compared": str(error)}})
    before = tuple(old if old.kind == "outside" or old.example.id not in past.seen else None for old in answers.outcomes)
    pairs = [(new, old) for new, old in zip(found.outcomes, before, strict=True) if old is not None and new.kind == "phrasing"]
    left_out = sum(outcome.kind == "phrasing" for outcome in found.outcomes) - len(pairs)
    fair = [
        (new, old)
        # Only what could have been learned: the phrasings, which come first.
        for example, new, old in zip(dataset.heldout_phrasings, found.losses, answers.losses, strict=False)
        if example.id not in past.seen and new is not None and old is not None
    ]
    old_pairs = [(new, old) for new, old in pairs if new.example.group in past.older]
    groups, small = _by_size(old_pairs)
    against = Against(
        version,
        _paired(pairs, train.seed),
        _paired(small, train.seed),
        [(named_group(each[0][0].example.query), _paired(each, train.seed)) for each in groups],
        (_answered(pairs, 0, found.graphs[0].calibration), _answered(pairs, 1, answers.graph.calibration)),
        loss_difference([new for new, _ in fair], [old for _, old in fair], train.seed),
        left_out,
    )
    figures = {
        "by_group": by_group(found.outcomes, past.older),
        "champion": {
            "version": version,
            "asked": against.overall.asked,
            "left_out": left_out,
            "overall": asdict(against.overall),
            "older_groups": asdict(_paired(old_pairs, train.seed)),
            "answered_right": list(against.answered_right),
            "loss": asdict(against.loss) if fair else None,
            "outside_answered": _outside(answers),
        },
    }
    return Beside(against, before, past.older, figures)


def remember(home: Home, store: ModelStore, version: str, dataset: Dataset, found: Assessment) -> None:
    """Keep what a new version answered, for the night when it is the champion."""
    remembered = Remembered(home, version)
    heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    remembered.add(found.outcomes, found.most_tokens, list(zip(heldout, found.losses, strict=True)))
    remembered.write(store.versions())


Pairs = Sequence[tuple[Outcome, Outcome]]


def _by_size(pairs: Pairs) -> tuple[list[Pairs], Pairs]:
    """(groups with questions enough to be judged alone, all the others together)."""
    members: dict[int, list[tuple[Outcome, Outcome]]] = defaultdict(list)
    for pair in pairs:
        members[pair[0].example.group].append(pair)
    large = [each for each in members.values() if len(each) >= LEAST_GROUP]
    return list(large), [pair for each in members.values() if len(each) < LEAST_GROUP for pair in each]


def _paired(pairs: Pairs, seed: int) -> Paired:
    return paired([new.right for new, _ in pairs], [old.right for _, old in pairs], seed)


def _answered(pairs: Pairs, which: int, calibration: Calibration) -> int:
    found = [pair[which] for pair in pairs]
    return sum(each.right and each.finished and accepts(calibration, each.features) for each in found)


def _outside(answers: Answers) -> list[int]:
    asked = [each for each in answers.outcomes if each.kind == "outside"]
    return [sum(each.finished and accepts(answers.graph.calibration, each.features) for each in asked), len(asked)]
