"""Denials in German, French, Spanish, Dutch, Italian, Portuguese and Chinese, where no other language has the same word.

Knows no grammar. Spanish and Italian "no" is an English one as well, and is left to those who know English; Portuguese "no" is
"in the". Other languages deny nothing here.
"""

import re

# Words that deny by themselves, whatever the language around them.
_DENIALS = frozenset(
    (
        "nicht kein keine keinen keinem keiner keines nein niet geen nooit niemand nunca jamás tampoco nadie ningún ninguna "
        "ninguno não ninguém nenhum nenhuma nessun nessuno nessuna"
    ).split()
)
_SIGNS = frozenset("不没沒无無未")
# What says no in a word of its own: "geschlossen" is "nicht geöffnet".
REFUSALS = frozenset(
    (
        "geschlossen schließt schließen fehlt fehlen falsch verboten abgelehnt unmöglich ungültig fermé fermée fermés ferme "
        "ferment refusé refusée interdit interdite impossible manque cerrado cerrada cierra cierran prohibido rechazado "
        "imposible falta gesloten sluit sluiten ontbreekt ongeldig verboden geweigerd onmogelijk chiuso chiusa chiusi chiude "
        "chiudono vietato rifiutato impossibile manca fechado fechada fechados fecha fecham proibido recusado impossível"
    ).split()
)
# Chinese words that shape a sentence, sign by sign, and "can": it stands in many words, and its denial says it all.
FRAME = frozenset("的了是在吗嗎呢吧啊您你我他她它们們也都就会會可以能够夠")
# "No problem" and the like: what is said to be kind, and states nothing. "Es gibt kein Problem mit dem Konto" does, and so does
# "it is no problem if you come later".
_STATED = r"(?!,? (?:if|wenn|falls|als|si|se)\b)"
_COURTESY = "|".join(
    (
        r"(?<!there )(?<!there is )(?<!there's )(?<!there was )(?<!have )(?<!has )(?<!had )\bno problem\b"
        rf"(?! (?:with|in|at|on)\b){_STATED}",
        r"(?<!gibt )(?<!gibt es )(?<!habe )(?<!haben )(?<!hat )\bkeine? (?:problem|sorgen?|ursache|thema)\b"
        rf"(?! (?:mit|bei|beim|im|in|am|an|auf)\b){_STATED}",
        rf"\bpas de (?:problème|souci)\b{_STATED}",
        rf"\bno hay (?:de qué|problema)\b(?! (?:con|en)\b){_STATED}",
        rf"\bgeen (?:probleem|zorgen|dank)\b(?! (?:met|in|op)\b){_STATED}",
        rf"(?:\bnon c'è (?:problema|di che)\b|\bnessun problema\b)(?! (?:con|in)\b){_STATED}",
        rf"\bnão (?:há|tem) (?:problema|de quê)\b(?! (?:com|n[oa])\b){_STATED}",
        r"[没沒](?:问题|問題|关系|關係|事(?=[,。!儿兒]))|不客[气氣]|不用(?:担心|擔心|谢|謝)|不好意思|[对對]不起",
    )
)
# What denies nothing, in questions and in answers: courtesies, "do not hesitate", "not only", "is it or not", the tags of a
# question; in Chinese also words that have the sign.
_MANNER = re.compile(
    _COURTESY + r"|\bzögern sie nicht\b|\boder nicht\b|\bnicht (?:nur|zögern|zuletzt|wahr)\b"
    r"|\bn'hésite[rz]? pas\b|\bne (?:vous |t')inquiète[zr]? pas\b|\bne (?:vous |t')inquiétez pas\b"
    r"|\bno (?:(?:te|se) preocupe[ns]?|dude[ns]? en|s[oó]lo|solamente|importa)\b|\bo no(?=\?)|¿no\b(?=\?|$)"
    r"|\bniet (?:alleen|waar|te danken)\b|\bof niet\b|\baarzel niet\b"
    r"|\bnon (?:solo|soltanto|esit\w+|(?:ti|si) preoccup\w+|vi preoccupate)\b|\bo no(?=\?)"
    r"|\bnão (?:só|apenas|somente|hesite|se preocupe|é(?=\?|$))|\bou não\b"
    r"|(\w)[不没沒]\1|有[没沒]有|[不没沒][同过過错錯管论論仅僅但如久断斷]|不[少止妨]|不超[过過]|不到(?=\s?[\d一二三四五六七八九十半])"
    r"|差不多|不得不|来不及|來不及"
)
_COURTEOUS = re.compile(_COURTESY, re.IGNORECASE)
# What every one of them has, and hardly another text: looking for this first is faster.
_MAYBE_COURTEOUS = re.compile(r"probl|souci|sorge|zorge|ursache|thema|dank|de qu[éê]|di che|[没沒不对對]", re.IGNORECASE)
_DENIED = re.compile(
    rf"\b(?:{'|'.join(sorted(_DENIALS))})\b"
    r"|\b(?:ne |n')(?P<verb>(?!qu)[\w'-]+(?: (?!qu)[\w'-]+){0,3}?) (?:pas|plus|jamais)\b"
)
# English has "non" before many words, and other languages have taken it from there; a French one stands alone.
_ITALIAN = re.compile(r"\bnon (?!plus\b|seulement\b|pas\b|profit|stop\b|grata\b|sequitur)(?=[^\W\d_])|^non(?=[,.!]|$)")
_ITALIAN_WORDS = re.compile(
    r"^non(?=[,.!]|$)|\b(?:è|sono|il|lo|la|le|gli|che|di|del|della|dei|delle|nel|nella|al|alla|dal|può|puoi|posso|possono|si|mai|una?|"
    r"con|ho|hai|ha|c'è)\b"
)
# Portuguese "no" is "in the": by words that Spanish has not, or by what stands behind it.
_PORTUGUESE = re.compile(r"\b(?:não|uma|você|vocês|aos?|às|pode|podem|pela|isso|loja|também|até|há|abrem? no|\w+ção|\w+ções)\b")
_IN_THE = re.compile(r"\bno\b")
_IN_THE_ALONE = re.compile(
    r"\bno (?=(?:entanto|dia|domingo|sábado|aplicativo|celular|centro|máximo|mínimo|início|fim|momento|mesmo|mês|brasil)\b)"
)
_ENGLISH = re.compile(
    r"\b(?:the|is|are|was|were|of|for|at|by|to|on|with|there|you|we|it|this|that|and|or|from|can|will|not|be|has|have)\b"
)
_CHINESE = re.compile(r"[不没沒](?:行|能|可以|可能|办法|辦法)|[无無]法|[无無](?=[需须須])|未(?![来來必])|[不没沒]有?")
# "Did he come or not": it ends a question; an answer may end so, and denies.
_ASKED = re.compile(r"[没沒]有?[吗嗎呢]?[??]?$")
# Japanese has the same signs in other words.
_KANA = re.compile("[぀-ヿ]")


