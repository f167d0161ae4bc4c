"""One way to write numbers, hours and shares: "5 P.M." and "5pm", "09:00" and "9", "50 %", "1,000", "$1.50". Knows no facts.

What may mean two things is left as it is: "1.000" may be a thousand, and "3.10" a version that is not 3.1.
"""

import re
from functools import lru_cache

from shammah_data.opposites import UNITS
from shammah_data.words import NUMERALS, SPACELESS, plain_text

_DIGIT = re.compile(r"\d")
# A script without spaces has none before its numbers either.
_GLUED = re.compile(rf"(?<={SPACELESS})(?=\d)")
_HALF = re.compile(rf"(?i)(?<![\w.:])(\d[\d:.]{{0,9}}|{'|'.join(NUMERALS)})\s?([ap])(?:\.\s?m\b\.?|m\b)")
_CLOCK = re.compile(r"(?<![\w.:])(\d{1,2}):([0-5]\d)(?![\d:]|\.\d)")
# Hours that only a clock of 24 has.
_LATE = re.compile(r"(?<![\w.:])(?:1[3-9]|2[0-3]|00?):[0-5]\d(?![\d:]|\.\d)")
_MINUS = re.compile(r"(?<![\w.)])-([$€£¥])(?=\d)")
_PERCENT = re.compile(r"(?i)(?<=\d) ?(?:%|(?:percent|per cent|prozent|pour cent|por ciento)\b)")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d|,\d)")
_DECIMAL = re.compile(
    r"(?:([$€£¥=≈×*/+<>]|\b[a-z]+) ?)?(?<![\w.,])(-?\d+)\.(\d{0,12}?)0{1,12}(?!\w*\d|[.,]\d)(?:(?= ?([%$€£¥]|[a-zµ°]+\b)))?",
    re.IGNORECASE,
)
_ZEROS = re.compile(r"(?<![\w.,])\d+\.\d*0(?!\w|[.,]\d)")
# What comes before a quantity and hardly before a version.
_AMOUNT = frozenset(
    "is are be about around roughly approximately equals equal cost costs pay charge charges by average".split()
)
_VERSION = re.compile(r"(?i)\b(?:versions?|releases?|released|upgrade|update|install|latest|newest|stable|python|v\d)")
_SHORT_UNITS = frozenset(("m", "h", "min"))


@lru_cache(maxsize=8192)
def written(text: str) -> str:
    """The text, line by line NFKC with single spaces, with its numbers written one way; remembered for the texts met last."""
    plain = "\n".join(map(plain_text, text.splitlines())).strip()
    if _DIGIT.search(plain) is None:
        return _halves(plain)
    plain = _GLUED.sub(" ", plain)
    plain = _CLOCK.sub(lambda found: str(int(found[1])) + (f":{found[2]}" if found[2] != "00" else ""), plain)
    plain = _PERCENT.sub("%", _MINUS.sub(r"\1-", plain.replace("−", "-")))
    plain = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), _halves(plain))
    versions = _VERSION.search(plain) is not None
    return _DECIMAL.sub(lambda found: found[0] if _may_be_version(found, versions) else _without_zeros(found), plain)


def alike(one: str, other: str) -> tuple[str, str]:
    """Two texts as `written`, their hours on a clock of 24 where only one of them has it: "17:00" and "5 pm"."""
    if (_LATE.search(one) and _HALF.search(other)) or (_LATE.search(other) and _HALF.search(one)):
        one, other = _HALF.sub(_hour, one), _HALF.sub(_hour, other)
    mine, theirs = written(one), written(other)
    # "1.50" alone may be a version; what one of two texts has as a number with zeros behind it, the other one means as well.
    for text, raw in ((mine, other), (theirs, one)) if "." in mine or "." in theirs else ():
        for number in set(_ZEROS.findall(text)) & set(_ZEROS.findall(raw)):
            bare = re.compile(rf"(?<![\w.,]){re.escape(number)}(?!\w|[.,]\d)")
            if not (bare.search(mine) and bare.search(theirs)):
                short = number.rstrip("0").rstrip(".")
                mine, theirs = bare.sub(short, mine), bare.sub(short, theirs)
    return mine, theirs


def _halves(text: str) -> str:
    return _HALF.sub(lambda found: f"{found[1]} {found[2].lower()}m", text)


def _hour(found: re.Match[str]) -> str:
    hour, _, minute = NUMERALS.get(found[1].lower(), found[1]).partition(":")
    if not hour.isdigit():
        return found[0]
    return f"{int(hour) % 12 + (12 if found[2] in 'pP' else 0)}:{minute or '00'}"


def _may_be_version(decimal: re.Match[str], versions: bool) -> bool:
    before, behind = (decimal[1] or "").lower(), (decimal[4] or "").lower()
    if before in UNITS or behind in UNITS or behind in _SHORT_UNITS:
        return False
    return versions or not before or (before.isalpha() and before not in _AMOUNT)


def _without_zeros(decimal: re.Match[str]) -> str:
    start = decimal.start()
    kept = decimal[0][: decimal.start(3) - 1 - start]
    return f"{kept}.{decimal[3]}" if decimal[3] else kept
