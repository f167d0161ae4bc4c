"""Whether one text denies what another says, clause by clause: words of the language, no facts and no models.

That one of two long texts has a "not" says little: "shops do not accept it" is what "shops reject it" says, and "nothing is
wrong with it" is a manner of speaking. What counts is a clause that is negated and has a counterpart in the other text
that is not.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from shammah_data.foreign import FRAME, REFUSALS, affirmed, meant
from shammah_data.opposites import FAILURES
from shammah_data.words import SPACELESS, STOP, negates, plain_text, spelled_out, stem

# Negations that deny nothing.
_IDIOM = re.compile(
    r"\b(?:no (?:matter|doubt|wonder|worries|need to worry|more than|later than|less than)|do(?:n't| not) worry|"
    r"not (?:only|just|to worry)|nothing (?:to worry|(?:is )?wrong)|whether or not)\b"
)
# What went wrong is told again, and nothing said of it.
_SYMPATHY = re.compile(
    r"\b(?:(?:i'm|i am|we're|we are) (?:very |so |really )?sorry (?:that (?:your?|it|the|this) |to hear |about |your )|"
    r"i understand (?:that|how) |it(?:'s| is) (?:frustrating|annoying|worrying) (?:when|that) )[^.;!?\n]*"
)
_INVERTED = re.compile(r"\s*should (?:it|you|the|that|this|your|there|they)\b")
_CONDITION = "if|unless|once|when|whenever|until|whether|as long as|as soon as"
_CLAUSE = re.compile(
    rf"([.。;:,!?\n()]+|\s-\s|\b(?:but|and|or|so|then|because|since|although|though|while|whereas|{_CONDITION})\b)"
)
_CONDITIONAL = re.compile(_CONDITION)
_WORD = re.compile(rf"{SPACELESS}|[^\W\d_]+(?:'[^\W\d_]+)?")
_ELIDED = re.compile(r"\b(?:[cdjlmnst]|qu)'(?=\w)")
# Of the content words of the shorter of two clauses, so many in common make them clauses about the same thing; of those of both
# (Jaccard), the same clause.
_SAME_THING, _SAME_CLAUSE = 0.5, 0.75
# Of the content words of a denial, so many are in a text that speaks of the same thing at all.
_KNOWN = 0.3
# Words that only a sentence has, and none that names a thing.
_SENTENCE = frozenset(
    (
        "is are was were be been am do does did will would can could should may might must has have had i you he she it we "
        "they there this that"
    ).split()
)
_ARTICLES = frozenset(("a", "an", "the", "my", "your", "our", "their"))
# Things that are named together are named in so few words.
_FEW = 4
# What says no in a word of its own, as a failure does.
_REFUSALS = (
    FAILURES
    | REFUSALS
    | frozenset(
        (
            "avoid avoids avoided avoiding stop stops stopped stopping cease ceases prevent prevents prevented refuse refuses "
            "declines rejects differ differs differed different mismatch mismatched unlike free dead instead closed except "
            "lack lacks misses missed miss same stay stays stayed unaffected unchanged"
        ).split()
    )
)


def denied(one: str, other: str) -> bool:
    """Whether either text denies what the other says.

    Where both have negations, or neither has, only the same clause with and without one counts.
    """
    loosely = negated(one) != negated(other)
    return _denies(one, other, loosely) or _denies(other, one, loosely)


def unheard(one: str, other: str) -> bool:
    """Whether one text denies something of which the other, without any negation, does not speak at all: a fact of its own."""
    if negated(one) == negated(other):
        return False
    said, silent = (one, other) if negated(one) else (other, one)
    known = frozenset().union(*(clause.words for clause in _clauses(silent)))
    return any(
        clause.negated and len(clause.words & known) < _KNOWN * len(clause.words)
        for clause in _clauses(said)
        if clause.words and not clause.under
    )


@lru_cache(maxsize=8192)
def negated(text: str) -> bool:
    """Whether a text has a negation anywhere."""
    said = meant(spelled_out(plain_text(text).lower()))
    return affirmed(said) != said or any(map(negates, _words(said)))


@dataclass(frozen=True)
class _Clause:
    """`words`: stems of what it is about; `refusals`: those of them that say no without a negation.

    `under`: "if" or another word that makes it a condition, "?" for a question, "" for what is stated. `abroad`: denied in
    another language, whose stop words are not known and make clauses look alike.
    """

    negated: bool
    words: frozenset[str]
    refusals: frozenset[str]
    under: str
    abroad: bool = False


def _denies(a: str, b: str, loosely: bool) -> bool:
    affirmed = [clause for clause in _clauses(b) if not clause.negated and clause.words]
    for clause in _clauses(a):
        if not clause.negated:
            continue
        if not clause.words and loosely:
            return True  # a bare "no" denies whatever was asked
        if any(_agrees(clause, other) for other in _clauses(b)):
            continue
        if any(_answers(clause, other, loosely and not clause.abroad) for other in affirmed):
            return True
    return False


def _agrees(denial: _Clause, other: _Clause) -> bool:
    """Whether the other clause denies the same thing, in a word of its own or with a negation."""
    common = len(denial.words & other.words)
    refuses = bool(other.refusals - denial.words)
    return other.negated != refuses and common >= _SAME_THING * max(len(denial.words), len(other.words)) > 0


def _answers(denial: _Clause, other: _Clause, loosely: bool) -> bool:
    """Whether the other clause says what this one denies."""
    # "Does not work" and "stops working" agree; "does not fail" and "fails" do not.
    if not other.refusals <= denial.words:
        return False
    if denial.under != other.under:
        return False
    common = len(denial.words & other.words)
    same = common >= _SAME_CLAUSE * len(denial.words | other.words) > 0
    # "If it does not come" denies nothing.
    return same or (loosely and not denial.under and common >= _SAME_THING * min(len(denial.words), len(other.words)))


@lru_cache(maxsize=65536)
def _clauses(text: str) -> tuple[_Clause, ...]:
    plain = _SYMPATHY.sub(" ", _IDIOM.sub(" ", meant(spelled_out("\n".join(map(plain_text, text.splitlines())).lower()))))
    parts = ["", *_joined(_CLAUSE.split(plain)), ""]
    found: list[_Clause] = []
    for before, part, after in zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True):
        if before in ("and", "or") and found:
            under = found[-1].under  # "if it is late and there is nothing"
        elif _CONDITIONAL.fullmatch(before) or _INVERTED.match(part):
            under = before if _CONDITIONAL.fullmatch(before) else "if"
        else:
            under = ""
        clause = _clause(part, "?" if "?" in after else under)
        if not clause.words and clause.negated and found:
            # "Pets: none", "Is it open? No."
            found[-1] = replace(found[-1], negated=not found[-1].negated, under="")
        elif clause.words or clause.negated:
            found.append(clause)
    return tuple(found)


def _joined(parts: list[str]) -> list[str]:
    """Clauses and what is between them, without the "and" and "or" between things that are denied together.

    "Cards and cheques are not taken", "no cards or cheques": each of the two is denied.
    """
    found = parts[:1]
    for between, part in zip(parts[1::2], parts[2::2], strict=True):
        if between in ("and", "or") and _together(found[-1], between, part):
            found[-1] += f" {between} {part}"
        else:
            found += [between, part]
    return found


def _together(left: str, between: str, right: str) -> bool:
    before, after = _words(left), _words(right)
    if not before or not after or any(word in _SENTENCE for word in before if not negates(word)):
        return False
    if negates(before[0]) and between == "or":
        return not any(map(negates, after)) and len(after) <= _FEW and not any(word in _SENTENCE for word in after)
    content = next((at for at, word in enumerate(after) if word not in STOP and not negates(word)), None)
    denial = next((at for at, word in enumerate(after) if negates(word)), None)
    if content is None or denial is None or denial < content or any(map(negates, before)):
        return False
    return len(before) <= _FEW and (before[0] in _ARTICLES) == (after[0] in _ARTICLES) and not set(after[:content]) & _SENTENCE


def _clause(text: str, under: str) -> _Clause:
    affirmation = affirmed(text)
    said = _words(_ELIDED.sub(" ", affirmation))
    content = {word for word in said if word not in STOP and word not in FRAME and not negates(word)}
    refusing = frozenset(stem(word) for word in content if word in _REFUSALS)
    here, abroad = any(map(negates, said)), affirmation != text
    return _Clause(here or abroad, frozenset(map(stem, content)), refusing, under, abroad and not here)


def _words(lower: str) -> list[str]:
    return _WORD.findall(lower)
