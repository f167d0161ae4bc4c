"""What a count of right answers says of the chance behind it: exact binomial bounds. Pure numbers.

Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
"""

import math
from collections.abc import Sequence


def most_accepted(scored: Sequence[tuple[float, bool]], target: float, error: float) -> int:
    """How many of the surest answers may be accepted for their precision's lower bound to reach the target; 0 for none.

    `scored`: (confidence, right), the surest first.
    The bound of Clopper and Pearson reaches a target where so many right answers would be no likelier at it than `error`.
    That holds of one number of answers fixed beforehand. The largest that passes is chosen here, so some number passes more
    often: in 9.5% (14%, 19%) of draws of 150 (250, 600) equally sure answers at a target of 95% and an error of 5%, in 4.7%
    (5.8%, 7%) where 94% are right, in 1% where 92% are.
    """
    accepted = right = 0
    for count, (sure, is_right) in enumerate(scored, 1):
        right += is_right
        # A threshold cannot part answers of the same confidence.
        if (count == len(scored) or scored[count][0] < sure) and is_right and upper_tail(right, count, target) <= error:
            accepted = count
    return accepted


def lower_bound(right: int, total: int, error: float = 0.05) -> float:
    """One-sided lower confidence bound of a proportion, by bisection on the exact binomial tail."""
    if right == 0:
        return 0.0
    low, high = 0.0, right / total
    for _ in range(60):
        middle = (low + high) / 2
        if upper_tail(right, total, middle) < error:
            low = middle
        else:
            high = middle
    return low


def upper_bound(right: int, total: int, error: float = 0.05) -> float:
    """One-sided upper confidence bound of a proportion; 1 where all are right or there are none."""
    return 1.0 - lower_bound(total - right, total, error)


def upper_tail(right: int, total: int, chance: float) -> float:
    """P(X >= right) for X ~ Binomial(total, chance)."""
    if chance <= 0.0 or chance >= 1.0:
        return float(right <= total * chance)
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(chance)
        + (total - k) * math.log1p(-chance)
        for k in range(right, total + 1)
    ]
    return min(1.0, sum(math.exp(value) for value in logs))
