"""One judge of correctness: the facts of the reference must be in the answer, not only similar words.

Facts are what cannot be paraphrased: numbers, names, commands, options, paths, quoted strings, negation. An answer is
right when it holds every fact of the reference, adds no other number, agrees in negation, and shares enough of the
remaining content words. Knows text, not models.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]{1,80})\"")
_PATHLIKE = re.compile(r"(?<![\w/.-])(?:~?/[\w.-]+(?:/[\w.-]+)*/?|/?[\w-]+(?:/[\w.-]+)+|[\w-]+\.[a-z][a-z0-9]{0,7}(?![\w]))")
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_IDENTIFIER = re.compile(r"\b(?:[A-Za-z]+(?:[_-][A-Za-z0-9]+)*_[A-Za-z0-9_]+|[a-z]+[A-Z]\w*|[A-Z]{2,}[\w]*)\b")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?%?|(?<=[A-Za-z])\d+(?:\.\d+)*")
_NAME = re.compile(r"(?<=[a-z0-9,;:] )[A-Z][a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
_NEGATION = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nothing",
        "nobody",
        "cannot",
        "can't",
        "don't",
        "doesn't",
        "isn't",
        "won't",
        "without",
        "neither",
        "nor",
    ]
)
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "am",
        "do",
        "does",
        "did",
        "to",
        "of",
        "in",
        "on",
        "at",
        "for",
        "from",
        "by",
        "with",
        "and",
        "or",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "you",
        "your",
        "i",
        "me",
        "my",
        "we",
        "our",
        "they",
        "them",
        "he",
        "she",
        "his",
        "her",
        "as",
        "if",
        "so",
        "then",
        "than",
        "there",
        "here",
        "will",
        "would",
        "can",
        "could",
        "should",
        "may",
        "might",
        "have",
        "has",
        "had",
        "just",
        "please",
        "also",
        "which",
        "who",
        "what",
        "when",
        "where",
        "how",
        "why",
    ]
)
_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
}
WORD_SHARE = 0.5


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
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    return re.sub(r"\s+", " ", plain).strip().rstrip(".!?… ").lower()


def facts(text: str) -> Facts:
    """Take the facts out of a text.

    Numbers: digits with their sign, thousands separators dropped; number words up to twenty count. Names: quoted
    strings, paths and files, options, identifiers, and capitalized words inside a sentence, all in lower case.
    """
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    names: set[str] = set()
    for match in _QUOTED.finditer(plain):
        names.add(next(part for part in match.groups() if part).strip().lower())
    for pattern in (_PATHLIKE, _OPTION, _IDENTIFIER, _NAME):
        names.update(match.group().rstrip(".,;:").lower() for match in pattern.finditer(plain))
    numbers = Counter(match.group().replace(",", "").lstrip("+") for match in _NUMBER.finditer(plain))
    lower = plain.lower()
    words = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", lower))
    numbers.update(_NUMERALS[word] for word in _WORD.findall(lower) if word in _NUMERALS and word != "one")
    return Facts(
        numbers=numbers,
        names=frozenset(name for name in names if name not in _STOP),
        negated=bool(words & _NEGATION),
        words=frozenset(_stem(word) for word in words - _STOP - _NEGATION if word not in _NUMERALS),
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
    if missing_names := sorted(name for name in wanted.names if name not in text):
        return Verdict(False, f"missing name {missing_names[0]}")
    if wanted.negated != given.negated:
        return Verdict(False, "one of the two is negated")
    if wanted.words:
        share = len(wanted.words & given.words) / len(wanted.words)
        if share < WORD_SHARE:
            return Verdict(False, f"shares {share:.0%} of the reference's words")
    return Verdict(True, "the same facts")


def _stem(word: str) -> str:
    # Inflection must not count as another word; a real stemmer would be a dependency for a few endings.
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
