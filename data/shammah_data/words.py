"""English words and what is done to them before texts are compared: stop words, numerals, negations, stems. Knows no facts."""

import re
import unicodedata

_NEGATIONS = frozenset(
    (
        "no not never none nothing nobody cannot without neither nor cant dont didnt doesnt isnt arent wasnt werent havent "
        "hasnt hadnt couldnt wouldnt shouldnt wont"
    ).split()
)
# An abbreviation; at the beginning of a sentence it may be an answer.
_NO = re.compile(r"(?<=[\w,;:(] )nos?\. ?(?=#?\d)|(?<=\()nos?\. ?(?=#?\d)")
# A character of a script without spaces is a word of its own.
SPACELESS = "[぀-ヿ㐀-鿿가-힯]"
STOP = frozenset(
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


def plain_text(text: str) -> str:
    """NFKC, straight quotes, single spaces."""
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    return " ".join(plain.split())


def spelled_out(lower: str) -> str:
    """A text in lower case whose "no. 5", inside of a sentence, is "number 5"."""
    return _NO.sub("number ", lower) if "." in lower else lower


def negates(word: str) -> bool:
    """Whether a word, in lower case, is a negation."""
    return word in _NEGATIONS or word.endswith("n't")


def stem(word: str) -> str:
    """A word without the commonest endings: inflection must not count as another word."""
    # A real stemmer would be a dependency for a few endings.
    if word.endswith("ies") and len(word) >= 6:
        return word[:-3] + "y"
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    # "Charge" goes with "charges" and "charging".
    return word[:-1] if word.endswith("e") and len(word) >= 5 else word
