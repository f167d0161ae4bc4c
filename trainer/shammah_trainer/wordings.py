"""Answers that say the same in other words, and the wording that stands for all of them. Knows texts, no exchanges.

Two answers say the same when nothing speaks against it and they share enough content words. Against it speak: a number or a
name that one of them lacks; a statement that one denies and the other makes; and, where they are nearly the same text, another
content word in the same place, the same numbers in another order or with another sign or unit, or a denial of another language
that only one of them has, for then the difference is what is said and not how. Code says the same only letter by letter.
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
from shammah_data.opposites import SILENT, UNITS
from shammah_data.standing import CORRECTED, displaces
from shammah_data.words import NUMERALS, plain_text
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
# In a script without spaces a character is a word.
_SPACELESS = re.compile(r"[぀-ヿ㐀-鿿]")
_DIGITS = re.compile(r"\d+")
# "One" may be a number or not. "->" compares nothing, and a "-" between words is no sign.
_VALUE = re.compile(
    r"(?:(?P<operator>(?<![-=])[<>]=?|[=≤≥≠]|(?<=\d )[-+*/×÷](?= )|\b(?:over|under)\b) ?)?(?P<currency>[$€£¥])? ?"
    rf"(?P<number>(?:(?<![\w.])[-−])?\d+(?:[.,]\d+)*|\b(?:{'|'.join(sorted(NUMERALS.keys() - {'one'}))})\b)"
    r"(?= ?(?P<unit>[ap]\.?m\b|[a-zµ°]+|[%$€£¥])?)"
)
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_LIST_MARK = re.compile(r"^\s*\d{1,2}[.)] ", re.MULTILINE)
_OPERATORS = {"over": ">", "under": "<", ">=": "≥", "<=": "≤"}
# German, French and Chinese, and what denies nothing in them: "no problem", "do not hesitate", "not only", "is it or not".
_DENIAL = re.compile(r"\b(?:nicht|kein(?:e[mnrs]?)?)\b|\b(?:ne |n')(?:[\w'-]+ ){0,3}?(?:pas|plus|jamais)\b|[不没沒]")
_MANNER = re.compile(
    r"\bkeine? (?:problem|sorgen?|ursache)\b|\bnicht (?:nur|zögern|zuletzt|wahr)\b|\bzögern sie nicht\b|"
    r"\bn'hésite[rz]? pas\b|\bne (?:vous |t')inquiète[zr]? pas\b|\bne (?:vous |t')inquiétez pas\b|"
    r"(\w)[不没沒]\1|不[过過仅僅但断斷客久少止管论論妨]|不用(?:担心|擔心|谢|謝)|不好意思|差不多|[没沒](?:问题|問題|关系|關係|错|錯)"
)

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
    one, other = _facts(a), _facts(b)
    if set(one.numbers) != set(other.numbers):
        return Changed("number", bool(set(one.numbers) - set(other.numbers)) and bool(set(other.numbers) - set(one.numbers)))
    lacking = (_lacking(one, b), _lacking(other, a))
    if any(lacking):
        return Changed("name", all(lacking))
    if denied(a, b):
        # In other words, a denial may be a manner of speaking: "do not accept" says what "reject" does.
        return Changed("negation", _verbatim(a, b) is not None)
    if _CODE.search(a) or _CODE.search(b):
        return None if normalize(a) == normalize(b) else Changed("code", True)
    if _substituted(a, b):
        return Changed("word", True)
    if _nearly_verbatim(_form(a), _form(b)):
        if _denials(a) != _denials(b):
            return Changed("negation", True)
        if not _same_values(_values(a), _values(b)):
            return Changed("number", True)
    return None


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
    for (a, b), alike in zip(pairs, asked_alike(pairs), strict=True):
        if not alike:
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
    matched = _verbatim(a, b)
    if matched is None:
        return False
    one, other = _words(a), _words(b)
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
def _verbatim(a: str, b: str) -> tuple[tuple[str, int, int, int, int], ...] | None:
    """What makes the words of one text those of the other (see difflib), where they are nearly the same text."""
    matcher = difflib.SequenceMatcher(None, _words(a), _words(b), autojunk=False)
    likely = matcher.quick_ratio() >= _NEARLY_VERBATIM and matcher.ratio() >= _NEARLY_VERBATIM
    return tuple(matcher.get_opcodes()) if likely else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


def _nearly_verbatim(a: str, b: str) -> bool:
    # What difflib matches depends on which text comes first.
    return _verbatim(a, b) is not None or _verbatim(b, a) is not None


def _form(text: str) -> str:
    """A text with spaces between its words, whatever its script, and all numbers alike: "9 to 5" has the form of "5 to 9"."""
    return _DIGITS.sub("0", _SPACELESS.sub(r" \g<0> ", text))


def _lines(text: str) -> str:
    return "\n".join(map(plain_text, text.splitlines())).lower()


def _denials(text: str) -> int:
    """How often a text denies something in a language whose negations `denied` does not know."""
    return len(_DENIAL.findall(_MANNER.sub(" ", _lines(text))))


def _values(text: str) -> list[tuple[str, str, str]]:
    """The numbers of a text in their order, each with the operator before it and its unit or half of the day ("": none)."""
    found = []
    for match in _VALUE.finditer(_LIST_MARK.sub("", _lines(text))):
        number, operator = _THOUSANDS.sub("", match["number"]).replace("−", "-"), match["operator"] or ""
        unit = (match["currency"] or match["unit"] or "").replace(".", "")
        half = unit if unit in ("am", "pm") else ""
        found.append((NUMERALS.get(number, number), _OPERATORS.get(operator, operator), half or UNITS.get(unit, "")))
    return found


def _same_values(some: Sequence[tuple[str, str, str]], others: Sequence[tuple[str, str, str]]) -> bool:
    """Whether one text has the values of the other one in the same order.

    A value may be told once more, and "50" may be "$50" and "> 50", but "$50" is not "€50".
    """
    fewer, more = sorted((some, others), key=len)
    left = iter(more)
    return all(any(all(p == q or not (p and q) for p, q in zip(x, y, strict=True)) for y in left) for x in fewer)


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
