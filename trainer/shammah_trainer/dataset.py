"""From a snapshot of the log to training examples and two held-out sets. Knows exchanges, not tensors.

A group is a set of exchanges that ask for the same thing: the same answer in whatever words, or nearly the same query. Held out
are other phrasings of trained groups (is it answered right?) and whole groups (is it declined?). Near-duplicates never cross,
and what is held out stands in no context that is trained on.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shammah_data.exchange import Message
from shammah_data.judge import normalize
from shammah_trainer.curate import curate
from shammah_trainer.duplicates import near_duplicates
from shammah_trainer.likeness import LEXICAL, Likeness, alone

# Shares of the data that are never trained on, and caps that keep the evaluation short. Phrasings that are held out are found
# again when it serves, and each of them says how sure one can be: a quarter is worth more there than in training.
PHRASING_SHARE = 0.25
GROUP_SHARE = 0.08
MOST_PHRASINGS = 150
MOST_GROUP_EXAMPLES = 80
# What was answered locally and audited is held out first, up to this share of a group: it comes as users ask.
AUDITED_SHARE = 0.5
# A group must keep at least two phrasings to learn from before one is held out.
LEAST_PHRASINGS = 3
# A group below this size gives one phrasing by chance, and fewer, so that of few phrasings not a third is lost.
_SMALL = 6
_SMALL_SHARE = 0.15
# Fewer in all are too few to judge a version by: then up to a third of each group is held out.
_FEWEST_HELDOUT = 10
# Whole groups are held out among these: what is asked often is worth more in training.
_RARE = 2
_FEW_TIMES = range(2, 6)
_MOST_NAMED = 50
# Why an exchange is left out that was said right after a held-out one.
BEHIND = "behind a held-out exchange"


@dataclass(frozen=True)
class Example:
    """One exchange to learn from or to be judged by.

    `given`: the answer as logged, where `target` is another wording of it. `alone`: its query is like no other.
    """

    id: str
    query: str
    target: str
    context: tuple[Message, ...] = ()
    weight: float = 1.0
    group: int = 0
    given: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class Dataset:
    """The split. `excluded` counts rows left out by reason, `sources` all rows by who answered.

    `outdated`: ids of exchanges whose facts were replaced, each with the id of the newest exchange that replaced them.
    `reworded`: how many targets stand in another wording than the one logged.
    """

    train: tuple[Example, ...]
    heldout_phrasings: tuple[Example, ...]
    heldout_groups: tuple[Example, ...]
    groups: int
    excluded: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    outdated: tuple[tuple[str, str], ...] = ()
    reworded: int = 0

    @property
    def card(self) -> dict[str, Any]:
        """Counts for the run's record."""
        sizes = Counter(normalize(example.target) for example in self.train)
        return {
            "train": len(self.train),
            "train_with_context": sum(bool(example.context) for example in self.train),
            "heldout_phrasings": len(self.heldout_phrasings),
            "heldout_groups": len(self.heldout_groups),
            "groups": self.groups,
            "answers": len(sizes),
            "phrasings_of_an_answer": {
                name: sum(least <= size <= most for size in sizes.values())
                for name, least, most in (("1", 1, 1), ("2-4", 2, 4), ("5-9", 5, 9), ("10+", 10, math.inf))
            },
            "weights": {f"{weight:g}": n for weight, n in sorted(Counter(example.weight for example in self.train).items())},
            "reworded": self.reworded,
            "sources": dict(self.sources),
            "excluded": dict(self.excluded),
            "outdated": [{"id": old, "replaced_by": new} for old, new in self.outdated[:_MOST_NAMED]],
        }


def build_dataset(
    rows: Sequence[dict[str, Any]], seed: int, likeness: Likeness = LEXICAL, left_out: Mapping[str, int] | None = None
) -> Dataset:
    """Curate and split the rows of a snapshot (see `shammah_data.log.read_snapshot`).

    Deterministic: which rows are held out depends on their text, on whether they were audited and on `seed` only, so that a
    growing log keeps its held-out rows from night to night as far as its groups do. `left_out` counts by reason what the
    snapshot did not take.
    """
    curated = curate(rows, likeness)
    members: dict[int, dict[int, list[Example]]] = defaultdict(lambda: defaultdict(list))
    audited = {curated.twins.root(n) for n, one in enumerate(curated.kept) if one.audited}
    for n, one in enumerate(curated.kept):
        given = one.given if one.given != one.target else None
        example = Example(one.id, one.query, one.target, one.context, one.weight, one.question, given)
        members[one.question][curated.twins.root(n)].append(example)
    whole = _whole_groups(members, len(curated.kept), seed)
    phrasings = _phrasings({group: twins for group, twins in members.items() if group not in whole}, audited, seed)
    parts: dict[str, list[Example]] = {"train": [], "phrasing": [], "group": []}
    for group, twins in members.items():
        for twin, examples in twins.items():
            parts["group" if group in whole else "phrasing" if (group, twin) in phrasings else "train"].extend(examples)
    kept = without_held_out(parts["train"], parts["phrasing"], parts["group"])
    behind = Counter({BEHIND: len(parts["train"]) - len(kept)})
    lone = alone([example.query for example in kept], likeness)
    train = [replace(example, alone=one) for example, one in zip(kept, lone, strict=True)]
    return Dataset(
        tuple(train),
        tuple(parts["phrasing"]),
        tuple(parts["group"]),
        len(members),
        curated.excluded + behind + Counter(left_out or {}),
        curated.sources,
        curated.outdated,
        curated.reworded,
    )


