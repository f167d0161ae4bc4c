"""A query as the guards see it: its words, stems, numbers, names, and what it says of whom. Knows text, no other query.

Numbers, quoted strings, paths and options are found in any language, denials in a few; the lists of words are English.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from shammah_data.foreign import denials, denies_abroad, meant
from shammah_data.formulas import Formula, formulas
from shammah_data.judge import facts, normalize
from shammah_data.measures import is_unit
from shammah_data.opposites import CLASSES, FAILURES, ORDINALS, PHRASES, REQUESTS, SILENT, UNITS
from shammah_data.roles import PERSONS, Pairs, acts, cast, content_at, moves, ordered, roles
from shammah_data.stems import root
from shammah_data.synonyms import FORMS, in_digits, in_one_word
from shammah_data.words import SPACELESS, negates, spelled_out
from shammah_data.written import written

_TOKEN = re.compile(rf"{SPACELESS}|[^\W_]+(?:'[^\W\d_]+)?|[-+*/%=<>$€£¥]")
_UNIT = re.compile(r"(?:(?<=\d)|(?<=\d\s)|\b)([a-zµ°]+|[%$€£¥])(?![^\W_])|([$€£¥])(?=\s?\d)")
# What is a word with its signs: languages and notes. A lone "a" is an article.
_SIGNED = re.compile(r"(?<![\w'-])(c\+\+(?!\+)|[b-hj]#?(?![\w'+#]))")
# "How many ounces": what is asked for.
_COUNTED = re.compile(r"\bhow (?:many|much) ([a-z]+)")
# "-r" is not "-R".
_SHORT_OPTION = re.compile(r"(?<![\w-])-[A-Za-z]+\b")
# "10gb" is "10 gb".
_GLUED = re.compile(r"(?<![\w.])(\d+(?:[.,]\d+)?)([a-z]{1,12})(?!\w)")
# "*.txt", ".html": kinds of files.
_PATTERN = re.compile(r"\*?\.[a-z][a-z0-9]{0,5}(?![\w.])|\*[a-z0-9]+\*?")
# An apostrophe inside a word quotes nothing.
_SINGLE_QUOTED = re.compile(r"(?<![\w'])'([^'\n]{1,40})'(?![\w'])")
_NEGATING = ("un", "dis", "de", "in", "im", "ir", "il", "non", "mis")
_WITHOUT = "les"
_SHORTEST_NEGATED = 3
# Words that only look like the denial of another one.
_UNDENIED = frozenset(
    (
        "debug decid default delay deliv deliver demand depend deposit depress desir design detail detract disabl discount "
        "discov discover dismis dispatch display dispos distract image impact import impos impres improv includ increas "
        "inform input insid instal instanc intent intern invest invit inward until union unit unles under missing mission "
        "unknow"
    ).split()
)
_OWNERS = {"my": "my", "mine": "my", "our": "my", "your": "your", "yours": "your", "his": "his", "her": "her", "their": "their"}
_ANYBODY = frozenset((helper, "you") for helper in "do should if when must did".split())
_PARTICLES = {
    "in": ("in", "in"),
    "into": ("in", "in"),
    "out": ("in", "out"),
    "for": ("for", "for"),
    "against": ("for", "against"),
}
_HARDLY = frozenset("hardly barely scarcely rarely seldom".split())
_MONTHS = frozenset(("may", "march", "mar"))
_TOWARDS = {"to": "to", "for": "to", "from": "from"}
_NOW = frozenset(("this", "current"))
_TIMES = frozenset("week weeks month year quarter season semester term morning afternoon evening weekend".split())
_FUTURE = frozenset("will shall gonna won't wont it'll they'll i'll you'll he'll she'll we'll".split())
_PAST = frozenset("did was were had has have didn't wasn't weren't haven't hasn't didnt".split())
# Forms of the past that are others as well.
_PRESENT_TOO = frozenset(
    "come become run children men women people persons feet teeth mice wives knives shelves halves saw".split()
)
_SHADES = (
    ("much", "all", frozenset("all every each everyone everybody everything".split())),
    ("much", "some", frozenset("some few several".split())),
    ("whom", "he", frozenset("he him his".split())),
    ("whom", "she", frozenset("she her hers".split())),
    ("since", "still", frozenset(("still",))),
    ("since", "already", frozenset(("already",))),
    ("bound", "from", frozenset(("from", "since"))),
    ("bound", "until", frozenset(("until", "till"))),
)
_WHAT_IS = "what(?:'s| is| was| are| were) (?:the |your |my )?"
_MAY = frozenset("can could may might".split())
_MUST = frozenset("should must shall ought".split())
_COURTEOUS = frozenset("hi hello hey please thank thanks so and ok okay well sorry excuse me".split())
_SENTENCES = re.compile(r"[.?!] ")
# "I can't find it" asks for it, and "I don't understand why" asks why.
_LACK = re.compile(
    r"\b(?:(?:ca|could|do|did)(?:n't|nt)|cannot|(?:can|could|do|did) not) (?:(?:really|quite|even|seem to) )?"
    r"(find|know|understand|locate|figure)\b"
)
# "Don't the buses run?" turns around; "they don't run" does not.
_TURNS = ("n't", "nt")
_BEFORE_ACTOR = frozenset("the a an my our your his her their this that these those".split())
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
    moves: bool
    origins: frozenset[str]
    targets: frozenset[str]
    owned: frozenset[tuple[str, str]]
    asks: frozenset[str]
    shades: frozenset[tuple[str, str]]
    acts: frozenset[tuple[str, str, str]]
    cast: tuple[str, ...]
    said: tuple[str, ...]
    me: bool
    counted: frozenset[str]
    options: frozenset[str]
    negated: bool
    denials: tuple[tuple[str, str], ...]
    failures: frozenset[str]
    denied: frozenset[str]


@lru_cache(maxsize=4096)
def sense(query: str) -> Sense:
    """Take a query apart; kept for the queries that were met last."""
    query = in_digits(written(query))
    lower = normalize(query)
    found = facts(query)
    plain = _GLUED.sub(_apart, in_one_word(_LACK.sub(r"\1", spelled_out(lower))))
    words = tuple(_TOKEN.findall(plain))
    stems = tuple(map(root, words))
    abroad = denies_abroad(lower)
    said_no = denials(lower, abroad)
    told = [
        (w, s)
        for w, s in zip(words, stems, strict=True)
        if not {w, s} & REQUESTS and w not in SILENT and not _negates(w) and w not in said_no
    ]
    # "Zone a": no article ends a sentence.
    told += [("a", "a")] if words[-1:] == ("a",) else []
    content = frozenset(s for w, s in told if w[0].isalnum())
    order = tuple(ordered(words, stems, content))
    text = f" {' '.join(words)} "
    classes = {value for w in words for value in CLASSES.get(w.removesuffix("'s"), ())}
    classes |= {value for phrase, value in PHRASES.items() if f" {phrase} " in text}
    classes |= {("ordinal", ORDINALS[w]) for w in words if w in ORDINALS}
    classes |= set(_beside(words, stems))
    pairs, origins, targets = roles(words, stems)
    # "No problem" and "¿no?" deny nothing.
    stating = tuple(_TOKEN.findall(meant(plain))) if abroad or any(map(_negates, words)) else words
    return Sense(
        text,
        lower,
        Counter({number.rstrip("%"): times for number, times in found.numbers.items()}),
        (found.names - UNITS.keys() - _COURTEOUS)
        | frozenset(_PATTERN.findall(lower))
        | frozenset(_SINGLE_QUOTED.findall(lower)),
        frozenset(name for name in found.names if name.isalpha() and _is_short(name, query)),
        words,
        stems,
        content,
        order,
        frozenset(classes),
        frozenset(UNITS[u] for behind, before in _UNIT.findall(lower) if (u := behind or before) in UNITS),
        formulas(lower),
        frozenset(_SIGNED.findall(lower)),
        pairs,
        moves(stems),
        origins,
        targets,
        frozenset(_owned(words, stems)),
        frozenset(_asks(text)),
        frozenset(_shades(words, text, _SENTENCES.search(lower) is None)),
        frozenset(acts(words, stems, order)),
        *cast(words, stems, content),
        "me" in words,
        frozenset(UNITS[unit] for unit in _COUNTED.findall(lower) if unit in UNITS),
        frozenset(_SHORT_OPTION.findall(query)),
        any(map(_negates, stating)) or abroad,
        tuple(sorted(set(_denials(stems)))),
        frozenset(s for w, s in zip(words, stems, strict=True) if w in FAILURES or s in FAILURES),
        frozenset(_denied(stating, tuple(map(root, stating)), said_no)),
    )


def _apart(found: re.Match[str]) -> str:
    return f"{found[1]} {found[2]}" if is_unit(found[2]) else found[0]


def _is_short(name: str, text: str) -> bool:
    return len(name) <= _LONGEST_ABBREVIATION and re.search(rf"(?<!\w){name.upper()}s?(?!\w)", text) is not None


def _negates(word: str) -> bool:
    return negates(word) or word in _HARDLY


def _denials(stems: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Words that may be the denial of another one, and that one: "unpay", "pay"."""
    for one in stems:
        if one in _UNDENIED or not one.isalpha():
            continue
        for prefix in _NEGATING:
            if one.startswith(prefix) and len(one) - len(prefix) >= _SHORTEST_NEGATED:
                yield one, one[len(prefix) :]
        if one.endswith(_WITHOUT) and len(one) - len(_WITHOUT) >= _SHORTEST_NEGATED:
            yield one, one[: -len(_WITHOUT)]


