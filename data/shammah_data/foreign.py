"""Denials in German, French and Chinese, where no other language has the same word. Knows single words, no grammar.

Spanish "no" is an English one as well; other languages deny nothing here.
"""

import re

_GERMAN = frozenset("nicht kein keine keinen keinem keiner keines".split())
# "Not only", and the tags of a question: they deny nothing.
_DENIED = re.compile(
    r"\b(?<!oder )(?:nicht(?! nur\b| wahr\b)|kein(?:e[mnrs]?)?)\b"
    r"|\b(?:ne |n')[\w'-]+(?: [\w'-]+){0,3}? pas\b"
)
# "Can or cannot" asks; the others are words in which the sign denies nothing.
_NEUTRAL = re.compile(
    r"(.)[不没沒]\1|有[没沒]有|[不没沒](?=[同过過错錯管论論仅僅但如久断斷少])|差不多|不好意思|[没沒]关系|[没沒]關係|[对對]不起|不客气|不客氣|不得不|来不及|來不及"
    r"|[没沒]有?[吗嗎呢]?[??]?$"
)
_CHINESE = re.compile("[不没沒]")
# Japanese has the same signs in other words.
_KANA = re.compile("[぀-ヿ]")


def is_denial(word: str) -> bool:
    """Whether a word, in lower case, denies by itself."""
    return word in _GERMAN


def denies_abroad(lower: str) -> bool:
    """Whether a text, normalized, denies something in one of these languages."""
    if _DENIED.search(lower) is not None:
        return True
    if _CHINESE.search(lower) is None or _KANA.search(lower) is not None:
        return False
    return _CHINESE.search(_NEUTRAL.sub("", lower)) is not None
