"""May two queries get the same answer? What must not differ between them, however alike they are. Knows text, no model.

Every rule is symmetric and says nothing about two queries that share little: it finds contradictions, not likeness. Where each
query says something else besides, a word in place of another, or a number, a place or a denial that only one of them has, is
none: how alike the two are, and how likely the answer, weighs more then. Numbers, formulas, quoted strings, paths, options and
the replaced word of two otherwise equal queries are found in any language, a denial in a few; the lists of words (opposites,
units, question words, words that ask without saying what) are English, and for another language say nothing.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Literal

from shammah_data.formulas import otherwise
from shammah_data.judge import holds
from shammah_data.lookalikes import LOOKALIKES
from shammah_data.measures import is_unit, mismeasured
from shammah_data.opposites import CLASSES, UNITS
from shammah_data.roles import EQUALS, TOGETHER, VERBS
from shammah_data.sense import Sense, sense
from shammah_data.stems import root
from shammah_data.written import alike

Kind = Literal["number", "formula", "unit", "negation", "name", "opposite", "direction", "owner", "question", "slot"]

# What nobody misses.
_COURTESY = frozenset("a an the please thank thanks hi hello hey ok okay sir madam".split())
# Words of a place in two otherwise equal queries: "new zealand".
_LONGEST_FILLER = 3
_SHORTEST_TYPO = 5
_UNIT_STEMS = frozenset(map(root, (*UNITS, "ago")))


@dataclass(frozen=True)
class Conflict:
    """What speaks against one answer for two queries: a kind, and words for `why`.

    `witness`: stems of what only the first query has. A third query that has them too, and got the answer of the second one,
    shows that the answer was given for them as well.
    """

    kind: Kind
    reason: str
    witness: frozenset[str] = frozenset()


def conflict(query: str, other: str) -> Conflict | None:
    """The first contradiction between two queries, or None; the same kind whichever comes first."""
    a, b = map(sense, alike(query, other))
    if a.options != b.options and {one.lower() for one in a.options} == {one.lower() for one in b.options}:
        return Conflict("name", f"only one of the two names {min(a.options ^ b.options)}")
    if a.lower == b.lower:
        return None
    for rule in (_numbers, _formulas, _units, _negation, _names, _opposites, _direction, _owners, _questions, _slot):
        if (found := rule(a, b)) is not None:
            return found
    return None


def settled(query: str, answered: Sequence[str]) -> tuple[int | None, Conflict | None]:
    """Which of the queries that got one answer, the nearest first, lets another query have it: its place, or None and why not.

    That is the nearest one without a conflict, if it bears witness to what spoke against the nearer ones.
    """
    first: Conflict | None = None
    witness: frozenset[str] = frozenset()
    for place, other in enumerate(answered):
        found = conflict(query, other)
        if found is None and witness <= frozenset(sense(other).stems):
            return place, first
        if found is not None:
            first = first or found
            witness |= found.witness
    return None, first or Conflict("slot", "nothing was asked that agrees with it")


def _numbers(a: Sense, b: Sense) -> Conflict | None:
    """Two other numbers, or one that is all that the one query says more than the other.

    Who tells besides that it was "12 hours ago" may ask what another asks in other words.
    """
    if a.numbers == b.numbers or (not (a.numbers and b.numbers) and _apart(a, b)):
        return None
    if _lone(a, b) or _lone(b, a):
        return None
    told = sorted((a.numbers - b.numbers) + (b.numbers - a.numbers))[0]
    return Conflict("number", f"the numbers differ: {told}")


def _lone(a: Sense, b: Sense) -> bool:
    """Whether one query has a 1 that the other does not, which says "an hour" or "a mile"."""
    return (
        a.numbers - b.numbers == {"1": 1}
        and not b.numbers - a.numbers
        and any(word in ("a", "an") and unit in UNITS for word, unit in pairwise(b.words))
    )


def _formulas(a: Sense, b: Sense) -> Conflict | None:
    """The same numbers in another order, or with other operators between them."""
    told = [found for found in (otherwise(a.formulas, b.formulas), otherwise(b.formulas, a.formulas)) if found]
    return Conflict("formula", f"not the same: {min(told)}") if told else None


def _units(a: Sense, b: Sense) -> Conflict | None:
    if (told := mismeasured(a.lower, b.lower)) is not None:
        return Conflict("unit", f"the units differ: {told}", _having(a, b, UNITS))
    if a.units == b.units or not (a.units and b.units) or (not (a.numbers and b.numbers) and _apart(a, b)):
        return None
    return Conflict("unit", f"the units differ: {sorted(a.units ^ b.units)[0]}", _having(a, b, UNITS))


def _negation(a: Sense, b: Sense) -> Conflict | None:
    """What the one query denies and the other says; where both say the same otherwise, that one denies anything."""
    if a.negated == b.negated:
        return None
    # "It fails" says what "it does not work" says; a failure that both speak of makes no difference.
    plain, negated = (b, a) if a.negated else (a, b)
    if plain.failures - negated.failures:
        return None
    if _apart(a, b) and not negated.denied & plain.content:
        return None
    return Conflict("negation", "one of the two is negated")


def _names(a: Sense, b: Sense) -> Conflict | None:
    """A name of one that is nowhere in the other, where it may be spelled small.

    A lone abbreviation may be what the other query says in whole words, and a lone name where someone happens to be; two
    different ones are not.
    """
    # "C", "C#" and "C++"; a letter without a sign may be anything.
    for letter in sorted({word[0] for word in a.signed} & {word[0] for word in b.signed}):
        if letters := {word for word in a.signed ^ b.signed if word[0] == letter}:
            return Conflict("name", f"only one of the two names {min(letters)}")
    mine, theirs = _unnamed(a, b), _unnamed(b, a)
    named = mine | theirs if mine and theirs else (mine - a.short) | (theirs - b.short)
    if not (mine and theirs) and all(map(str.isalpha, named)) and _apart(a, b):
        return None
    return Conflict("name", f"only one of the two names {min(named)}") if named else None


def _unnamed(a: Sense, b: Sense) -> frozenset[str]:
    return frozenset(
        name
        for name in a.names
        if name not in b.names
        and not holds(b.lower, name)
        and not holds(b.lower, name.replace("-", " "))
        and not holds(b.lower, name.replace("-", "") or name)
        and root(name) not in b.stems
        # "files/directories" is no path but either of two words.
        and not (name[0].isalpha() and any(part.isalpha() and root(part) in b.stems for part in name.split("/")))
    )


def _opposites(a: Sense, b: Sense) -> Conflict | None:
    """Other values of a class; where each query says something else besides, only if they have none of them in common."""
    for kind in sorted({kind for kind, _ in a.classes} & {kind for kind, _ in b.classes}):
        mine = {value for name, value in a.classes if name == kind}
        theirs = {value for name, value in b.classes if name == kind}
        if mine != theirs and not (mine & theirs and _apart(a, b)):
            told = f"{sorted(mine - theirs or mine)[0]} is not {sorted(theirs - mine or theirs)[0]}"
            return Conflict("opposite", told, _having(a, b, CLASSES))
    # "Not able" is "unable".
    for one, two in ((a, b), (b, a)) if a.negated == b.negated else ():
        for denial, word in two.denials:
            if word in one.stems and word not in two.stems and denial not in one.stems:
                return Conflict("opposite", f"{word} is not {denial}", frozenset((word, denial)) & frozenset(a.stems))
    return None


def _having(a: Sense, b: Sense, listed: Container[str]) -> frozenset[str]:
    """Stems of the listed words that only the first query has."""
    return frozenset(s for w, s in zip(a.words, a.stems, strict=True) if w.removesuffix("'s") in listed and w not in b.words)


def _direction(a: Sense, b: Sense) -> Conflict | None:
    turned = (a.origins - a.targets) & (b.targets - b.origins) | (a.targets - a.origins) & (b.origins - b.targets)
    # "How many x in a y" and "how many y make an x".
    if a.counted and b.counted and not a.counted & b.counted and a.counted <= b.units and b.counted <= a.units:
        turned |= a.counted | b.counted
    # "Files in the folder" and "the folder, for files": other words around make another sentence of it.
    turned |= {
        x
        for how, x, y in a.pairs
        if (how, y, x) in b.pairs and (how == "than" or not _apart(a, b) or (how == "to" and a.moves and b.moves))
    }
    if turned:
        return Conflict("direction", f"the other way round: {sorted(turned)[0]}", turned)
    if a.content != b.content:
        return None
    if a.said == b.said:
        # "Does x like the new y".
        first = min((*a.order[:1], *b.order[:1]), default="")
        if a.words[:1] == b.words[:1] and VERBS.issuperset(a.words[:1]) and first.isalpha() and a.order[:1] != b.order[:1]:
            return Conflict("direction", f"the other way round: {first}", a.content)
        if a.me != b.me:
            return Conflict("direction", "the other way round: me", a.content)
        if (persons := _reversed(a.cast, b.cast)) is not None:
            return Conflict("direction", f"the other way round: {min(persons)}", a.content)
    # "x p y" and "y p x", the same words otherwise: who did it to whom.
    if (found := _reversed(a.order, b.order)) is not None:
        return Conflict("direction", f"the other way round: {min(found[0], found[2])}", frozenset(found))
    # "Is every x a y", "who taught x" and "whom did x teach".
    if _asked_of(a, b) or _asked_of(b, a) or _exchanged(a, b):
        return Conflict("direction", f"the other way round: {min(a.content)}", a.content)
    return None


def _reversed(one: Sequence[str], other: Sequence[str]) -> tuple[str, str, str] | None:
    """Three words that come in one order in one sequence and in the opposite one in the other; each has each word once."""
    if set(one) != set(other) or not len(one) == len(other) == len(set(one)):
        return None
    place = {word: n for n, word in enumerate(other)}
    return next(((x, p, y) for x, p, y in combinations(one, 3) if place[y] < place[p] < place[x]), None)


def _asked_of(a: Sense, b: Sense) -> bool:
    """Whether one query asks who does what, and the other to whom the same is done: the verb comes before, in another form."""
    for how, verb, form in a.acts:
        if how != "does" or not any(kind != how and s == verb and w != form for kind, s, w in b.acts):
            continue
        if set(a.order[a.order.index(verb) + 1 :]) & set(b.order[: b.order.index(verb)]):
            return True
    return False


def _exchanged(a: Sense, b: Sense) -> bool:
    """Whether two queries are word for word the same but for two words in each other's place that go not together as equals."""
    if len(a.stems) != len(b.stems):
        return False
    apart = [at for at, (mine, theirs) in enumerate(zip(a.stems, b.stems, strict=True)) if mine != theirs]
    if len(apart) != 2:
        return False
    left, right = apart
    if (a.stems[left], a.stems[right]) != (b.stems[right], b.stems[left]) or not {a.stems[left], a.stems[right]} <= a.content:
        return False
    # "Are all birds animals", "is Ann Bob's friend".
    parted = any(map(str.isalpha, a.words[left + 1 : right])) or (a.stems[left].isalpha() and not EQUALS.isdisjoint(a.words))
    return parted and TOGETHER.isdisjoint(a.words)


