"""Words without their endings, and one stem for those that say the same. Knows no sentence."""

import re
from functools import lru_cache

from shammah_data.opposites import UNITS
from shammah_data.synonyms import FORMS, SAME, spelled_alike
from shammah_data.words import NUMERALS

_WONT = re.compile(r"n't$")


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


_SAME = {stem(word): stem(same) for word, same in SAME.items()}


@lru_cache(maxsize=16384)
def root(word: str) -> str:
    """The stem of a word, in lower case; one and the same for words that say the same, whatever their form and spelling."""
    if (number := NUMERALS.get(word)) is not None:
        return number
    plain = UNITS.get(word) or spelled_alike(word)
    whole = plain[2:] if plain.startswith("un") and plain[2:] in FORMS else plain
    stemmed = plain[: -len(whole)] + stem(FORMS.get(whole, whole))
    return _SAME.get(stemmed, stemmed)
