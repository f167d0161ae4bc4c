"""Which local answers are also put to the teacher, and what is concluded from it. Pure rules; knows no teacher and no log.

The draw is made by the answer's own id, so that whoever comes by later, in whatever process, knows what was drawn.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from shammah_data.binomial import lower_bound, upper_bound, upper_tail
from shammah_data.denial import denied, unheard
from shammah_data.judge import WORD_SHARE, facts, judge
from shammah_data.sequential import LEAST_REFERENCE, SUSPECTED
from shammah_data.text import counted

# Audited answers of a version after which its share has halved.
_HALVED_AFTER = 25.0
# A raised threshold is one that the audited answers themselves would have borne out three times in four.
_PROBABLE = 0.25
_FALSE_ALARMS = 0.05
# How much of the capital is bet from the first audit on, and after how many audits half of the rest is: a version that is bad
# from the start is found as soon as without a rest, but for two audits.
_AT_ONCE = 0.8
_HALF_BET = 200
# The new threshold is chosen by the newest answers only: what slipped must not drown in a long good record.
_NEWEST = 200


@dataclass(frozen=True)
class AuditRate:
    """Share of accepted local answers that are audited: `new` for a new version, falling to `least`; `per_day` at most."""

    new: float = 0.3
    least: float = 0.02
    per_day: int = 50

    def share(self, audited: int, today: int) -> float:
        """The probability for the next answer, after so many audits of its version and so many of any version today."""
        if today >= self.per_day:
            return 0.0
        return min(self.new, max(self.least, self.new * math.exp2(-audited / _HALVED_AFTER)))


def is_drawn(exchange_id: str, probability: float) -> bool:
    """Whether an answer is audited: true for a share `probability` of all ids, always the same for one id."""
    digest = hashlib.sha256(f"audit\n{exchange_id.lower()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < probability * 2.0**64


def agreement(teacher: str, local: str) -> tuple[bool, str]:
    """Whether a local answer agrees with the teacher's, and why not.

    The local one must say what the teacher's says (see `judge`), or a part of it: all its numbers and names, no denial that the
    other does not share, and at least half of its words. The teacher may say more than was asked; a local answer that does was
    not taught.
    """
    verdict = judge(teacher, local)
    if verdict.right:
        return True, ""
    whole, part = facts(teacher), facts(local)
    within = (
        set(part.numbers) <= set(whole.numbers)
        and part.names <= whole.names
        and not denied(teacher, local)
        and not unheard(teacher, local)
        and bool(part.words)
        and len(part.words & whole.words) >= WORD_SHARE * len(part.words)
    )
    return (True, "") if within else (False, verdict.reason)


@dataclass(frozen=True)
class Judged:
    """An audited answer: its confidence where it had one, whether it agreed, and with which probability it was audited."""

    confidence: float | None
    agrees: bool
    probability: float


@dataclass(frozen=True)
class Measured:
    """Precision of accepted local answers as audits estimate it, with a 95% interval. `audited` 0: not measured."""

    audited: int
    agreeing: int
    precision: float | None
    low: float
    high: float


def measured(answers: Sequence[Judged]) -> Measured:
    """Estimate the precision of all accepted answers from the audited ones, weighted by the inverse of their probabilities.

    Hajek's ratio estimator; the interval is Clopper and Pearson's at the effective number of answers, (sum w)^2 / sum w^2
    (Kish, "Survey Sampling", 1965).
    """
    if not answers:
        return Measured(0, 0, None, 0.0, 1.0)
    precision, right, effective = _counted(answers)
    low, high = lower_bound(right, effective, 0.025), upper_bound(right, effective, 0.025)
    return Measured(len(answers), sum(each.agrees for each in answers), precision, low, high)


def _counted(answers: Sequence[Judged]) -> tuple[float, int, int]:
    """The precision as `measured` estimates it, and how many right of how many answers that weigh the same say as much."""
    weights = [1.0 / each.probability for each in answers]
    total = sum(weights)
    precision = sum(weight for weight, each in zip(weights, answers, strict=True) if each.agrees) / total
    effective = max(1, int(total * total / sum(weight * weight for weight in weights) + 1e-9))
    return precision, round(precision * effective), effective


def evidence(answers: Sequence[Judged], target_precision: float) -> list[float]:
    """The capital, 1 at first, of bets against the promise of a version, after each of its audited answers, oldest first.

    A new bet begins with every audit, so that a slip is found after a long good record too. What is to be bet later stands
    aside until then, the shares add up to 1, and so the sum is a supermartingale as each bet is: while the promise holds it
    ever reaches 1 / error with probability at most `error` (Ville, 1939; Shafer, "Testing by betting", 2021). The bets and
    their weights are those of `shammah_data.sequential`.
    """
    allowed = max(1.0 - target_precision, LEAST_REFERENCE)
    suspected = min(allowed + SUSPECTED, 0.98)
    bet = (suspected - allowed) / (allowed * (1.0 - allowed))
    staked, aside, least = _AT_ONCE, 1.0 - _AT_ONCE, 1.0
    found = []
    for number, each in enumerate(answers, 1):
        left = (1.0 - _AT_ONCE) * _HALF_BET / (_HALF_BET + number)
        staked, aside = staked + aside - left, left
        least = min(least, each.probability)
        # More is never needed, and it must not overflow.
        staked = min(staked * (1.0 + bet * (least / each.probability) * ((not each.agrees) - allowed)), 1e300)
        found.append(staked + aside)
    return found


def suspicions(answers: Sequence[Judged], target_precision: float) -> list[bool]:
    """Whether the evidence against a version is enough, after each of its audited answers, oldest first.

    Of a version that keeps its promise it ever is with probability at most one in twenty.
    """
    return [capital >= 1.0 / _FALSE_ALARMS for capital in evidence(answers, target_precision)]


@dataclass(frozen=True)
class Slip:
    """A version that no longer keeps its promise: the least confidence to accept from now on (above 1: none), and why."""

    threshold: float
    reason: str


def slipped(answers: Sequence[Judged], target_precision: float, threshold: float) -> Slip | None:
    """Whether the audited answers of a version, oldest first, speak against its promise, and what to do at once.

    A version that keeps its promise is suspected in at most one of twenty histories, however long it serves and however often
    one looks (see `evidence`); nothing is lost by it but local answers. `threshold` is the one that these passed.
    """
    if not any(suspicions(answers, target_precision)[-1:]):
        return None
    newest = answers[-_NEWEST:]
    raised = _borne_out(newest, target_precision)
    wrong = sum(not each.agrees for each in newest)
    told = f"{wrong} of {counted(len(newest), 'audited answer')} disagreed with the teacher"
    told += f", {1.0 - target_precision:.0%} are allowed"
    return Slip(2.0 if raised is None else max(threshold, raised), told)


def _borne_out(answers: Sequence[Judged], target_precision: float) -> float | None:
    """The least confidence whose answers, each counted as what it stands for, would probably hold the target; None: none."""
    surest = sorted(
        ((each.confidence, each) for each in answers if each.confidence is not None),
        key=lambda pair: (-pair[0], pair[1].agrees),
    )
    least = None
    for count, (confidence, last) in enumerate(surest, 1):
        # A threshold cannot part answers of the same confidence.
        if not last.agrees or (count < len(surest) and surest[count][0] == confidence):
            continue
        _, right, effective = _counted([each for _, each in surest[:count]])
        if upper_tail(right, effective, target_precision) <= _PROBABLE:
            least = confidence
    return least