def _denied(words: Sequence[str], stems: Sequence[str], said_no: Container[str]) -> Iterable[str]:
    """What a negation stands before; in a question ("doesn't the printer print") that is what follows the one who acts."""
    for at, word in enumerate(words):
        if _negates(word) or word in said_no:
            behind = content_at(words, stems, range(at + 1, len(words)))
            turned = word.endswith(_TURNS) and words[at + 1 : at + 2] and words[at + 1] in _BEFORE_ACTOR
            yield from behind[1:] if turned else behind


def _owned(words: Sequence[str], stems: Sequence[str]) -> Iterable[tuple[str, str]]:
    # "How often do you change your oil" may ask about anybody's.
    anybody = any(pair in _ANYBODY for pair in pairwise(words))
    for at, word in enumerate(words[:-1]):
        if word in _OWNERS:
            yield _OWNERS[word], stems[at + 1]
            if anybody and word == "your":
                yield "my", stems[at + 1]


def _beside(words: Sequence[str], stems: Sequence[str]) -> Iterable[tuple[str, str]]:
    """What a word means by what stands beside it: "check in", "vote against", "5 may", "this week"."""
    for left, right, stemmed in zip(words, words[1:], stems, strict=False):
        if right in _PARTICLES and stemmed.isalpha() and left not in SILENT:
            yield f"{_PARTICLES[right][0]} {stemmed}", _PARTICLES[right][1]
        for month, other in ((left, right), (right, left)):
            if month in _MONTHS and other[0].isdigit():
                yield "month", month
        if left in _TOWARDS and right in PERSONS:
            yield f"towards {PERSONS[right]}", _TOWARDS[left]
        if left in _NOW and right in _TIMES:
            yield "past", "this"


