"""Numbers and variables with operators between them, and dates: "15 - 27", "x != 5", "2024-05-06". Knows text, no arithmetic.

Only what stands within one formula has an order: a sentence may name its numbers in another one.
"""

import re
from dataclasses import dataclass

_OPERATORS = r"[-−–+*/^%×÷<>=!]"
_OPERAND = r"(?<![\w'])(?:\d+(?:[.,]\d+){0,9}[a-z]{0,3}|[a-z])(?![\w'])"
# A word is a variable beside a comparison only: "covid-19" is no formula.
_FORMULA = re.compile(
    rf"(?<![\w'-])[a-z_]\w*\s?(?:[<>=!]?=|==|[<>])\s?{_OPERAND}|{_OPERAND}(?:\s?(?:{_OPERATORS}\s?){{1,3}}{_OPERAND})+"
)
_BETWEEN = re.compile(rf"({_OPERATORS}+)")
_WRITTEN = {"−": "-", "–": "-", "×": "*", "÷": "/", "**": "^", "==": "="}
_SPOKEN = {"plus": "+", "minus": "-", "times": "*", "divided by": "/", "to the power of": "^"}
_SPOKEN_BETWEEN = re.compile(rf"(?<=\d) ({'|'.join(_SPOKEN)}) (?=\d)")
# Equal from either side.
_EITHER_WAY = ({"+"}, {"*"}, {"="}, {"!="})
_MIRRORED = {">": "<", ">=": "<="}
_DATE = re.compile(r"(\d{1,4})([-/])(\d{1,4})\2(\d{1,4})")
_YEAR_DIGITS = 4


@dataclass(frozen=True)
class Formula:
    """What a formula is about, whatever its order, and what it says of that; equal for "7 + 3" and "3 + 7"."""

    about: tuple[str, ...]
    said: tuple[str, ...]


def formulas(lower: str) -> frozenset[Formula]:
    """The formulas of a text in lower case."""
    written = _SPOKEN_BETWEEN.sub(lambda found: _SPOKEN[found[1]], lower)
    return frozenset(found for match in _FORMULA.finditer(written) if (found := _formula(match.group())) is not None)


def otherwise(mine: frozenset[Formula], theirs: frozenset[Formula]) -> str | None:
    """A formula of one text that the other has with another order or other operators."""
    for one in sorted(mine - theirs, key=lambda formula: formula.said):
        if any(one.about == other.about for other in theirs):
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
    if set(operators) in _EITHER_WAY:
        return Formula(tuple(sorted(operands)), (*sorted(operands), operators[0]))
    if len(operands) == 2 and operators[0] in _MIRRORED:
        return Formula(tuple(sorted(operands)), (operands[1], _MIRRORED[operators[0]], operands[0]))
    return Formula(tuple(sorted(operands)), terms)