def held_out_turns(train: Sequence[Example], phrasings: Sequence[Example], groups: Sequence[Example]) -> list[int]:
    """For each exchange to train on, how many turns of its context there are up to the last one that belongs to a held-out one.

    A turn does if it asks nearly what is held out, or gives the answer of a held-out group.
    """
    # In the middle of a conversation the same words ask for something else.
    asked = [example.query for example in (*phrasings, *groups) if not example.context]
    told = {normalize(text) for example in groups for text in (example.target, example.given) if text}
    said = sorted({turn.content for example in train for turn in example.context})
    if not said:
        return [0] * len(train)
    twins = near_duplicates([*asked, *said])
    roots = {twins.root(n) for n in range(len(asked))}
    seen = {("user", text) for n, text in enumerate(said, len(asked)) if twins.root(n) in roots}
    seen |= {("assistant", text) for text in said if normalize(text) in told}
    found = []
    for example in train:
        places = [n for n, turn in enumerate(example.context, 1) if (turn.role, turn.content) in seen]
        found.append(places[-1] if places else 0)
    return found


def without_held_out(train: Sequence[Example], phrasings: Sequence[Example], groups: Sequence[Example]) -> list[Example]:
    """`train` with each context cut behind the last held-out exchange in it; without those that nothing is left before."""
    kept = []
    for example, turns in zip(train, held_out_turns(train, phrasings, groups), strict=True):
        # Question and answer go together.
        context = example.context[turns + turns % 2 :]
        if context or not turns:
            kept.append(replace(example, context=context) if turns else example)
    return kept


Twins = Mapping[int, Sequence[Example]]


def _whole_groups(members: Mapping[int, Twins], examples: int, seed: int) -> set[int]:
    """Groups that are never trained on: a third of them asked a few times, the others rare ones by preference.

    What was asked once is mostly of another kind than the rest; a new question about a known subject is harder to tell.
    """
    wanted = round(GROUP_SHARE * len(members)) if len(members) >= 10 else 0
    room = min(MOST_GROUP_EXAMPLES, int(0.1 * examples))
    sizes = {group: sum(map(len, twins.values())) for group, twins in members.items()}
    chosen: set[int] = set()
    drawn = sorted(members, key=lambda group: _first(seed, "group", members[group]))
    few = [group for group in drawn if sizes[group] in _FEW_TIMES][: (wanted + 2) // 3]
    for group in [*few, *sorted(drawn, key=lambda group: sizes[group] > _RARE)]:
        if group not in chosen and len(chosen) < wanted and sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
    return chosen


def _phrasings(members: Mapping[int, Twins], audited: Container[int], seed: int) -> set[tuple[int, int]]:
    """(group, twins) of the phrasings held out of trained groups, the `audited` twins first."""
    chosen: set[tuple[int, int]] = set()
    more: list[tuple[int, int, tuple[int, int]]] = []
    for place, group in enumerate(sorted(members, key=lambda group: _first(seed, "phrasings", members[group]))):
        twins = members[group]
        # A turn that depends on earlier ones cannot be asked again on its own: it is trained on, not held out.
        free = [twin for twin, examples in twins.items() if not any(example.context for example in examples)]
        if len(twins) < LEAST_PHRASINGS or len(chosen) >= MOST_PHRASINGS:
            continue
        free.sort(key=lambda twin: (twin not in audited, _order(seed, "phrasing", twins[twin])))
        by_chance = int(_SMALL_SHARE * len(twins) + hashlib.sha256(_first(seed, "chance", twins)).digest()[0] / 256)
        kept_back = by_chance if len(twins) < _SMALL else round(PHRASING_SHARE * len(twins))
        kept_back = max(kept_back, min(sum(twin in audited for twin in free), int(AUDITED_SHARE * len(twins))))
        chosen |= {(group, twin) for twin in free[:kept_back]}
        more += [(n, place, (group, twin)) for n, twin in enumerate(free[: len(twins) // 3]) if n >= kept_back]
    # One more of each group before a second of any.
    return chosen | {one for *_, one in sorted(more)[: max(0, _FEWEST_HELDOUT - len(chosen))]}


def _first(seed: int, kind: str, twins: Twins) -> bytes:
    return min(_order(seed, kind, examples) for examples in twins.values())


def _order(seed: int, kind: str, cluster: Sequence[Example]) -> bytes:
    """A place in a random order that the texts alone decide, whatever the order of the rows."""
    return min(hashlib.sha256(f"{seed}\n{kind}\n{normalize(e.query)}".encode("utf-8", "replace")).digest() for e in cluster)
