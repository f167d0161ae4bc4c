"""From a snapshot of the log to training examples and two held-out sets. Knows exchanges, not tensors.

A group is a set of exchanges that ask for the same thing: the same answer, or nearly the same query. Held out are other
phrasings of trained groups (is it answered right?) and whole groups (is it declined?). Near-duplicates never cross.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shammah_data.exchange import Message
from shammah_data.judge import normalize
from shammah_data.log import context_of
from shammah_trainer.duplicates import Partition, near_duplicates

# Shares of the data that are never trained on, and caps that keep the evaluation short.
PHRASING_SHARE = 0.15
GROUP_SHARE = 0.08
MOST_PHRASINGS = 150
MOST_GROUP_EXAMPLES = 80
# A group must keep at least two phrasings to learn from before one is held out.
LEAST_PHRASINGS = 3


@dataclass(frozen=True)
class Example:
    """One exchange to learn from or to be judged by."""

    id: str
    query: str
    target: str
    context: tuple[Message, ...] = ()
    weight: float = 1.0
    group: int = 0


@dataclass(frozen=True)
class Dataset:
    """The split. `excluded` counts rows left out, by reason."""

    train: tuple[Example, ...]
    heldout_phrasings: tuple[Example, ...]
    heldout_groups: tuple[Example, ...]
    groups: int
    excluded: Counter[str] = field(default_factory=Counter)

    @property
    def card(self) -> dict[str, Any]:
        """Counts for the run's record."""
        return {
            "train": len(self.train),
            "train_with_context": sum(bool(example.context) for example in self.train),
            "heldout_phrasings": len(self.heldout_phrasings),
            "heldout_groups": len(self.heldout_groups),
            "groups": self.groups,
            "excluded": dict(self.excluded),
        }


def build_dataset(rows: Sequence[dict[str, Any]], seed: int) -> Dataset:
    """Split the rows of a snapshot (see `shammah_data.log.read_snapshot`).

    Deterministic: which rows are held out depends on their text and `seed` only, so that a growing log keeps its held-out
    rows from night to night as far as its groups do.
    """
    examples, excluded = _newest_of_each_question(rows)
    twins = near_duplicates([example.query for example in examples])
    groups = _groups(examples, twins)
    examples = [Example(e.id, e.query, e.target, e.context, e.weight, groups.root(n)) for n, e in enumerate(examples)]
    members: dict[int, dict[int, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for n, example in enumerate(examples):
        members[example.group][twins.root(n)].append(example)

    train: list[Example] = []
    phrasings: list[Example] = []
    whole: list[Example] = []
    most_whole = min(MOST_GROUP_EXAMPLES, int(0.1 * len(examples)))
    wanted_groups = round(GROUP_SHARE * len(members)) if len(members) >= 10 else 0
    for group in sorted(members, key=lambda group: min(_order(seed, "group", c) for c in members[group].values())):
        clusters = members[group]
        rows_in_group = [example for cluster in clusters.values() for example in cluster]
        if wanted_groups and len(whole) + len(rows_in_group) <= most_whole:
            whole += rows_in_group
            wanted_groups -= 1
            continue
        # A turn that depends on earlier ones cannot be asked again on its own: it is trained on, not held out.
        free = [key for key, cluster in clusters.items() if not any(example.context for example in cluster)]
        kept_back = 0
        if len(clusters) >= LEAST_PHRASINGS:
            kept_back = max(1, round(PHRASING_SHARE * len(clusters)))
        free.sort(key=lambda key: _order(seed, "phrasing", clusters[key]))
        chosen = set(free[:kept_back]) if len(phrasings) < MOST_PHRASINGS else set()
        for key, cluster in clusters.items():
            (phrasings if key in chosen else train).extend(cluster)
    return Dataset(tuple(train), tuple(phrasings), tuple(whole), len(members), excluded)


def _newest_of_each_question(rows: Sequence[dict[str, Any]]) -> tuple[list[Example], Counter[str]]:
    excluded: Counter[str] = Counter()
    newest: dict[tuple[str, str], Example] = {}
    for row in rows:
        if not row["target"].strip() or not row["query"].strip():
            excluded["empty"] += 1
            continue
        key = (normalize(row["query"]), row["context"])
        if key in newest:
            excluded["asked again later"] += 1
            del newest[key]  # the newest answer takes the newest place
        newest[key] = Example(
            id=str(row["id"]),
            query=row["query"],
            target=row["target"],
            context=context_of(row),
            weight=float(row["weight"]),
        )
    return list(newest.values()), excluded


def _groups(examples: Sequence[Example], twins: Partition) -> Partition:
    groups = Partition(len(examples))
    first: dict[str, int] = {}
    for n, example in enumerate(examples):
        groups.join(n, twins.root(n))
        groups.join(n, first.setdefault(normalize(example.target), n))
    return groups


def _order(seed: int, kind: str, cluster: Sequence[Example]) -> bytes:
    """A place in a random order that the texts alone decide, whatever the order of the rows."""
    return min(hashlib.sha256(f"{seed}\n{kind}\n{normalize(e.query)}".encode("utf-8", "replace")).digest() for e in cluster)
