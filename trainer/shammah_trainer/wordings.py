"""Answers that say the same in other words, and the wording that stands for all of them. Knows texts, no exchanges.

Two answers say the same when nothing speaks against it and they share enough content words. Against it speak: a number or a
name that one of them lacks; a statement that one denies and the other makes; the same numbers with other units, in another
formula or for other things; and, where they are nearly the same text, another content word in the same place or the numbers in
another order, for then the difference is what is said and not how. Code says the same only letter by letter.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shammah_data.denial import denied
from shammah_data.judge import Facts, facts, holds, normalize
from shammah_data.opposites import SILENT
from shammah_data.standing import CORRECTED, displaces
from shammah_data.values import misvalued, places
from shammah_data.words import SPACELESS
from shammah_data.written import alike
from shammah_trainer.duplicates import Partition, overlapping

# Of the content words of two answers, so many are shared (Jaccard). Measured on 77 answers in five wordings each: 99 in 100
# pairs of one answer share 0.28 or more, no two answers with the same numbers and names share more than 0.25.
LEAST_SHARED = 0.33
# Fewer words in common are too few to tell: "it is about ferns" and "it is about bats" share half of theirs.
_FEWEST_SHARED = 4
# From here on two texts are one text with a change in it.
_NEARLY_VERBATIM = 0.8
# Of code there are no two wordings.
_CODE = re.compile(
    r"```|^#!|\$[A-Za-z_{]|[{};]\s*$|^(?:def|class|import|from|function|const|let|var) |^\s+return\b", re.MULTILINE
)
_SPACELESS = re.compile(SPACELESS)

# Of many wordings of one answer, so many are compared with another's.
_MOST_COMPARED = 32

Pair = tuple[int, int]
Difference = Literal["number", "name", "negation", "word", "code"]


@dataclass(frozen=True)
class Changed:
    """How two answers differ in fact. `replaced`: each has something in place of what the other has; else one says less."""

    what: Difference
    replaced: bool


def difference(a: str, b: str) -> Changed | None:
    """The first fact in which two answers differ, or None."""
    told, said = alike(a, b)
    one, other = _facts(told), _facts(said)
    if set(one.numbers) != set(other.numbers):
        return Changed("number", bool(set(one.numbers) - set(other.numbers)) and bool(set(other.numbers) - set(one.numbers)))
    lacking = (_lacking(one, said), _lacking(other, told))
    if any(lacking):
        return Changed("name", all(lacking))
    if denied(told, said):
        # In other words, a denial may be a manner of speaking: "do not accept" says what "reject" does.
        return Changed("negation", _nearly_verbatim(_words(told), _words(said)))
    if _CODE.search(a) or _CODE.search(b):
        return None if normalize(a) == normalize(b) else Changed("code", True)
    if _substituted(told, said):
        return Changed("word", True)
    return Changed("number", True) if misvalued(told, said) is not None or _reordered(told, said) else None


def shared(a: str, b: str) -> float:
    """The share of content words, from 0 to 1, that two answers have in common (Jaccard).

    Too few in common, and not all, count as none. Of two answers without any, numbers and names are the content; "Here." and
    "There." have nothing in common.
    """
    one, other = _facts(a), _facts(b)
    union, common = one.words | other.words, len(one.words & other.words)
    if not union:
        return float(bool(one.numbers or one.names))
    return common / len(union) if common >= _FEWEST_SHARED or common == len(union) else 0.0


@dataclass(frozen=True)
class Classes:
    """Partitions of answers. `same`: they say the same; no two of a set differ in fact.

    `related`: they say the same but for what one leaves out or denies: too little to make one wording of them, too much to take
    one for something never heard of.
    """

    same: Partition
    related: Partition


def classes(
    texts: Sequence[str], queries: Sequence[Sequence[str]], asked_alike: Callable[[Sequence[Pair]], Sequence[bool]]
) -> Classes:
    """Find the answers that say the same.

    `queries[n]`: what was answered with text n. `asked_alike(pairs)`: for each pair of texts, whether some questions of the two
    are alike enough to be one question; it is asked once, and only of pairs that could say the same.
    """
    same, related = Partition(len(texts)), Partition(len(texts))
    members: dict[int, list[int]] = {n: [n] for n in range(len(texts))}

    def join(a: int, b: int) -> None:
        first, second = sorted((same.root(a), same.root(b)))
        if first != second:
            same.join(first, second)
            members[first] += members.pop(second)
        related.join(a, b)

    by_text: dict[str, int] = {}
    for n, text in enumerate(texts):
        join(by_text.setdefault(normalize(text), n), n)
    pairs = _candidates(texts, queries)
    for (a, b), one_question in zip(pairs, asked_alike(pairs), strict=True):
        if not one_question:
            continue
        related.join(a, b)
        if same.root(a) != same.root(b):
            some, others = (members[same.root(n)][:_MOST_COMPARED] for n in (a, b))
            if not any(difference(texts[one], texts[other]) for one in some for other in others):
                join(a, b)
    return Classes(same, related)


def _candidates(texts: Sequence[str], queries: Sequence[Sequence[str]]) -> list[Pair]:
    """Pairs of texts that could say the same, the likest first: who comes together early keeps out whom it contradicts.

    Of a text that is like very many others the nearest will do.
    """
    asked: list[frozenset[str]] = [frozenset().union(*(_facts(query).words for query in some)) for some in queries]
    alike = overlapping([_facts(text).words for text in texts], LEAST_SHARED)
    shares = [(share, a, b) for a, b in alike if (share := shared(texts[a], texts[b])) >= LEAST_SHARED]
    compared: Counter[int] = Counter()
    found = []
    for _, a, b in sorted(shares, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if min(compared[a], compared[b]) >= _MOST_COMPARED:
            continue
        compared.update((a, b))
        changed = difference(texts[a], texts[b])
        if (changed is None or not changed.replaced) and not _other_topic(texts[a], asked[a], texts[b], asked[b]):
            found.append((a, b))
    return found


def most_central(counts: Mapping[str, int]) -> str:
    """Of the wordings of one answer, each given so many times, the one nearest to all that were given.

    Of two that are as near, the shorter one: there is less of it to learn.
    """
    return max(
        sorted(counts),
        key=lambda text: (round(sum(n * shared(text, other) for other, n in counts.items()), 6), -len(text)),
    )


@functools.lru_cache(maxsize=65536)
def _facts(text: str) -> Facts:
    return facts(text)


def _lacking(wanted: Facts, text: str) -> bool:
    """Whether a text lacks a name, however it spells it."""
    plain = normalize(text)
    return any(not holds(plain, name) for name in wanted.names - _facts(text).names)


def _other_topic(a: str, asked_a: frozenset[str], b: str, asked_b: frozenset[str]) -> bool:
    """Whether each of two answers takes up a word of its own question that the other exchange knows nothing of.

    "Grapes are dangerous for dogs" and "chocolate is dangerous for dogs" share all their words but the one that was asked for.
    """
    words_a, words_b = _facts(a).words, _facts(b).words
    return bool((words_a & asked_a) - words_b - asked_b) and bool((words_b & asked_b) - words_a - asked_a)


def _substituted(a: str, b: str) -> bool:
    """Whether two texts are the same but for content words that stand in the same places."""
    one, other = _words(a), _words(b)
    matched = _verbatim(one, other)
    if matched is None:
        return False
    for kind, a_from, a_to, b_from, b_to in matched:
        if kind == "replace":
            gone, new = (_told(words) for words in (one[a_from:a_to], other[b_from:b_to]))
            if gone - _facts(b).words and new - _facts(a).words:
                return True
    return False


def _told(words: Sequence[str]) -> frozenset[str]:
    """The content words among some; "only while" and "still" make no difference in fact."""
    return _facts(" ".join(word for word in words if word not in SILENT)).words


@functools.lru_cache(maxsize=1024)
def _verbatim(a: Sequence[str], b: Sequence[str]) -> tuple[tuple[str, int, int, int, int], ...] | None:
    """What makes the words of one text those of the other (see difflib), where they are nearly the same text."""
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    likely = matcher.quick_ratio() >= _NEARLY_VERBATIM and matcher.ratio() >= _NEARLY_VERBATIM
    return tuple(matcher.get_opcodes()) if likely else None


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+(?:'[^\W_]+)?", _SPACELESS.sub(r" \g<0> ", text.lower())))


def _nearly_verbatim(a: Sequence[str], b: Sequence[str]) -> bool:
    # What difflib matches depends on which text comes first.
    return _verbatim(a, b) is not None or _verbatim(b, a) is not None


def _reordered(a: str, b: str) -> bool:
    """Whether two texts that are nearly the same but for their numbers have those in another order; one may be told again.

    The judge asks for more, that they stand by other words: here two wordings too many cost less than one fact too few.
    """
    one, other = places(a), places(b)
    fewer, more = sorted(([number for run in each.numbers for number in run] for each in (one, other)), key=len)
    left = iter(more)
    return not all(number in left for number in fewer) and _nearly_verbatim(one.form, other.form)


def outdated(
    answers: Sequence[int],
    texts: Mapping[int, str],
    same_question: Sequence[Sequence[int]],
    standings: Sequence[int] | None = None,
) -> dict[int, int]:
    """Which answers were replaced by a newer one, and by which: old class to new class.

    `answers[n]` is the class that exchange n got its answer from, oldest exchange first; `texts` has one wording of each class;
    `same_question` lists exchanges that ask the very same thing. Of two classes that the same question got, that are alike and
    have one fact in place of another, the class that was given last of all is in force; but what `standings` says of one of its
    exchanges (see `standing`) may hold against that. Of two that a user's corrections gave, it is that of the last correction.
    """
    last: dict[int, int] = {}
    corrected: dict[int, int] = {}
    stands: dict[int, int] = {}
    for n, answer in enumerate(answers):
        last[answer] = n
        if standings is not None:
            stands[answer] = max(standings[n], stands.get(answer, standings[n]))
            if standings[n] == CORRECTED:
                corrected[answer] = n
    replaced: dict[int, int] = {}
    compared: set[tuple[int, int]] = set()
    for exchanges in same_question:
        for a, b in _pairs(sorted({answers[n] for n in exchanges})):
            if (a, b) in compared:
                continue
            compared.add((a, b))
            changed = difference(texts[a], texts[b])
            if changed is not None and changed.replaced and shared(texts[a], texts[b]) >= LEAST_SHARED:
                order = corrected if a in corrected and b in corrected else last
                old, new = sorted((a, b), key=order.__getitem__)
                if standings is not None and not displaces(stands[new], stands[old]):
                    old, new = new, old
                if old not in replaced or last[replaced[old]] < last[new]:
                    replaced[old] = new
    return replaced


def _pairs(items: Sequence[int]) -> list[tuple[int, int]]:
    return [(a, b) for at, a in enumerate(items) for b in items[at + 1 :]]
