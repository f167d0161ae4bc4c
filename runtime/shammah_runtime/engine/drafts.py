"""Where guesses of the next tokens come from, and how many of them pay. Knows ids and times, no graph.

A guess costs nothing but time: it is read in the same pass as the last token, and kept only where the model, drawing as it
always does, draws the very same token (Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023,
with a draft that is certain of itself).
"""

import itertools
from collections.abc import Sequence

_GRAM = 3
# A source that was wrong once may have had another word there; after twice in a row another place is looked for, and after
# so often it is followed no longer.
_DOUBTED = 2
_LOST = 4
# How long a pass over some rows takes, as a multiple of one row: SmolLM2-135M, int8, two cores with AVX512-VNNI. Replaced by
# what is measured as soon as there is a measurement.
_PRIOR_COST = {1: 1.0, 2: 1.15, 4: 1.5, 8: 2.2, 16: 3.4, 32: 5.6, 64: 10.0}
_COUNTS = (0, 1, 2, 3, 5, 7, 11, 15, 23, 31, 47, 63)


class Lookup:
    """Guesses that one of some known sequences goes on as it did: an earlier answer, or the conversation so far.

    `answers` are likely answers, the best first; `history` is what was said before. The first answer is guessed from its
    beginning. Where the model says another token, the sequence is taken up again behind it.
    """

    def __init__(self, answers: Sequence[Sequence[int]] = (), history: Sequence[int] = ()) -> None:
        self._said: list[int] = []
        self._sources: list[Sequence[int]] = [list(answer) for answer in answers]
        self._own = len(self._sources)
        self._sources.append(list(history))
        self._grams: dict[tuple[int, ...], tuple[int, int]] = {}
        # Backwards: of two places with the same gram the better source, and in the history the later place, wins.
        for number in range(self._own, -1, -1):
            source = self._sources[number]
            for end in range(_GRAM, len(source)):
                self._grams[tuple(source[end - _GRAM : end])] = (number, end)
        self._at: tuple[int, int] | None = (0, 0) if answers else None
        self._wrong = 0

    def said(self, token: int) -> None:
        """Take note of the token that followed."""
        self._said.append(token)
        history = self._sources[self._own]
        assert isinstance(history, list)
        if self._at is not None:
            number, place = self._at
            source = self._sources[number]
            right = place < len(source) and source[place] == token
            self._wrong = 0 if right else self._wrong + 1
            self._at = (number, place + 1)
            if self._wrong < _DOUBTED:
                self._remember(token)
                return
        found = self._grams.get((*history[-_GRAM + 1 :], token))
        if found is not None:
            self._at, self._wrong = found, 0
        elif self._wrong >= _LOST:
            self._at = None
        self._remember(token)

    def _remember(self, token: int) -> None:
        history = self._sources[self._own]
        assert isinstance(history, list)
        history.append(token)
        gram = tuple(history[-_GRAM - 1 : -1])
        if len(gram) == _GRAM and self._grams.get(gram, (self._own, 0))[0] == self._own:
            self._grams[gram] = (self._own, len(history) - 1)

    def guess(self, most: int) -> list[int]:
        """At most so many tokens that may come next."""
        if self._at is None:
            return []
        number, place = self._at
        return list(self._sources[number][place : place + most])


class Pace:
    """How many guesses to verify in a pass, by what was measured: seconds of a pass by rows, and the share that was right.

    One for a session: what passes cost is remembered between answers, how good a draft is begins anew with each.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._right = 0.0
        self._tried = 0.0

    def begin(self, confidence: float) -> None:
        """Start an answer with this idea of the share of guesses that will be right."""
        self._right, self._tried = 3.0 * confidence, 3.0

    def count(self, most: int) -> int:
        """The number of guesses, up to `most`, that yields the most tokens per second.

        With n guesses that are each right with probability p, 1 + p + ... + p^n tokens are expected of a pass.
        """
        p = min(self._right / self._tried, 0.999) if self._tried else 0.0
        return max(
            (n for n in _COUNTS if n <= most), key=lambda n: (1.0 - p ** (n + 1)) / (1.0 - p) / self._cost(n + 1), default=0
        )

    def passed(self, guesses: int, right: int, seconds: float) -> None:
        """Learn from a pass: of its guesses the first `right` were right."""
        rows = guesses + 1
        known = self._seconds.get(rows)
        # A pass that was held up says little about the next one.
        self._seconds[rows] = seconds if known is None else min(0.8 * known + 0.2 * seconds, 1.5 * known)
        if guesses:
            tried = right + (right < guesses)
            self._right = 0.8 * self._right + right
            self._tried = 0.8 * self._tried + tried

    def _cost(self, rows: int) -> float:
        if rows in self._seconds:
            return self._seconds[rows]
        if not self._seconds:
            return _prior(rows)
        near = min(self._seconds, key=lambda known: abs(known - rows))
        return self._seconds[near] * _prior(rows) / _prior(near)


def _prior(rows: int) -> float:
    known = sorted(_PRIOR_COST)
    for low, high in itertools.pairwise(known):
        if rows <= high:
            share = (rows - low) / (high - low)
            return (1 - share) * _PRIOR_COST[low] + share * _PRIOR_COST[high]
    return _PRIOR_COST[known[-1]] * rows / known[-1]
