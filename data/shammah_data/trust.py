"""How often an answer was right where it was given, and what to expect of it next. Pure numbers; knows no text and no model.

Answers differ in how reliable they are: one fits many questions, one was wrong from the beginning. Each answer's chance to be
right is taken to come from one Beta distribution, shared by all and fitted to what was seen of all (empirical Bayes; Robbins,
"An empirical Bayes approach to statistics", 1956). So an answer that was seen once or twice borrows from the others, and one
that was wrong loses more than it has gained by being right.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Where nothing was seen: nineteen of twenty right, and as much faith in it as in a handful of outcomes.
CAUTIOUS = (4.75, 0.25)
# Held-out queries show whether answers are found, not how a user who calls one wrong is to be weighed: more faith than this
# would let one that was rated bad twice go on.
_LEAST_STRENGTH, _MOST_STRENGTH = 2.0, 10.0
_LEAST_SHARE, _MOST_SHARE = 0.5, 0.995
# Good outcomes of other versions count half: another model retrieved them. Bad ones count in full.
_OTHER_VERSION = 0.5
# A record of success must not outweigh what speaks against this very query.
_MOST_GAIN = 0.5


@dataclass(frozen=True)
class Record:
    """What was seen of an answer."""

    right: float = 0.0
    wrong: float = 0.0

    def plus(self, right: bool, same_version: bool = True) -> "Record":
        """With one outcome more; one of another version counts less where it is good."""
        if right:
            return Record(self.right + (1.0 if same_version else _OTHER_VERSION), self.wrong)
        return Record(self.right, self.wrong + 1.0)


def fit_prior(records: Iterable[Record]) -> tuple[float, float]:
    """The shared Beta distribution (right, wrong) that makes what was seen likeliest, drawn towards CAUTIOUS.

    Likelihood of the Beta-binomial distribution over a grid of means and strengths (right + wrong); CAUTIOUS weighs as much as
    one answer that was seen five times.
    """
    seen = [(one.right, one.wrong) for one in records if one.right + one.wrong > 0]
    if not seen:
        return CAUTIOUS
    seen.append(CAUTIOUS)
    best, found = -math.inf, CAUTIOUS
    for step in range(1, 60):
        mean = _LEAST_SHARE + (_MOST_SHARE - _LEAST_SHARE) * step / 59
        strength = _LEAST_STRENGTH
        while strength <= _MOST_STRENGTH:
            a, b = mean * strength, (1 - mean) * strength
            total = sum(_log_beta(a + right, b + wrong) - _log_beta(a, b) for right, wrong in seen)
            if total > best:
                best, found = total, (a, b)
            strength *= 1.5
    return found


def expected(prior: tuple[float, float], record: Record) -> float:
    """The chance that the answer is right the next time it is given: the mean of its posterior Beta distribution."""
    right, wrong = prior[0] + record.right, prior[1] + record.wrong
    return right / (right + wrong)


def shift(prior: tuple[float, float], record: Record) -> float:
    """What the record of an answer adds to the log-odds that it is right; 0 for none, at most half a nat for a good one."""
    return min(_logit(expected(prior, record)) - _logit(expected(prior, Record())), _MOST_GAIN)


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
