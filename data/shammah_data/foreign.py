"""Denials in German, French, Spanish and Chinese, where no other language has the same word. Knows no grammar.

Spanish "no" is an English one as well, and is left to those who know English; other languages deny nothing here.
"""

import re

_GERMAN = frozenset("nicht kein keine keinen keinem keiner keines".split())
# What says no in a word of its own: "geschlossen" is "nicht geöffnet".
REFUSALS = frozenset(
    (
        "geschlossen schließt schließen fehlt fehlen falsch verboten abgelehnt unmöglich ungültig fermé fermée fermés ferme "
        "ferment refusé refusée interdit interdite impossible manque cerrado cerrada cierra cierran prohibido rechazado "
        "imposible falta"
    ).split()
)
# What denies nothing, in questions and in answers: "no problem", "do not hesitate", "not only", "is it or not", the tags of a
# question; in Chinese also words that have the sign.
_MANNER = re.compile(
    r"\bkeine? (?:problem|sorgen?|ursache)\b|\bzögern sie nicht\b|\boder nicht\b|\bnicht (?:nur|zögern|zuletzt|wahr)\b"
    r"|\bn'hésite[rz]? pas\b|\bne (?:vous |t')inquiète[zr]? pas\b|\bne (?:vous |t')inquiétez pas\b"
    r"|\bpas de (?:problème|souci)\b"
    r"|\bno (?:hay (?:de qué|problema)|(?:te|se) preocupe[ns]?|dude[ns]? en|s[oó]lo|solamente)\b"
    r"|(\w)[不没沒]\1|有[没沒]有|[不没沒][同過过錯错管論论仅僅但如久断斷]|不[客少止妨]|不用(?:担心|擔心|谢|謝)|不好意思"
    r"|[没沒](?:问题|問題|关系|關係)|差不多|[对對]不起|不得不|来不及|來不及"
)
_DENIED = re.compile(
    r"\b(?:nicht|kein(?:e[mnrs]?)?|nunca|jamás|tampoco)\b"
    r"|\b(?:ne |n')(?P<verb>(?!qu)[\w'-]+(?: (?!qu)[\w'-]+){0,3}?) (?:pas|plus|jamais)\b"
)
_CHINESE = re.compile(r"[不没沒]有?")
# "Did he come or not": it ends a question; an answer may end so, and denies.
_ASKED = re.compile(r"[没沒]有?[吗嗎呢]?[??]?$")
# Japanese has the same signs in other words.
_KANA = re.compile("[぀-ヿ]")


def is_denial(word: str) -> bool:
    """Whether a word, in lower case, denies by itself."""
    return word in _GERMAN


def meant(lower: str) -> str:
    """A text in lower case without the manners of speaking that only look like a denial."""
    return _MANNER.sub(" ", lower)


def affirmed(lower: str) -> str:
    """What `meant` gives without its denials: another text where it denies something, else the same."""
    said = _DENIED.sub(lambda found: found["verb"] or " ", lower)
    return said if _KANA.search(said) is not None else _CHINESE.sub(" ", said)


def denies_abroad(question: str) -> bool:
    """Whether a question, normalized, denies something in one of these languages."""
    said = meant(_ASKED.sub("", question))
    return affirmed(said) != said
