"""A query as somebody else would type it. Knows English openings and courtesies, no exchanges.

Rules only: nothing is made up, and numbers, operators, names and negations stay, so that it asks the same thing.
"""

import random
import re

from shammah_data.judge import facts

# Of the words that only carry the sentence, and of those that say what it is about.
DROPPED_WORDS = 0.15
_DROPPED_CONTENT = 0.07
_OPENING = 0.4
_SYNONYM = 0.3
_COURTESY = 0.15
_KEYWORDS = 0.1
_FEWEST_WORDS = 3

# What may stand for each other at the beginning of a query, or of what follows a comma.
_OPENINGS = (
    ("how do i", "how can i", "how could i", "how should i", "how would i", "how to", "tell me how to", "i want to know how to",
     "what do i have to do to", "what is the way to", "can you tell me how to", "please explain how to"),
    ("can i", "could i", "may i", "am i able to", "is it possible to", "am i allowed to", "is there a way to"),
    ("i need to", "i want to", "i would like to", "i'd like to", "i have to", "i am trying to", "help me"),
    ("what is", "what's", "tell me", "do you know", "can you tell me", "i want to know", "i'd like to know"),
    ("where is", "where can i find", "where do i find", "how do i find", "where would i find"),
    ("why is", "why's", "how come", "can you explain why", "i don't understand why"),
    ("do you know", "can you tell me", "could you tell me", "please tell me", "i wonder"),
)  # fmt: skip
_SYNONYMS = (
    ("get", "receive"), ("need", "require"), ("buy", "purchase"), ("fix", "repair"), ("start", "begin"), ("show", "display"),
    ("help", "assist"), ("find", "locate"), ("big", "large"), ("quick", "fast"), ("allowed", "permitted"),
    ("wrong", "incorrect"), ("phone", "telephone"), ("picture", "photo"), ("problem", "issue", "trouble"),
    ("broken", "damaged"), ("finished", "completed"), ("supported", "accepted"),
)  # fmt: skip
_BEFORE = ("hi,", "hello,", "hey,", "please,", "quick question:", "so,", "hi there,", "excuse me,", "ok,")
_AFTER = ("please", "thanks", "thank you", "any idea", "please help", "i wonder")

_OPENING_OF = {opening: [other for other in group if other != opening] for group in reversed(_OPENINGS) for opening in group}
_STARTS = re.compile(rf"^({'|'.join(sorted(map(re.escape, _OPENING_OF), key=len, reverse=True))})\b", re.IGNORECASE)
_SYNONYM_OF = {word: [other for other in group if other != word] for group in _SYNONYMS for word in group}


def reworded(query: str, rng: random.Random) -> str:
    """The query with another opening, a courtesy, other words for some, or hastier: in lower case, or a word or two short.

    A query of three words or less loses none: less would ask something else.
    """
    names = facts(query).names
    words = _opened(query.rstrip("?!. "), rng).split()
    if rng.random() < 0.5:
        words = [word.lower() if word.isalpha() and not word.isupper() else word for word in words]
    if rng.random() < _SYNONYM:
        words = [rng.choice(_SYNONYM_OF[word]) if word in _SYNONYM_OF and rng.random() < 0.5 else word for word in words]
    if rng.random() < _KEYWORDS:
        kept = [word for word in words if not _droppable(word, names) or facts(word).words]
    else:
        kept = [word for word in words if not _droppable(word, names) or rng.random() >= _chance(word)]
    text = " ".join(kept if len(kept) >= _FEWEST_WORDS else words)
    if text and rng.random() < _COURTESY:
        text = f"{rng.choice(_BEFORE)} {text}" if rng.random() < 0.5 else f"{text}, {rng.choice(_AFTER)}"
    if text and rng.random() < 0.3 and query.rstrip().endswith("?"):
        text += "?"
    return text or query


def _opened(query: str, rng: random.Random) -> str:
    found = _STARTS.match(query)
    if found is None or rng.random() >= _OPENING:
        return query
    return rng.choice(_OPENING_OF[found.group(1).lower()]) + query[found.end() :]


def _droppable(word: str, names: frozenset[str]) -> bool:
    return word.isalpha() and word.lower() not in names and not facts(word).negated


def _chance(word: str) -> float:
    return _DROPPED_CONTENT if facts(word).words else DROPPED_WORDS
