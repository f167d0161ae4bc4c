"""Do the answers follow from the questions? Pure numbers: a matrix of likelihoods in, a share and a p-value out.

A model that has learned only the tone of the answers finds every answer as likely after one question as after another.

N: held-out queries, M: their distinct answers. scores_NM: mean log-probability per token of an answer after a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_PERMUTATIONS = 9999

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matching:
    """How well held-out answers and queries find each other.

    `wins`: the mean share of other groups' answers that a query's own answer outscores; 0.5 is what chance gives.
    `p_value`: how often answers dealt out at random do as well as the true ones.
    """

    queries: int
    wins: float
    p_value: float


def match(scores_NM: Floats, own_N: Sequence[int], rivals_NM: npt.NDArray[np.bool_], seed: int) -> Matching:
    """Compare each query's own answer, column own_N[n], with those that `rivals_NM` marks as other groups'.

    Each answer is taken relative to its mean over all queries, which cancels how likely its wording is by itself. The
    p-value is that of a permutation test (Fisher, "The Design of Experiments", 1935): exact where answers were dealt out
    at random, however few the queries.
    """
    queries = len(own_N)
    if queries < 2 or not rivals_NM.any():
        return Matching(queries, 0.0, 1.0)
    relative_NM = scores_NM - scores_NM.mean(axis=0, keepdims=True)
    rows, own = np.arange(queries), np.asarray(own_N)
    mine_N1 = relative_NM[rows, own][:, None]
    beaten_NM = (mine_N1 > relative_NM) + 0.5 * (mine_N1 == relative_NM)
    counts_N = rivals_NM.sum(axis=1)
    compared = counts_N > 0
    wins = float(((beaten_NM * rivals_NM).sum(axis=1)[compared] / counts_N[compared]).mean())
    rng = np.random.default_rng(seed)
    total = relative_NM[rows, own].sum()
    dealt = rng.permuted(np.tile(own, (_PERMUTATIONS, 1)), axis=1)
    # Equal sums differ in the last bit when they are added in another order.
    as_good = (relative_NM[rows, dealt].sum(axis=1) >= total - 1e-9 * max(1.0, abs(total))).sum()
    return Matching(queries, wins, float((1 + as_good) / (1 + _PERMUTATIONS)))
