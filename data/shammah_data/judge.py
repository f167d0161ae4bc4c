"""One judge of correctness: the facts of the reference must be in the answer, not only similar words.

Facts are what cannot be paraphrased: numbers, names, commands, options, paths, quoted strings, negation. An answer is
right when it holds every fact of the reference, adds no other number, agrees in negation, and shares enough of the
remaining content words. Knows text, not models.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]{1,80})\"")
_PATHLIKE = re.compile(r"(?<![\w/.-])(?:~?/[\w.-]+(?:/[\w.-]+)*/?|/?[\w-]+(?:/[\w.-]+)+|[\w-]+\.[a-z][a-z0-9]{0,7}(?![\w]))")
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_IDENTIFIER = re.compile(r"(?<![^\W\d])(?:[A-Za-z]+(?:[_-][A-Za-z0-9]+)*_[A-Za-z0-9_]+|[a-z]+[A-Z]\w*|[A-Z]{2,}[\w]*)\b")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)*%?|(?<=[A-Za-z])\d+(?:\.\d+)*")
_NAME = re.compile(r"(?<=[\w,;:] )[^\W\d_]{2,}(?:-\w+)*")
_LIST_MARK = re.compile(r"^[ \t]*(\d{1,2})[.)][ \t]+(?=\S)", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
_NEGATION = frozenset("no not never none nothing nobody cannot without neither nor".split())
_STOP = frozenset(
    (
        "a an the is are was were be been am do does did to of in on at for from by with and or it its this that "
        "these those you your i me my we our they them he she his her as if so then than there here will would can "
        "could should may might have has had just please also which who what when where how why"
    ).split()
)
NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        (
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        ).split()
    )
} | {word: str(10 * tens) for tens, word in enumerate("thirty forty fifty sixty seventy eighty ninety hundred".split(), 3)}
WORD_SHARE = 0.5
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
    return _plain(text).rstrip(".!?… ").lower()


@lru_cache(maxsize=8192)
def facts(text: str) -> Facts:
    """Take the facts out of a text; remembered for the texts met last.

    Numbers: digits with their sign, thousands separators dropped; number words up to twenty, and tens, count. Names: quoted
    strings, paths and files, options, identifiers, and capitalized words inside a sentence, all in lower case.
    """
    # The marks of a numbered list count its points; they state nothing.
    numbered = {"1", "2"} <= set(_LIST_MARK.findall(text))
    lines = (_LIST_MARK.sub("", text) if numbered else text).splitlines()
    plain = "\n".join(map(_plain, lines))  # a capital at the beginning of a line makes no name
    names: set[str] = set()
    for match in _QUOTED.finditer(plain):
        names.add(next(part for part in match.groups() if part))
    for pattern in (_PATHLIKE, _OPTION, _IDENTIFIER):
        names.update(match.group() for match in pattern.finditer(plain))
    names.update(match.group() for match in _NAME.finditer(plain) if match.group()[0].isupper())
    # The end of a sentence is no part of a name that stands there.
    names = {name.lower().strip().rstrip(".,;:!?… ") for name in names}
    numbers = Counter(match.group().replace(",", "").lstrip("+") for match in _NUMBER.finditer(plain))
    lower = plain.lower()
    words = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", lower))
    numbers.update(NUMERALS[word] for word in _WORD.findall(lower) if word in NUMERALS and word != "one")
    return Facts(
        numbers=numbers,
        names=frozenset(name for name in names if name and name not in _STOP),
        negated=any(map(_negates, words)),
        words=frozenset(_stem(word) for word in words - _STOP if word not in NUMERALS and not _negates(word)),
    )


def judge(reference: str, answer: str) -> Verdict:
    """Decide whether `answer` says what `reference` says.

    Raises nothing; an empty answer is wrong. Overlap is the share of the reference's content words found in the answer
    (recall), at least WORD_SHARE.
    """
    if not answer.strip():
        return Verdict(False, "the answer is empty")
    if normalize(reference) == normalize(answer):
        return Verdict(True, "the same text")
    wanted, given = facts(reference), facts(answer)
    if missing := set(wanted.numbers) - set(given.numbers):
        return Verdict(False, f"missing number {sorted(missing)[0]}")
    if extra := set(given.numbers) - set(wanted.numbers):
        return Verdict(False, f"other number {sorted(extra)[0]}")
    text = normalize(answer)
    if missing_names := sorted(name for name in wanted.names - given.names if not holds(text, name)):
        return Verdict(False, f"missing name {missing_names[0]}")
    if wanted.negated != given.negated:
        return Verdict(False, "one of the two is negated")
    if wanted.words:
        share = len(wanted.words & given.words) / len(wanted.words)
        if share < WORD_SHARE:
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


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    return " ".join(plain.split())


def _negates(word: str) -> bool:
    return word in _NEGATION or word.endswith("n't")


def holds(text: str, name: str) -> bool:
    """Whether a text, normalized, names something as a whole, in the plural or not."""
    # Whole names only: -v is not in --verbose, /etc not in /etc/hosts, shammah not in shammah-log; 10mb holds mb.
    before = r"(?<![^\W\d])(?<!-)" if name[0].isalpha() else r"(?<![\w-])"
    plural = "s?" if name.isalpha() and len(name) > 2 else ""
    stem = name[:-1] if plural and name.endswith("s") else name
    return re.search(before + re.escape(stem) + plural + r"(?![\w-]|[./]\w)", text) is not None


def _stem(word: str) -> str:
    # Inflection must not count as another word; a real stemmer would be a dependency for a few endings.
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
