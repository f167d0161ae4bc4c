"""Rotary position tables. Knows angles, not attention.

Legend: T positions, R rotated pairs of one head (head_dim / 2).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shammah_export.shape import Rope

Floats = npt.NDArray[np.float32]


def rotary_tables(rope: Rope, head_dim: int, context: int) -> tuple[Floats, Floats]:
    """Cosine and sine of every angle: two arrays [context + 1, head_dim / 2], float32.

    Position t turns pair r by t * theta ** (-2 r / head_dim) radians (Su et al., RoFormer, arXiv 2104.09864, eq. 15); a
    scaling slows the frequencies down first: linear (Chen et al., arXiv 2306.15595) all of them by `factor`, llama3 the low
    ones. The last position is that of the row behind a full context.
    """
    exponents_R = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    frequencies_R = rope.theta**-exponents_R
    if rope.kind == "linear":
        frequencies_R = frequencies_R / rope.scaling["factor"]
    if rope.kind == "llama3":
        frequencies_R = _llama3(frequencies_R, rope.scaling)
    # The products are rounded as the models were trained: float32, where position 8000 is exact to 5e-4 radians.
    angles_TR = np.arange(context + 1, dtype=np.float32)[:, None] * frequencies_R.astype(np.float32)[None, :]
    return np.cos(angles_TR), np.sin(angles_TR)


def _llama3(frequencies_R: npt.NDArray[np.float64], scaling: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Divide low frequencies by `factor`, keep high ones, blend between (Meta, llama-models, `apply_scaling`)."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns_R = scaling["original_max_position_embeddings"] * frequencies_R / (2 * np.pi)
    # Clipping makes one blend of the three cases: 0 turns slowly enough to be divided, 1 fast enough to be kept.
    kept_R = np.clip((turns_R - low) / (high - low), 0.0, 1.0)
    return (1 - kept_R) * frequencies_R / scaling["factor"] + kept_R * frequencies_R
