"""The version that serves, on the questions of tonight: which of them are fair, and what it answers. Knows artifacts.

What it answered once is kept (home/cache/heldout/VERSION.json), so that a night asks it only what is new.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shammah_data.durable import atomic_write, private_folder
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.judge import judge, normalize
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.store import ModelStore
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.confidence import OWN
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.duplicates import near_duplicates
from shammah_trainer.evaluate import Backs, Kind, Outcome, Report, answer_all, heldout_losses

Loss = tuple[float, int] | None
_KEPT = {"text": str, "features": dict, "finished": bool, "ms": int | float, "tokens": int}


@dataclass(frozen=True)
class Past:
    """What a version knows of tonight's dataset. `seen`: ids of held-out exchanges that it was or may have been trained on;
    `older`: groups of which it knew something.
    """

    seen: frozenset[str]
    older: frozenset[int]


def past_of(manifest: Manifest, runs: Path, rows: Sequence[dict[str, Any]], dataset: Dataset) -> Past:
    """From the rows of tonight's snapshot: the split of the version's own night says what it was not trained on.

    Without that record, which a run folder that was deleted takes along, all of its snapshot counts as trained on.
    """
    until = _utc(datetime.fromisoformat(manifest.snapshot_until))
    known = {normalize(row["query"]) for row in rows if _utc(row["logged_at"]) <= until}
    trained = sorted(known - _held_out(runs / manifest.run / "heldout.jsonl"))
    heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    twins = near_duplicates([*trained, *(example.query for example in heldout)])
    roots = {twins.root(n) for n in range(len(trained))}
    seen = {example.id for n, example in enumerate(heldout, len(trained)) if twins.root(n) in roots}
    older = {example.group for example in (*dataset.train, *heldout) if normalize(example.query) in known}
    return Past(frozenset(seen), frozenset(older))


def _held_out(path: Path) -> set[str]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {normalize(line["query"]) for line in lines if line["kind"] in ("phrasing", "group")}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


class Remembered:
    """What versions answered to held-out questions, and how likely they found the true answers."""

    def __init__(self, home: Home, version: str) -> None:
        self._path = home.cache / "heldout" / f"{version}.json"
        self._found: dict[str, Any] = {}
        try:
            self._found = dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            pass  # it is made again

    def outcome(self, kind: Kind, example: Example, most: int, backing: Backs) -> Outcome | None:
        """The answer that was given, judged anew."""
        found = _answer(self._found.get(_key("answer", example, most)))
        if found is None:
            return None
        verdict = judge(example.target, found["text"])
        known = {**found["features"], **asdict(backing(example.query, found["text"]))}
        right = kind != "outside" and verdict.right and found["finished"]
        return Outcome(
            example, kind, found["text"], known, found["finished"], right, verdict.reason, found["ms"], found["tokens"]
        )

    def loss(self, example: Example) -> tuple[bool, Loss]:
        """(whether it is known, the loss)."""
        match self._found.get(_key("loss", example), ()):
            case None:
                return True, None
            case [int() | float() as nats, int() as tokens]:
                return True, (float(nats), tokens)
        return False, None

    def add(self, outcomes: Sequence[Outcome], most: int, losses: Sequence[tuple[Example, Loss]]) -> None:
        """Remember more."""
        for each in outcomes:
            self._found[_key("answer", each.example, most)] = {
                "text": each.text,
                "features": each.features,
                "finished": each.finished,
                "ms": round(each.milliseconds, 1),
                "tokens": each.tokens,
            }
        for example, loss in losses:
            self._found[_key("loss", example)] = loss

    def write(self, keep: Sequence[str]) -> None:
        """Make it durable, and drop what is known of versions other than `keep`."""
        private_folder(self._path.parent.parent)
        folder = private_folder(self._path.parent)
        for other in folder.glob("*.json"):
            if other.stem not in keep:
                other.unlink()
        atomic_write(self._path, json.dumps(self._found, ensure_ascii=False).encode("utf-8", "replace"))


def _answer(found: Any) -> dict[str, Any] | None:
    """What `Remembered.add` keeps of an answer; None for anything else."""
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in _KEPT.items()):
        return None
    known = found["features"]
    whole = known.keys() >= set(OWN) and all(isinstance(value, int | float) for value in known.values())
    return found if whole else None


def _key(what: str, example: Example, most: int = 0) -> str:
    said = [what, most, example.query, [[turn.role, turn.content] for turn in example.context]]
    if what == "loss":
        said.append(example.target)
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class Answers:
    """A version's answers to questions and losses of examples, in the order in which they were given."""

    manifest: Manifest
    graph: GraphEntry
    outcomes: tuple[Outcome, ...]
    losses: tuple[Loss, ...]


def ask_champion(
    store: ModelStore,
    home: Home,
    version: str,
    questions: Sequence[tuple[Kind, Example]],
    examples: Sequence[Example],
    backing: Backs,
    most: int,
    max_length: int,
    threads: int,
    counter: Callable[[str], Report],
) -> Answers:
    """Let a version answer through the engine that serves it, each question of which the answer is not known yet.

    Raises ArtifactError when it is damaged or holds no graph for this processor.
    """
    manifest = store.verify(version)
    graph = next((graph for graph in manifest.graphs if graph.provider == "cpu"), None)
    if graph is None:
        raise ArtifactError(f"{version} holds no graph for the CPU: it cannot be compared with")
    remembered = Remembered(home, version)
    new = [(kind, example) for kind, example in questions if remembered.outcome(kind, example, most, backing) is None]
    unscored = [example for example in examples if not remembered.loss(example)[0]]
    if new or unscored:
        from shammah_trainer.batches import Encoder

        folder = store.folder(version)
        tokenizer = ChatTokenizer(folder / "tokenizer.json", manifest.chat)
        decoder = Decoder(GraphSession(folder / graph.path, manifest.shape, "cpu", threads), tokenizer, manifest.stop_ids)
        encoder = Encoder(tokenizer, manifest.stop_ids, min(max_length, manifest.shape.context))
        outcomes = answer_all(decoder, new, backing, most, counter(f"{version} answers"))
        losses = heldout_losses(decoder, encoder, unscored, counter(f"{version} scores"))
        remembered.add(outcomes, most, list(zip(unscored, losses, strict=True)))
        remembered.write(store.versions())
    answered = [remembered.outcome(kind, example, most, backing) for kind, example in questions]
    return Answers(
        manifest,
        graph,
        tuple(outcome for outcome in answered if outcome is not None),
        tuple(remembered.loss(example)[1] for example in examples),
    )
