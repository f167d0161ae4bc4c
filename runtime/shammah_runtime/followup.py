"""Does a turn depend on earlier ones? A careful guess from its words: in doubt, yes. Knows English only.

Tiers that answer from the query alone must not touch "and the other one?". A wrong yes costs a call, a wrong no an
answer to another question.
"""

import re

from shammah_runtime.proposal import Query

_OPENINGS = ("and", "but", "or", "so", "then", "also", "what about", "how about", "why", "why not", "really", "which", "else")
_POINTERS = frozenset(
    (
        "it its it's that this these those they them their he him his she her one ones other others another same both "
        "either neither former latter first second third last previous next again instead more else above below such "
        "there"
    ).split()
)
_FEWEST_WORDS = 3


def depends_on_context(query: Query) -> bool:
    """Whether the query may point at an earlier turn; never true for the first turn of a conversation."""
    if not query.context:
        return False
    words = re.findall(r"[\w']+", query.text.lower())
    if len(words) < _FEWEST_WORDS or _POINTERS.intersection(words):
        return True
    opening = " ".join(words)
    return any(opening == start or opening.startswith(f"{start} ") for start in _OPENINGS)