def denials(lower: str, abroad: bool) -> frozenset[str]:
    """The words, as the guards take a question apart, that deny by themselves in a text in lower case.

    `abroad`: what `denies_abroad` says of it.
    """
    found = _DENIALS
    if abroad and _KANA.search(lower) is None:
        found |= _SIGNS
    return found | {"non"} if _is_italian(lower) else found


def meant(lower: str) -> str:
    """A text in lower case without the manners of speaking, and words of other languages, that only look like a denial."""
    said = _MANNER.sub(" ", lower)
    if "no" in said and not _ENGLISH.search(said):
        said = (_IN_THE if _PORTUGUESE.search(said) else _IN_THE_ALONE).sub(" ", said)
    return said


def without_courtesies(text: str) -> str:
    """A text, in whatever case, without "no problem" and the like."""
    return _COURTEOUS.sub(" ", text) if _MAYBE_COURTEOUS.search(text) is not None else text


def affirmed(lower: str) -> str:
    """What `meant` gives without its denials: another text where it denies something, else the same."""
    said = _DENIED.sub(lambda found: found["verb"] or " ", lower)
    if _is_italian(said):
        said = _ITALIAN.sub(" ", said)
    return said if _KANA.search(said) is not None else _CHINESE.sub(" ", said)


def denies_abroad(question: str) -> bool:
    """Whether a question, normalized, denies something in one of these languages."""
    asked = _ASKED.sub("", question)
    # Most questions deny nothing, whatever their manners.
    if affirmed(asked) == asked:
        return False
    said = meant(asked)
    return affirmed(said) != said


def _is_italian(lower: str) -> bool:
    return "non" in lower and not _ENGLISH.search(lower) and _ITALIAN_WORDS.search(lower) is not None
