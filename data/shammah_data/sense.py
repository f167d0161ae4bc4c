"""A query as the guards see it: its words, stems, numbers, names, and what it says of whom. Knows text, no other query.

Numbers, quoted strings, paths and options are found in any language, denials in a few; the lists of words are English.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shammah_data.foreign import denies_abroad, is_denial
from shammah_data.formulas import Formula, formulas
from shammah_data.judge import facts, normalize
from shammah_data.opposites import CLASSES, FAILURES, ORDINALS, PHRASES, REQUESTS, SILENT, UNITS
from shammah_data.words import NUMERALS, SPACELESS, negates
from shammah_data.written import written

Pairs = frozenset[tuple[str, str, str]]

_TOKEN = re.compile(rf"{SPACELESS}|[^\W_]+(?:'[^\W\d_]+)?|[-+*/%=<>$€£¥]")
_UNIT = re.compile(r"(?:(?<=\d)|(?<=\d\s)|\b)([a-zµ°]+|[%$€£¥])(?![^\W_])|([$€£¥])(?=\s?\d)")
# What is a word with its signs: languages and notes. A lone "a" is an article.
_SIGNED = re.compile(r"(?<![\w'-])(c\+\+(?!\+)|[b-hj]#?(?![\w'+#]))")
# "E-mail" is "email".
_ELECTRONIC = re.compile(r"\be-(?=[a-z]{4})")
# "*.txt", ".html": kinds of files.
_PATTERN = re.compile(r"\*?\.[a-z][a-z0-9]{0,5}(?![\w.])|\*[a-z0-9]+\*?")
# An apostrophe inside a word quotes nothing.
_SINGLE_QUOTED = re.compile(r"(?<![\w'])'([^'\n]{1,40})'(?![\w'])")
_OWNERS = {"my": "my", "mine": "my", "our": "my", "your": "your", "yours": "your", "his": "his", "her": "her", "their": "their"}
_FROM = frozenset(("from",))
_TO = frozenset(("to", "into", "onto", "towards", "toward"))
_BETWEEN = frozenset("in as of for than vs versus".split())
_BREAKS = _FROM | _TO | frozenset("by with via through on at when if because and or for using without before after".split())
_WONT = re.compile(r"n't$")
# "I can't find it" asks for it, and "I don't understand why" asks why.
_LACK = re.compile(
    r"\b(?:(?:ca|could|do|did)(?:n't|nt)|cannot|(?:can|could|do|did) not) (?:(?:really|quite|even|seem to) )?"
    r"(find|know|understand|remember|recall|locate|figure)\b"
)
# "Don't the buses run?" turns around; "they don't run" does not.
_TURNS = ("n't", "nt")
_BEFORE_ACTOR = frozenset("the a an my our your his her their this that these those".split())
# A place that is reached "from" or "to" is named within so many words.
_REACH = 3
_LONGEST_ABBREVIATION = 5


@dataclass(frozen=True, eq=False)
class Sense:
    """A query as the rules see it."""

    text: str
    lower: str
    numbers: Counter[str]
    names: frozenset[str]
    short: frozenset[str]
    words: tuple[str, ...]
    stems: tuple[str, ...]
    content: frozenset[str]
    order: tuple[str, ...]
    classes: frozenset[tuple[str, str]]
    units: frozenset[str]
    formulas: frozenset[Formula]
    signed: frozenset[str]
    pairs: Pairs
    origins: frozenset[str]
    targets: frozenset[str]
    owned: frozenset[tuple[str, str]]
    asks: frozenset[str]
    negated: bool
    failures: frozenset[str]
    denied: frozenset[str]


@lru_cache(maxsize=4096)
def sense(query: str) -> Sense:
    """Take a query apart; kept for the queries that were met last."""
    query = written(query)
    lower = normalize(query)
    found = facts(query)
    words = tuple(_TOKEN.findall(_ELECTRONIC.sub("e", _LACK.sub(r"\1", lower))))
    stems = tuple(NUMERALS.get(word) or stem(word) for word in words)
    told = [(w, s) for w, s in zip(words, stems, strict=True) if not {w, s} & REQUESTS and w not in SILENT and not _denies(w)]
    order = tuple(s for w, s in told if w[0].isalnum())
    text = f" {' '.join(words)} "
    classes = {value for w in words for value in CLASSES.get(w, ())}
    classes |= {value for phrase, value in PHRASES.items() if f" {phrase} " in text}
    classes |= {("ordinal", ORDINALS[w]) for w in words if w in ORDINALS}
    pairs, origins, targets = _roles(words, stems)
    return Sense(
        text,
        lower,
        found.numbers,
        found.names | frozenset(_PATTERN.findall(lower)) | frozenset(_SINGLE_QUOTED.findall(lower)),
        frozenset(name for name in found.names if name.isalpha() and _is_short(name, query)),
        words,
        stems,
        frozenset(order),
        order,
        frozenset(classes),
        frozenset(UNITS[u] for behind, before in _UNIT.findall(lower) if (u := behind or before) in UNITS),
        formulas(lower),
        frozenset(_SIGNED.findall(lower)),
        pairs,
        origins,
        targets,
        frozenset(_owned(words, stems)),
        frozenset(_asks(text)),
        any(map(negates, words)) or denies_abroad(lower),
        frozenset(s for w, s in zip(words, stems, strict=True) if w in FAILURES or s in FAILURES),
        frozenset(_denied(words, stems)),
    )


def _is_short(name: str, text: str) -> bool:
    return len(name) <= _LONGEST_ABBREVIATION and re.search(rf"(?<!\w){name.upper()}s?(?!\w)", text) is not None


def _roles(words: Sequence[str], stems: Sequence[str]) -> tuple[Pairs, frozenset[str], frozenset[str]]:
    """Triples (to, A, B) of "A to B", (in, A, B) of "A in B" and the like; then what something goes from, what to."""
    pairs: set[tuple[str, str, str]] = set()
    origins: set[str] = set()
    targets: set[str] = set()
    for at, word in enumerate(words):
        behind = _content(words, stems, range(at + 1, len(words)))
        if word in _FROM or word in _TO:
            (origins if word in _FROM else targets).update(behind)
        if word in _TO or word in _BETWEEN:
            before = _content(words, stems, range(at - 1, -1, -1))
            pairs.update(("to" if word in _TO else word, x, y) for x in before for y in behind if x != y)
    return frozenset(pairs), frozenset(origins), frozenset(targets)


def _content(words: Sequence[str], stems: Sequence[str], places: Sequence[int]) -> list[str]:
    found: list[str] = []
    for place in places[:_REACH]:
        if words[place] in _BREAKS:
            break
        if words[place] not in SILENT and words[place] not in REQUESTS and words[place].isalnum():
            found.append(stems[place])
    return found


def _denies(word: str) -> bool:
    return negates(word) or is_denial(word)


def _denied(words: Sequence[str], stems: Sequence[str]) -> Iterable[str]:
    """What a negation stands before; in a question ("doesn't the printer print") that is what follows the one who acts."""
    for at, word in enumerate(words):
        if _denies(word):
            behind = _content(words, stems, range(at + 1, len(words)))
            turned = word.endswith(_TURNS) and words[at + 1 : at + 2] and words[at + 1] in _BEFORE_ACTOR
            yield from behind[1:] if turned else behind


def _owned(words: Sequence[str], stems: Sequence[str]) -> Iterable[tuple[str, str]]:
    for at, word in enumerate(words[:-1]):
        if word in _OWNERS:
            yield _OWNERS[word], stems[at + 1]


def _asks(text: str) -> Iterable[str]:
    if re.search(r" how (?:much|many|long|often|far|old|big|large|fast) ", text):
        yield "how much"
    elif re.search(r" how come | why ", text):
        yield "why"
    elif re.search(r" (?:how|what|where|which|what's|where's) ", text):
        yield "how"
    if re.search(r" when | when's | what time ", text):
        yield "when"
    if re.search(r" who | whom | whose | who's ", text):
        yield "who"


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """A word without the endings that an English text inflects with; a word of another language mostly stays as it is."""
    word = _WONT.sub("", word.removesuffix("'s"))
    for ending, whole in (("ification", "ify"), ("ations", "ate"), ("ation", "ate"), ("ments", ""), ("ment", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and word.isascii():
            word = word[: -len(ending)] + whole
            break
    for ending in ("ings", "ing", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and word.isascii():
            word = word[: -len(ending)]
            if ending == "ies":
                word += "y"
            elif len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word
