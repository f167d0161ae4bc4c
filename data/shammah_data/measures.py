"""Numbers of a text with the units that stand right beside them: "$50", "20 minutes", "5 pm". Knows no other text.

The units are those of `opposites`, and the halves of a day; of another number nothing is known.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from shammah_data.opposites import UNITS
from shammah_data.words import NUMERALS
from shammah_data.written import written

Measures = Mapping[str, frozenset[str]]

_NONE: frozenset[str] = frozenset()
_MEASURED = re.compile(
    r"(?:([$€£¥]|\b(?:usd|eur|gbp|jpy))\s?)?-?(?<![\w.])"
    rf"(\d+(?:[.,:]\d+)*|\b(?:{'|'.join(NUMERALS)})\b)"
    r"(?:[\s-]?([a-zµ°]+|[%$€£¥])(?![^\W_]))?"
)
# Too short, or with other meanings, where no number stands before them.
_BESIDE = {unit: frozenset((kind,)) for unit, kind in UNITS.items()} | {
    "m": frozenset(("meter", "megabyte", "minute")),
    "h": frozenset(("hour",)),
    "min": frozenset(("minute",)),
    "am": frozenset(("am",)),
    "pm": frozenset(("pm",)),
}


def is_unit(word: str) -> bool:
    """Whether a word, in lower case, is a unit beside a number."""
    return word in _BESIDE


@lru_cache(maxsize=8192)
def measures(text: str) -> Measures:
    """The units beside each number of a text; a number without any is left out. Remembered for the texts met last."""
    found: dict[str, set[str]] = {}
    for before, number, behind in _MEASURED.findall(written(text).lower()):
        if units := _BESIDE.get(before, _NONE) | _BESIDE.get(behind, _NONE):
            found.setdefault(NUMERALS.get(number, number), set()).update(units)
    return {number: frozenset(units) for number, units in found.items()}


def mismeasured(one: str, other: str) -> str | None:
    """A number that has units in both texts, and none in common; with one of its units."""
    mine, theirs = measures(one), measures(other)
    for number in sorted(mine.keys() & theirs.keys()):
        if not mine[number] & theirs[number]:
            return f"{number} {min(mine[number] | theirs[number])}"
    return None
