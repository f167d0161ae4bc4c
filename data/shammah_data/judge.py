"""One judge of correctness: the facts of the reference must be in the answer, not only similar words.

Facts are what cannot be paraphrased: numbers, names, commands, options, paths, quoted strings, negation. An answer is
right when it holds every fact of the reference, adds no other number, gives none another unit or another's place, denies
nothing that the reference says nor the other way round, and shares enough of the remaining content words. Knows text, not
models.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from shammah_data.denial import denied, unheard
from shammah_data.foreign import without_courtesies
from shammah_data.values import misvalued
from shammah_data.words import NUMERALS, STOP, negates, plain_text, stem
from shammah_data.written import alike, written

_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]{1,80})\"")
_PATHLIKE = re.compile(r"(?<![\w/.-])(?:~?/[\w.-]+(?:/[\w.-]+)*/?|/?[\w-]+(?:/[\w.-]+)+|[\w-]+\.[a-z][a-z0-9]{0,7}(?![\w]))")
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_IDENTIFIER = re.compile(r"(?<![^\W\d])(?:[A-Za-z]+(?:[_-][A-Za-z0-9]+)*_[A-Za-z0-9_]+|[a-z]+[A-Z]\w*|[A-Z]{2,}[\w]*)\b")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d+)*(?:\.\d+)*%?|(?<=[A-Za-z])\d+(?:\.\d+)*")
_NAME = re.compile(r"(?<=[\w,;:] )[^\W\d_]{2,}(?:-\w+)*")
_LIST_MARK = re.compile(r"^[ \t]*(\d{1,2})[.)][ \t]+(?=\S)", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
# "Two options:", "in four steps", "all three": what counts the points of a text states nothing, as the marks of a list do not.
_COUNTED = "cases choices kinds methods options points possibilities reasons steps things ways"
_NUMERAL = "|".join(NUMERALS)
_COUNTING = re.compile(rf"\ball (?:{_NUMERAL})\b|\b(?:{_NUMERAL}) (?:[a-z]+ )?(?:{'|'.join(_COUNTED.split())})\b")
_TWO = ("both", "either", "twice", "double", "pair")
_ABBREVIATIONS = frozenset(("e.g", "i.e", "etc"))
_IN_WORD, _IN_NAME, _GOES_ON = re.compile(r"[^\W\d]|-"), re.compile(r"[\w-]"), re.compile(r"[\w-]|[./]\w")
WORD_SHARE = 0.5
# Where so many numbers and names agree, fewer words need do.
_MANY_FACTS, _LESS_SHARE = 3, 0.35
# Words, numbers and names that two wordings of an answer have in common at least.
_COMMON = 3
# Where each has so few words of its own, these words make the difference.
_SAME_FORM = 3


@dataclass(frozen=True)
class Facts:
    """What must be the same in two texts for them to say the same thing."""

    numbers: Counter[str]
    names: frozenset[str]
    negated: bool
    words: frozenset[str]


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the first reason why not."""

    right: bool
    reason: str

    def __bool__(self) -> bool:
        return self.right


def normalize(text: str) -> str:
    """NFKC, straight quotes, single spaces, lower case, no closing punctuation: equal means the same text to a reader."""
    return plain_text(text).rstrip(".!?… ").lower()


@lru_cache(maxsize=8192)
def facts(text: str) -> Facts:
    """Take the facts out of a text; remembered for the texts met last.

    Numbers: digits with their sign, as `written`; number words up to twenty, and tens, count. Names: quoted
    strings, paths and files, options, identifiers, and capitalized words inside a sentence, all in lower case.
    """
    # The marks of a numbered list count its points; they state nothing.
    numbered = {"1", "2"} <= set(_LIST_MARK.findall(text))
    plain = written(_LIST_MARK.sub("", text) if numbered else text)  # line by line: a capital at a beginning makes no name
    # Nor does "kein Problem", whose noun has a capital as a name has.
    plain = without_courtesies(plain)
    names: set[str] = set()
    for match in _QUOTED.finditer(plain):
        names.add(next(part for part in match.groups() if part))
    for pattern in (_PATHLIKE, _OPTION, _IDENTIFIER):
        names.update(match.group() for match in pattern.finditer(plain))
    names.update(match.group() for match in _NAME.finditer(plain) if match.group()[0].isupper())
    # The end of a sentence is no part of a name that stands there.
    names = {name.lower().strip().rstrip(".,;:!?… ") for name in names}
    # A part of "example.com" is no name of its own.
    names = {name for name in names if not any(other.startswith(f"{name}.") for other in names)}
    numbers = Counter(match.group().lstrip("+") for match in _NUMBER.finditer(plain))
    lower = plain.lower()
    words = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", lower))
    said = _WORD.findall(_COUNTING.sub(" ", lower))
    numbers.update(NUMERALS[word] for word in said if word in NUMERALS and word != "one")
    return Facts(
        numbers=numbers,
        names=frozenset(name for name in names if name and name not in STOP and name not in _ABBREVIATIONS),
        negated=any(map(negates, words)),
        words=frozenset(stem(word) for word in words - STOP if word not in NUMERALS and not negates(word)),
    )


