"""From logits to a token: pure functions, randomness passed in.

V: vocabulary.
"""

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ArtifactError
from shammah_runtime.engine.decoding import Decoding

Floats = npt.NDArray[np.float32]
# Rows into which the logits are folded to look for the likeliest.
_ROWS = 64
_RUN = 256
_NUCLEUS_SIZES = (64, 512, 8192, 0)
# The smallest one by which a difference of two logits can be divided.
_LEAST_TEMPERATURE = 1e-30


def log_softmax(logits_V: Floats) -> Floats:
    """Log-probabilities, along the last axis, in nats."""
    shifted = logits_V - logits_V.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def normalizer(logits_V: Floats, scratch_V: Floats) -> float:
    """What to take from a logit to get its log-probability, in nats; `scratch_V` is overwritten."""
    most = logits_V.max()
    # Damaged weights give logits without bounds; what is not a number then is refused by those who compare.
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(logits_V, most, out=scratch_V)
        np.exp(scratch_V, out=scratch_V)
        return float(most) + float(np.log(scratch_V.sum()))


def logprob(logits_V: Floats, token: int, scratch_V: Floats) -> float:
    """The token's log-probability in nats; `scratch_V` is overwritten. Makes no array, as `log_softmax` does."""
    return float(logits_V[token]) - normalizer(logits_V, scratch_V)


def top_logprobs(logits_V: Floats, count: int, scratch_V: Floats) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest tokens and their log-probabilities in nats, the likeliest first; `scratch_V` is overwritten."""
    taken = normalizer(logits_V, scratch_V)
    return tuple((int(token), float(logits_V[token]) - taken) for token in likeliest(logits_V, count)[:count])


def penalized(values_V: Floats, said: Collection[int], penalty: float) -> Floats:
    """A copy in which tokens that were `said` are less likely (more likely with a penalty below 1).

    Positive values are divided by the penalty, negative ones multiplied: Keskar et al., "CTRL", 2019.
    """
    values_V = values_V.copy()
    places = np.fromiter(said, np.int64, len(said))
    found = values_V[places]
    values_V[places] = np.where(found > 0, found / np.float32(penalty), found * np.float32(penalty))
    return values_V


def sample(logits_V: Floats, decoding: Decoding, rng: "np.random.Generator | None", said: Collection[int] = ()) -> int:
    """Draw one token id; the same generator state gives the same token, and at temperature 0 none is needed.

    Order: the penalty on tokens that were `said` before, temperature, the `top_k` most likely, the smallest set of at least
    `top_p` probability (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020), those at least `min_p` times
    as likely as the likeliest (Nguyen et al., "Turning Up the Heat", 2024). Raises ArtifactError where it would have to draw
    from logits that are no numbers.
    """
    if decoding.repetition_penalty != 1.0 and said:
        logits_V = penalized(logits_V, said, decoding.repetition_penalty)
    if decoding.temperature == 0.0:
        return int(logits_V.argmax())
    assert rng is not None
    tokens, weights = candidates(logits_V, decoding)
    place = _place(weights, rng.random())
    return place if tokens is None else int(tokens[place])


def _place(weights: Floats, share: float) -> int:
    """Where the running sum of the weights passes this share of the whole; never at a weight of zero."""
    # In two steps: a running sum of a whole vocabulary takes half a millisecond.
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _RUN), dtype=np.float64)
    ends = np.cumsum(sums)
    run = _passed(ends, share * ends[-1])
    inside = np.cumsum(weights[run * _RUN : (run + 1) * _RUN], dtype=np.float64)
    return run * _RUN + _passed(inside, share * ends[-1] - (ends[run] - sums[run]))


def _passed(cumulative: npt.NDArray[np.float64], wanted: float) -> int:
    # What rounding puts beyond the end belongs to the last weight that is not zero.
    return min(int(np.searchsorted(cumulative, wanted, side="right")), int(np.searchsorted(cumulative, cumulative[-1])))


def candidates(logits_V: Floats, decoding: Decoding) -> tuple[npt.NDArray[np.int64] | None, Floats]:
    """The ids that may be drawn (None: all, in order) and a weight for each, 1 for the likeliest.

    Raises ArtifactError for logits that are no numbers.
    """
    most = logits_V.max()
    need_numbers(float(most))
    if 0 < decoding.top_k < len(logits_V):
        tokens = likeliest(logits_V, decoding.top_k)
        weights = _weights(logits_V[tokens], most, decoding.temperature)
        whole = float(weights.sum(dtype=np.float64))
    else:
        weights_V = _weights(logits_V, most, decoding.temperature)
        if decoding.top_p == 1.0:
            if decoding.min_p == 0.0:
                return None, weights_V
            tokens = np.flatnonzero(weights_V >= decoding.min_p)
            return tokens, weights_V[tokens]
        whole = float(weights_V.sum(dtype=np.float64))
        # The smallest set is mostly a small one: all of the vocabulary is sorted only where it must be.
        for size in _NUCLEUS_SIZES:
            tokens = likeliest(logits_V, size)
            weights = weights_V[tokens]
            if len(tokens) == len(logits_V) or float(weights.sum(dtype=np.float64)) >= decoding.top_p * whole:
                break
    if decoding.top_p < 1.0:
        reached = np.cumsum(weights, dtype=np.float64)
        # At least one token stays, also at top_p = 0.
        weights = weights[: int(np.searchsorted(reached, decoding.top_p * whole)) + 1]
    if decoding.min_p > 0.0:
        weights = weights[: max(1, int(np.searchsorted(-weights, -decoding.min_p, side="right")))]
    return tokens[: len(weights)], weights


def need_numbers(value: float) -> None:
    """Raise ArtifactError where what was made of logits is not finite, as damaged weights or too narrow a type can have it."""
    if not math.isfinite(value):
        raise ArtifactError("the model's logits are no numbers: run `shammah-train rollback` or retrain")


def _weights(logits: Floats, most: np.float32, temperature: float) -> Floats:
    # Shifted first, so that a tiny temperature makes the others impossible and not everything infinite.
    scaled: Floats = logits - most
    with np.errstate(over="ignore"):
        scaled /= np.float32(max(temperature, _LEAST_TEMPERATURE))
    return np.exp(scaled, out=scaled)


def likeliest(logits_V: Floats, count: int) -> npt.NDArray[np.int64]:
    """Ids in falling order of their logits, of two equal ones the smaller first; the first `count` (0: all)."""
    size = len(logits_V)
    if not 0 < count < size:
        return np.argsort(-logits_V, kind="stable")
    columns = size // _ROWS
    if count <= columns:
        # Each of `count` columns has a maximum of at least `least`: a fraction of the time that a partition of all takes.
        most = logits_V[: columns * _ROWS].reshape(_ROWS, columns).max(axis=0)
        least = np.partition(most, columns - count)[columns - count]
    else:
        least = np.partition(logits_V, size - count)[size - count]
    kept = np.flatnonzero(logits_V >= least)
    return kept[np.argsort(-logits_V[kept], kind="stable")][:count]