def _shades(words: Sequence[str], text: str, alone: bool) -> Iterable[tuple[str, str]]:
    """Of what time a query speaks, whether it asks what may be or what should, how much of it, and of whom."""
    told = set(words)
    if told & _FUTURE or " going to " in text:
        yield "time", "will"
    elif told & _PAST or any(word in FORMS and word not in _PRESENT_TOO for word in words):
        yield "time", "did"
    for kind, value, listed in _SHADES:
        if told & listed:
            yield kind, value
    if alone and (first := next((w for w in words if w not in _COURTEOUS), "")) in _MAY | _MUST:
        yield "mood", "can" if first in _MAY else "should"


def _asks(text: str) -> Iterable[str]:
    if re.search(r" how (?:much|many|long|often|far|old|big|large|fast) ", text):
        yield "how much"
    elif re.search(rf" why | {_WHAT_IS}(?:reason|cause)s? ", text):
        yield "why"
    elif re.search(rf" {_WHAT_IS}(?:deadline|date|due date) ", text):
        yield "when"
    elif re.search(r" (?:how|what|where|which|what's|where's) ", text):
        yield "how"
    if re.search(r" when | when's | (?:what|which) (?:time|day|date) ", text):
        yield "when"
    if re.search(r" who | whom | whose | who's ", text):
        yield "who"