def judge(reference: str, answer: str) -> Verdict:
    """Decide whether `answer` says what `reference` says.

    Raises nothing; an empty answer is wrong. Overlap is the share of the reference's content words found in the answer
    (recall), at least WORD_SHARE; less will do where several numbers and names agree.
    """
    if not answer.strip():
        return Verdict(False, "the answer is empty")
    if normalize(reference) == normalize(answer):
        return Verdict(True, "the same text")
    reference, answer = alike(reference, answer)
    wanted, given = facts(reference), facts(answer)
    text, wanted_text = normalize(answer), normalize(reference)
    if missing := _unsaid(wanted, wanted_text, given, text):
        return Verdict(False, f"missing number {missing[0]}")
    if extra := _unsaid(given, text, wanted, wanted_text):
        return Verdict(False, f"other number {extra[0]}")
    if missing_names := sorted(name for name in wanted.names - given.names if not holds(text, name)):
        return Verdict(False, f"missing name {missing_names[0]}")
    if (otherwise := misvalued(reference, answer)) is not None:
        return Verdict(False, otherwise)
    if denied(reference, answer) or unheard(reference, answer):
        return Verdict(False, "one of the two is negated")
    if wanted.words:
        common = len(wanted.words & given.words)
        share = common / len(wanted.words)
        facts_agree = len(wanted.numbers) + len(wanted.names)
        # One or two words in common are no more than a topic: "how can I help" and "glad it helped".
        too_few = not facts_agree and common < min(_COMMON, len(wanted.words))
        if too_few or share < (WORD_SHARE if facts_agree < _MANY_FACTS else _LESS_SHARE):
            return Verdict(False, f"shares {share:.0%} of the reference's words")
    elif not (wanted.numbers or wanted.names or wanted.negated):
        return Verdict(False, "the reference states nothing, and this is another text")
    return Verdict(True, "the same facts")


@lru_cache(maxsize=4096)
def same_facts(one: str, other: str) -> bool:
    """Whether each of two answers says what the other says, in whatever words; remembered for the pairs met last.

    Short texts that share but a word or two do not, nor do texts that are the same but for a few words: those are other answers
    in the same form.
    """
    if normalize(one) == normalize(other):
        return True
    mine, theirs = facts(one), facts(other)
    common = len(mine.words & theirs.words) + len(set(mine.numbers) & set(theirs.numbers)) + len(mine.names & theirs.names)
    apart = len(mine.words - theirs.words), len(theirs.words - mine.words)
    same_form = min(apart) >= 1 and max(apart) <= _SAME_FORM
    return common >= _COMMON and not same_form and (bool(judge(one, other)) or bool(judge(other, one)))


def _unsaid(wanted: Facts, source: str, given: Facts, text: str) -> list[str]:
    """The numbers of a text, `source`, that another one does not state; both normalized.

    "One" may be a number or not, and "two entries" may be "both".
    """
    missing = set(wanted.numbers) - set(given.numbers)
    if "1" in missing and holds(text, "one"):
        missing.remove("1")
    if "2" in missing and not holds(source, "2") and any(holds(text, word) for word in _TWO):
        missing.remove("2")
    return sorted(missing)


def holds(text: str, name: str) -> bool:
    """Whether a text, normalized, names something as a whole, in the plural or not."""
    # Whole names only: -v is not in --verbose, /etc not in /etc/hosts, shammah not in shammah-log; 10mb holds mb.
    before = _IN_WORD if name[0].isalpha() else _IN_NAME
    plural = name.isalpha() and len(name) > 2
    whole = name[:-1] if plural and name.endswith("s") else name
    at = text.find(whole)
    while at >= 0:
        end = at + len(whole) + (plural and text.startswith("s", at + len(whole)))
        if not (at and before.match(text, at - 1)) and not _GOES_ON.match(text, end):
            return True
        at = text.find(whole, at + 1)
    return False
