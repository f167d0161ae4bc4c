"""Numbers and variables with operators between them, and dates: "15 - 27", "x != 5", "2024-05-06". Knows text, no arithmetic.

Only what stands within one formula has an order: a sentence may name its numbers in another one.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_OPERATORS = r"[-−–+*/^%×÷<>=!]"
_OPERAND = r"(?<![\w'])(?:\d+(?:[.,]\d+){0,9}[a-z]{0,3}|[a-z])(?![\w'])"
# A word is a variable beside a comparison only: "covid-19" is no formula.
_FORMULA = re.compile(
    rf"(?<![\w'-])[a-z_]\w* ?(?:[<>=!]?=|==|[<>]) ?{_OPERAND}|{_OPERAND}(?: ?(?:{_OPERATORS} ?){{1,3}}{_OPERAND})+"
)
_BETWEEN = re.compile(rf"({_OPERATORS}+)")
_WRITTEN = {"−": "-", "–": "-", "×": "*", "÷": "/", "**": "^", "==": "="}
_SIGNS = str.maketrans({"≤": "<=", "≥": ">=", "≠": "!="})
_SPOKEN = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "to the power of": "^"}
_COMPARED = {"over": ">", "under": "<"}
_SPOKEN_BETWEEN = re.compile(rf"(?<=\d) ({'|'.join(_SPOKEN)}) (?=\d)")
_SPOKEN_BEFORE = re.compile(rf"(?<=[a-z] )({'|'.join(_COMPARED)})(?= \d)")
# Equal from either side, as the two sides of an equation are.
_EITHER_WAY = ({"+"}, {"*"}, {"!="})
_MIRRORED = {">": "<", ">=": "<="}
_DATE = re.compile(r"(\d{1,4})([-/])(\d{1,4})\2(\d{1,4})")
_YEAR_DIGITS = 4


@dataclass(frozen=True)
class Formula:
    """What a formula is about, whatever its order, and what it says of that; equal for "7 + 3" and "3 + 7"."""

    about: tuple[str, ...]
    said: tuple[str, ...]


def spelled(text: str) -> str:
    """A text with signs for operators that are told in words: "7 plus 3"."""
    return _SPOKEN_BETWEEN.sub(lambda found: _SPOKEN[found[1]], text.translate(_SIGNS))


def compared(lower: str) -> str:
    """A text with "over 5" and "under 5" as comparisons; in questions they are opposites, and the guards know more of those."""
    return _SPOKEN_BEFORE.sub(lambda found: _COMPARED[found[1]], lower)


@lru_cache(maxsize=8192)
def formulas(lower: str) -> frozenset[Formula]:
    """The formulas of a text in lower case, none longer than a line; remembered for the texts met last."""
    return frozenset(found for match in _FORMULA.finditer(spelled(lower)) if (found := _formula(match.group())) is not None)


def otherwise(mine: frozenset[Formula], theirs: frozenset[Formula]) -> str | None:
    """A formula of one text in place of which the other has one with another order or other operators."""
    for one in sorted(mine - theirs, key=lambda formula: formula.said):
        if any(one.about == other.about for other in theirs - mine):
            return " ".join(one.said)
    return None


def _formula(text: str) -> Formula | None:
    if date := _DATE.fullmatch(text):
        parts = (date[1], date[3], date[4])
        # Which of "2024-05-06" and "06/05/2024" is the month nobody can tell; a telephone number has any signs between.
        year = next((str(place) for place, part in enumerate(parts) if len(part) == _YEAR_DIGITS), "")
        return Formula((*sorted(parts), "date", year), parts)
    terms = tuple(_WRITTEN.get(part, part) for part in _BETWEEN.split(text.replace(" ", "")))
    operands, operators = terms[::2], terms[1::2]
    if not any(operand[0].isdigit() for operand in operands) and max(map(len, operands)) > 1:
        return None
    if operators.count("=") == 1:
        at = terms.index("=")
        left, right = sorted((_ordered(terms[:at]), _ordered(terms[at + 1 :])))
        return Formula(tuple(sorted(operands)), (*left, "=", *right))
    if len(operands) == 2 and operators[0] in _MIRRORED:
        return Formula(tuple(sorted(operands)), (operands[1], _MIRRORED[operators[0]], operands[0]))
    return Formula(tuple(sorted(operands)), _ordered(terms))


def _ordered(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Terms in their order, where it counts."""
    return (*sorted(terms[::2]), *terms[1::2]) if set(terms[1::2]) in _EITHER_WAY else terms
