"""From logits to a token: pure functions, randomness passed in.

V: vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Decoding:
    """How an answer is drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 cut nothing off."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 256


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


def sample(logits_V: Floats, decoding: Decoding, rng: np.random.Generator) -> int:
    """Draw one token id; the same generator state gives the same token.

    Order: temperature, then the `top_k` most likely, then the smallest set of at least `top_p` probability (Holtzman et
    al., "The Curious Case of Neural Text Degeneration", 2020).
    """
    if decoding.temperature == 0.0:
        return int(logits_V.argmax())
    # Shifted first, so that a tiny temperature makes the others impossible and not everything infinite.
    with np.errstate(over="ignore"):
        scaled_V = (logits_V.astype(np.float64) - float(logits_V.max())) / decoding.temperature
    order = np.argsort(-scaled_V, kind="stable")
    if decoding.top_k:
        order = order[: decoding.top_k]
    weights = np.exp(scaled_V[order])
    cumulative = np.cumsum(weights / weights.sum())
    if decoding.top_p < 1.0:
        # At least one token stays, also at top_p = 0.
        kept = int(np.searchsorted(cumulative, decoding.top_p)) + 1
        order, cumulative = order[:kept], cumulative[:kept] / cumulative[min(kept, len(cumulative)) - 1]
    return int(order[min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(order) - 1)])
