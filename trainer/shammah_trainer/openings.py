"""Which showings of an answer train on all of it, and which on its beginning only. Knows ids and counts, no tensors.

A model that was shown an answer a few times ends it by itself once it has begun. What is left to learn is which questions it
belongs to, which is decided in its first tokens; the others cost most of a step and teach little.
"""

from collections import Counter
from collections.abc import Mapping

# So many showings are whole at first, and one of so many later on, lest the end be forgotten.
_FIRST, _EVERY = 3, 4


class Openings:
    """Counts how often each answer is shown, and cuts it to its first `tokens` where that is enough; 0 never cuts."""

    def __init__(self, tokens: int, shown: Mapping[str, int] | None = None) -> None:
        """`shown`: how often answers were shown before."""
        self._tokens = tokens
        self._shown = Counter(shown)

    @property
    def shown(self) -> dict[str, int]:
        """How often each answer has been shown by now."""
        return dict(self._shown)

    def of(self, answer: str, ids: tuple[int, ...]) -> tuple[int, ...]:
        """What of an answer's ids this showing trains on."""
        if not self._tokens:
            return ids
        self._shown[answer] += 1
        whole = self._shown[answer] <= _FIRST or self._shown[answer] % _EVERY == 0
        return ids if whole else ids[: self._tokens]
