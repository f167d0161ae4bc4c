"""From logits to a token: pure functions, randomness passed in.

V: vocabulary.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from shammah_runtime.engine.decoding import Decoding

Floats = npt.NDArray[np.float32]


def log_softmax(logits_V: Floats) -> Floats:
    """Log-probabilities, along the last axis, in nats."""
    shifted = logits_V - logits_V.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def logprob(logits_V: Floats, token: int, scratch_V: Floats) -> float:
    """The token's log-probability in nats; `scratch_V` is overwritten. A third of the time of `log_softmax`."""
    most = logits_V.max()
    np.subtract(logits_V, most, out=scratch_V)
    np.exp(scratch_V, out=scratch_V)
    return float(logits_V[token] - most - np.log(scratch_V.sum()))


def sample(logits_V: Floats, decoding: Decoding, rng: np.random.Generator, said: Collection[int] = ()) -> int:
    """Draw one token id; the same generator state gives the same token.

    Order: the penalty on tokens that were `said` before (Keskar et al., "CTRL", 2019: positive logits are divided by it,
    negative ones multiplied), temperature, the `top_k` most likely, the smallest set of at least `top_p` probability (Holtzman
    et al., "The Curious Case of Neural Text Degeneration", 2020), those at least `min_p` times as likely as the likeliest
    (Nguyen et al., "Turning Up the Heat", 2024).
    """
    if decoding.repetition_penalty != 1.0 and said:
        places = np.fromiter(said, np.int64, len(said))
        found = logits_V[places]
        logits_V = logits_V.copy()
        penalty = np.float32(decoding.repetition_penalty)
        logits_V[places] = np.where(found > 0, found / penalty, found * penalty)
    if decoding.temperature == 0.0:
        return int(logits_V.argmax())
    order = _likeliest(logits_V, decoding.top_k)
    # Shifted first, so that a tiny temperature makes the others impossible and not everything infinite.
    with np.errstate(over="ignore"):
        scaled = (logits_V[order].astype(np.float64) - float(logits_V[order[0]])) / decoding.temperature
    weights = np.exp(scaled)
    if decoding.top_p < 1.0:
        cumulative = np.cumsum(weights / weights.sum())
        # At least one token stays, also at top_p = 0.
        weights = weights[: int(np.searchsorted(cumulative, decoding.top_p)) + 1]
    if decoding.min_p > 0.0:
        # The likeliest weighs one, and the rest are in falling order.
        weights = weights[: max(1, int(np.searchsorted(-weights, -decoding.min_p, side="right")))]
    cumulative = np.cumsum(weights / weights.sum())
    return int(order[min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(weights) - 1)])


def _likeliest(logits_V: Floats, count: int) -> npt.NDArray[np.int64]:
    """Ids in falling order of their logits, of two equal ones the smaller first; the first `count` (0: all)."""
    if not 0 < count < len(logits_V):
        return np.argsort(-logits_V, kind="stable")
    # A partition finds the last one kept in a fraction of the time that a sort takes.
    least = np.partition(logits_V, len(logits_V) - count)[len(logits_V) - count]
    kept = np.flatnonzero(logits_V >= least)
    return kept[np.argsort(-logits_V[kept], kind="stable")][:count]