def _owners(a: Sense, b: Sense) -> Conflict | None:
    for thing in sorted({thing for _, thing in a.owned} & {thing for _, thing in b.owned}):
        mine = {owner for owner, owned in a.owned if owned == thing}
        theirs = {owner for owner, owned in b.owned if owned == thing}
        if not mine & theirs:
            return Conflict("owner", f"{min(min(mine), min(theirs))} {thing} is not {max(min(mine), min(theirs))} {thing}")
    return None


def _questions(a: Sense, b: Sense) -> Conflict | None:
    """Two questions about the very same words that ask for something else, or of another time, or in another mood."""
    if a.content != b.content:
        return None
    if a.asks and b.asks and not a.asks & b.asks:
        return Conflict("question", f"one asks {min(min(a.asks), min(b.asks))}, one {max(min(a.asks), min(b.asks))}")
    for kind in sorted({kind for kind, _ in a.shades} & {kind for kind, _ in b.shades}):
        mine = {value for name, value in a.shades if name == kind}
        theirs = {value for name, value in b.shades if name == kind}
        if not mine & theirs:
            return Conflict("question", f"{min(min(mine), min(theirs))} is not {max(min(mine), min(theirs))}")
    return None


def _slot(a: Sense, b: Sense) -> Conflict | None:
    """Two queries that differ in one place, each with other words there, and are word for word the same elsewhere.

    Who chooses other words around it as well ("can you remove my account", "how do I delete the account") may mean the same.
    """
    mine, theirs = _own(a, b)
    if not mine or not theirs:
        return None
    same_elsewhere = len(mine) == len(theirs) == 1 and bool(a.content & b.content) and _frame(a, b) == _frame(b, a)
    if same_elsewhere or _one_place(a.stems, b.stems):
        return Conflict("slot", f"{' '.join(sorted(mine))} is not {' '.join(sorted(theirs))}", mine)
    return None


