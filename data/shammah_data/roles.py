"""Who does what to whom, what goes from where to where: what the order of a query's words tells. Knows no other query."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from shammah_data.opposites import CLASSES, REQUESTS, SILENT
from shammah_data.synonyms import FORMS

Pairs = frozenset[tuple[str, str, str]]

_FROM = frozenset(("from",))
_TO = frozenset(("to", "into", "onto", "towards", "toward"))
_BETWEEN = frozenset("in as of for than by".split())
# Whose first thing becomes the second, or gets there.
_MOVING = frozenset("convert turn modify transform translat copy mov transfer migrat switch sync export mak merg".split())
# Whose two things are one in the place of the other.
_REPLACING = frozenset("replac swap substitut exchang trad".split())
_INSTEAD = frozenset(("with", "by"))
_LACKING = frozenset("run bor sold sell complet all".split())
# Whose two things are equals.
_LIKENING = frozenset("compar equal differ differenc distanc".split())
EQUALS = frozenset("is are was were".split())
# What a question begins with that yes or no answers; who does it comes next.
VERBS = frozenset("is are was were do does did has have had can could will would should must may".split())
TOGETHER = frozenset("and or vs versus compare difference between mix combine".split())
_BREAKS = _FROM | _TO | frozenset("by with via through on at when if because and or for using without before after".split())
_JOINING = frozenset(("or", "and", "vs", "versus"))
_BEING = frozenset("is are was were be been being get gets got".split())
_UNCHANGED = frozenset("hit put set cut let hurt read beat cast shed".split())
_AUXILIARY = frozenset("do does did to the a an please".split())
PERSONS = {
    "i": "i",
    "me": "i",
    "you": "you",
    "we": "we",
    "us": "we",
    "him": "he",
    "he": "he",
    "she": "she",
    "they": "they",
    "them": "they",
}
# When something is done may be told anywhere.
_WHENEVER = frozenset(
    word for word, values in CLASSES.items() if {name for name, _ in values} & {"day", "weekday", "month", "part"}
)
_WHO = frozenset("who whom what which".split())
_DOES = frozenset("do does did".split())
# A place that is reached "from" or "to" is named within so many words.
_REACH = 3
# "Is x a bigger thing than y".
_FAR = 5


def roles(words: Sequence[str], stems: Sequence[str]) -> tuple[Pairs, frozenset[str], frozenset[str]]:
    """Triples (to, A, B) of "A to B", (in, A, B) of "A in B" and the like; then what something goes from, what to."""
    pairs: set[tuple[str, str, str]] = set()
    origins: set[str] = set()
    targets: set[str] = set()
    replaces = not _REPLACING.isdisjoint(stems)
    for at, word in enumerate(words):
        behind = content_at(words, stems, range(at + 1, len(words)))
        # "I ran out of money" moves nothing.
        out_of = word == "of" and at > 1 and words[at - 1] == "out" and _can_move(words[at - 2], stems[at - 2])
        if word in _FROM or word in _TO or out_of:
            (targets if word in _TO else origins).update(behind)
        if (word in _TO and not _LIKENING & set(stems)) or word in _BETWEEN or (word in _INSTEAD and replaces):
            before = content_at(words, stems, range(at - 1, -1, -1), _FAR if word == "than" else _REACH)
            pairs.update(("to" if word in _TO else word, x, y) for x in before for y in behind if x != y)
    return frozenset(pairs), frozenset(origins), frozenset(targets)


def moves(stems: Sequence[str]) -> bool:
    """Whether something becomes, or gets to be where, something else is."""
    return not _MOVING.isdisjoint(stems)


def _can_move(word: str, stemmed: str) -> bool:
    return word not in SILENT and "'" not in word and stemmed not in _LACKING


def content_at(words: Sequence[str], stems: Sequence[str], places: Sequence[int], reach: int = _REACH) -> list[str]:
    """The stems that say something at the first few of these places, up to a preposition."""
    found: list[str] = []
    for place in places[:reach]:
        if words[place] in _BREAKS:
            break
        if words[place] not in SILENT and words[place] not in REQUESTS and words[place].isalnum():
            found.append(stems[place])
    return found


def cast(words: Sequence[str], stems: Sequence[str], content: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is `ordered` with the persons who are told of as "i" and "me"; and all words, whatever their order, with them."""
    told = tuple(PERSONS.get(w, w) for w in sorted(words) if w not in _AUXILIARY)
    return tuple(ordered(words, stems, content, PERSONS)), tuple(sorted(told))


def ordered(
    words: Sequence[str], stems: Sequence[str], content: frozenset[str], persons: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """The words that say something, in their order, two that "or" joins in that of the alphabet, and who does it first.

    "The man is bitten by the dog" comes as "the dog bites the man" does.
    """
    places = [
        at
        for at, (w, s) in enumerate(zip(words, stems, strict=True))
        if w in persons or (s in content and w not in SILENT and w not in REQUESTS and w not in _WHENEVER)
    ]
    found = [persons.get(words[at], stems[at]) for at in places]
    for n, (left, right) in enumerate(pairwise(places)):
        if _JOINING & set(words[left + 1 : right]) and found[n] > found[n + 1]:
            found[n], found[n + 1] = found[n + 1], found[n]
    by = next((at for at in range(1, len(words) - 1) if words[at] == "by"), None)
    if by is None or not _BEING & set(words[:by]):
        return found
    done = next((n for n, at in enumerate(places) if at < by and _is_participle(words[at])), None)
    actor = next((n for n, at in enumerate(places) if at > by), None)
    if done is None or actor is None:
        return found
    return [found[actor], found[done], *(s for n, s in enumerate(found) if n not in (done, actor))]


def _is_participle(word: str) -> bool:
    return word.endswith(("ed", "en")) or word in FORMS or word in _UNCHANGED


def acts(words: Sequence[str], stems: Sequence[str], order: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """In a question after who or what, its words and whether it is who does it, or to whom it is done.

    The verb of "who taught him" is in another form than that of "whom did he teach", which is all that tells the two apart.
    """
    asked = next((at for at, word in enumerate(words) if word in _WHO), None)
    if asked is None or not _BEING.isdisjoint(words):
        return
    if _DOES.isdisjoint(words[asked + 1 :]):
        yield from (("does", s, w) for w, s in zip(words, stems, strict=True) if s in order)
    else:
        yield from (("is done to", s, w) for w, s in zip(words, stems, strict=True) if s in order)
