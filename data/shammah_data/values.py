"""Whether two texts with the same numbers say the same with them: units, formulas, and what each number stands by.

Texts may name their numbers in any order. But where something stands by another number than in the other text, that number by
something else, and none by anything of its own, they have changed places; so have those of two texts that are the same but for
the order of their numbers. Knows texts `written` alike, no facts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, pairwise, takewhile

from shammah_data.formulas import compared, formulas, otherwise, spelled
from shammah_data.measures import is_unit, mismeasured
from shammah_data.words import NUMERALS, SPACELESS, STOP, negates, stem

_TOKEN = re.compile(rf"(?<![\w.])\d+(?:[.,:]\d+)*|{SPACELESS}|[^\W\d_]+(?:'[^\W\d_]+)?|[.。;,!?()\n]")
_CHARACTER = re.compile(SPACELESS)
_LIST_MARK = re.compile(r"^\d{1,2}[.)] ", re.MULTILINE)
_ENDINGS = frozenset(".。;!?\n")
_BREAKS = _ENDINGS | frozenset(", ( ) and or but und oder et ou y".split())
# Between two numbers of one thing: "5 to 10 days", "5 and 7 apples".
_JOINING = _BREAKS - _ENDINGS | frozenset("to bis à au hasta".split())
# Between two numbers that may be told in either order.
_ENUMERATED = re.compile(r"[ ,]*(?:and|or|und|oder|et|ou|y|o|[+*×])?[ $€£¥]*")
# "5 and 7 respectively" are two things, and so is [5, 7].
_ORDERED = re.compile(r"\b(?:respectively|in that order|jeweils|respectivement|respectivamente)\b|\[ ?-?\d+(?:\.\d+)?,")
# What says which of two numbers is meant by the side it stands on, as does a character of a script without spaces.
_SIDED = frozenset("from to until till before after of per von bis vor nach de à au hasta desde".split())
# "A costs 5, B costs 7": an "A" that is no article.
_LABELLED = re.compile(r"(?<!\w)[B-HJ-Z](?!['\w])")
# So far from a number a word still says what it is; of the two words right beside it, commas and the like may stand between.
_REACH, _NEAR = 8, 5
_OPEN = "0"


@dataclass(frozen=True)
class Places:
    """What stands by the numbers of a text.

    `beside`: words of the clause, and two words right before or behind a number, with the numbers that they stand by. `form`:
    all words, the numbers left open. `numbers`: in their order, those of one enumeration or sum sorted.
    """

    beside: Mapping[str, Set[str]]
    form: tuple[str, ...]
    numbers: tuple[tuple[str, ...], ...]


def misvalued(one: str, other: str) -> str | None:
    """How two texts with the same numbers differ in what they say with them, or None."""
    if (unit := mismeasured(one, other)) is not None:
        return f"other unit than {unit}"
    if (formula := otherwise(*(formulas(compared(text.lower())) for text in (one, other)))) is not None:
        return f"not the same: {formula}"
    if (moved := _moved(places(one), places(other))) is not None:
        return f"{moved} stands in another place"
    return None


@lru_cache(maxsize=8192)
def places(text: str) -> Places:
    """Find what stands by the numbers of a text; remembered for the texts met last."""
    text = _LIST_MARK.sub("", spelled(text))
    found = list(_TOKEN.finditer(text))
    labelled = _LABELLED.search(text) is not None
    words = [token[0] if token[0] == "A" and labelled else token[0].lower() for token in found]
    at = [n for n, word in enumerate(words) if word[0].isdigit() or (word in NUMERALS and word != "one")]
    values = [NUMERALS.get(words[n], words[n]) for n in at]
    gaps = [words[start + 1 : end] for start, end in pairwise([-1, *at, len(words)])]
    gaps[1:] = [gap[1:] if gap and is_unit(gap[0]) else gap for gap in gaps[1:]]
    form = list(words)
    for n in at:
        form[n] = _OPEN

    apart = _ORDERED.search(text.lower()) is not None
    things = _grouped(values, [not apart and _JOINING.issuperset(gap) for gap in gaps[1:-1]])
    between = [(found[a].end(), found[b].start()) for a, b in pairwise(at)]
    runs = _grouped(values, [not apart and _ENUMERATED.fullmatch(text, *span) is not None for span in between])

    beside: dict[str, set[str]] = {}
    for k, n in enumerate(at):
        before, behind = form[max(n - _NEAR, 0) : n][::-1], form[n + 1 : n + 1 + _NEAR]
        for side, clause, near in (("<", reversed(gaps[k]), before), (">", gaps[k + 1], behind)):
            for word in islice(takewhile(lambda word: word not in _BREAKS, clause), _REACH):
                if word in _SIDED or _CHARACTER.match(word):
                    beside.setdefault(side + word, set()).add(values[k])
                elif word not in STOP and not negates(word):
                    beside.setdefault(stem(word), set()).update(things[k])
            two = list(islice(_sentence(near), 2))
            if len(two) == 2 and _OPEN not in two and not STOP.issuperset(two):
                beside.setdefault(side + " ".join(two), set()).update(runs[k])
    once = {id(run): run for run in runs}
    return Places(beside, tuple(form), tuple(tuple(sorted(run)) for run in once.values()))


def _grouped(values: Sequence[str], joined: Sequence[bool]) -> list[list[str]]:
    """For each value the group that it is in: one list for all values that are joined to the one before."""
    groups: list[list[str]] = []
    for value, with_last in zip(values, [False, *joined], strict=False):
        groups.append(groups[-1] if with_last else [])
        groups[-1].append(value)
    return groups


def _sentence(words: Iterable[str]) -> Iterator[str]:
    return (word for word in takewhile(lambda word: word not in _ENDINGS, words) if word[0].isalnum())


def _moved(one: Places, other: Places) -> str | None:
    """A number that has changed places, or an hour that has: "9:15 to 10:30" has the numbers of "9:30 to 10:15"."""
    mine, theirs = ({number for run in each.numbers for number in run if ":" in number} for each in (one, other))
    if mine - theirs and theirs - mine:
        return min(mine - theirs)
    if one.form == other.form and [*map(len, one.numbers)] == [*map(len, other.numbers)]:
        return next((min(run) for run, its in zip(one.numbers, other.numbers, strict=True) if run != its), None)
    left: set[str] = set()
    came: set[str] = set()
    kept: set[str] = set()
    for word in one.beside.keys() & other.beside.keys():
        here, there = one.beside[word], other.beside[word]
        if len(here) == len(there):
            left |= here - there
            came |= there - here
            if len(here) == 1:
                kept |= here & there
    # A number that is told twice may be told of either thing first.
    repeated = {number for each in (one, other) for number, times in Counter(chain(*each.numbers)).items() if times > 1}
    return min((left & came) - kept - repeated, default=None)