def _frame(a: Sense, b: Sense) -> list[str]:
    """What a query says in the words of another one, in its order."""
    own = a.content - b.content
    return [s for w, s in zip(a.words, a.stems, strict=True) if s not in own and w not in _COURTESY]


def _counts(stemmed: str) -> bool:
    return stemmed.isdigit() or stemmed in _UNIT_STEMS or is_unit(stemmed)


def _apart(a: Sense, b: Sense) -> bool:
    """Whether each of two queries says something else, besides numbers and units, that the other does not say."""
    mine, theirs = _own(a, b)
    return not (all(map(_counts, mine)) or all(map(_counts, theirs)))


def _one_place(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two sequences of words share a beginning and an end and differ by at most a few words between."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    left = len(a) - start - end, len(b) - start - end
    return min(left) >= 1 and max(left) <= _LONGEST_FILLER and start + end >= 2


@lru_cache(maxsize=256)
def _own(a: Sense, b: Sense) -> tuple[frozenset[str], frozenset[str]]:
    """The words that each of two queries has for itself, without slips of the pen, and words written in two and in one.

    The rules ask for it one after the other, so what was found last is remembered.
    """
    mine, theirs = a.content - b.content, b.content - a.content
    if not mine or not theirs:
        return mine, theirs
    if len(mine) != len(theirs) and max(len(mine), len(theirs)) <= _LONGEST_FILLER and _run(a, mine) == _run(b, theirs):
        return frozenset(), frozenset()
    written_a = {s: w for w, s in zip(a.words, a.stems, strict=True) if s in mine}
    written_b = {s: w for w, s in zip(b.words, b.stems, strict=True) if s in theirs}
    pairs = [(x, y) for x, v in written_a.items() for y, w in written_b.items() if v[0] == w[0] and _typo(v, w)]
    return mine - {x for x, _ in pairs}, theirs - {y for _, y in pairs}


def _run(a: Sense, own: frozenset[str]) -> str:
    return "".join(word for word, stemmed in zip(a.words, a.stems, strict=True) if stemmed in own)


def _typo(x: str, y: str) -> bool:
    """Two letters that changed places in a long word, or in a longer one a letter changed or lost; not the first one.

    Two common words that are so near are two words, and two names are rare.
    """
    if (
        (x in LOOKALIKES and y in LOOKALIKES)
        or x[0] != y[0]
        or min(len(x), len(y)) < _SHORTEST_TYPO
        or abs(len(x) - len(y)) > 1
        or not (x + y).isalpha()
    ):
        return False
    start = 0
    while start < min(len(x), len(y)) and x[start] == y[start]:
        start += 1
    rest_x, rest_y = x[start:], y[start:]
    if rest_x[:2] == rest_y[:2][::-1] and rest_x[2:] == rest_y[2:]:
        return True
    return min(len(x), len(y)) > _SHORTEST_TYPO and (rest_x[1:] == rest_y[1:] or rest_x[1:] == rest_y or rest_x == rest_y[1:])
