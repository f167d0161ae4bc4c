"""Symmetric block quantization of weight matrices, in the layout that ONNX Runtime's MatMulNBits reads.

Knows matrices, not which layer they belong to, and no ONNX. MatMulNBits and GatherBlockQuantized
(onnxruntime, docs/ContribOperators.md) compute (code - zero point) * scale; without a zero point input the zero point
is 2 ** (bits - 1). Both accept the same arrays, so one table can serve as embedding and as head.

Legend: N outputs, K inputs, B blocks of one row (K / block size), S inputs of one block, P bytes of one packed block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ExportError

BLOCK_SIZES = (64, 32, 16)
# Rows quantized at once: bounds the temporaries to a few dozen MB whatever the size of the vocabulary.
ROWS_AT_ONCE = 4096

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix: `packed` uint8 [N, K/block, block*bits/8] and `scales` float32 [N, K/block].

    With 4 bits, the lower half of a byte holds the earlier input. A scale may be negative.
    """

    packed: Bytes
    scales: Floats
    bits: int
    block_size: int

    @property
    def outputs(self) -> int:
        """N, the rows of the matrix."""
        return int(self.packed.shape[0])

    @property
    def inputs(self) -> int:
        """K, the columns of the matrix."""
        return int(self.packed.shape[1]) * self.block_size


def block_size_for(K: int, largest: int = BLOCK_SIZES[0]) -> int:
    """The largest known block size up to `largest` that divides K inputs; no padding: the embedding could not undo it.

    Raises ExportError when none of 64, 32 and 16 divides K.
    """
    for size in BLOCK_SIZES:
        if size <= largest and K % size == 0:
            return size
    raise ExportError(f"a matrix with {K} inputs cannot be quantized: no multiple of {BLOCK_SIZES[-1]}; export as fp32")


def quantize_blocks(W_NK: Floats, bits: int, block_size: int) -> Blocks:
    """Round each block of a row to `bits` bits (4 or 8) with one scale.

    The value of largest magnitude in a block, with its sign, becomes the most negative code, which has no positive
    counterpart: the scale is extreme / -2 ** (bits - 1), negative for a positive extreme (the scheme of llama.cpp's
    Q4_0). An error is at most half a scale, or a whole one at the far end of the opposite sign.

    Raises ExportError for a width or block size that does not fit, and for values that are not finite.
    """
    N, K = W_NK.shape
    if bits not in (4, 8):
        raise ExportError(f"{bits} bits are not supported; 4 and 8 are")
    if block_size not in BLOCK_SIZES or K % block_size:
        raise ExportError(f"block size {block_size} does not fit {K} inputs; use block_size_for({K})")
    packed_NBP = np.empty((N, K // block_size, block_size * bits // 8), np.uint8)
    scales_NB = np.empty((N, K // block_size), np.float32)
    for start in range(0, N, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        packed_NBP[rows], scales_NB[rows] = _quantize_rows(W_NK[rows], bits, block_size)
    return Blocks(packed_NBP, scales_NB, bits, block_size)


def _quantize_rows(W_NK: Floats, bits: int, block_size: int) -> tuple[Bytes, Floats]:
    half = 1 << (bits - 1)
    W_NBS = W_NK.astype(np.float32, copy=False).reshape(len(W_NK), -1, block_size)
    if not np.isfinite(W_NBS).all():
        raise ExportError("the weights hold values that are not finite; train again or repair the file")
    extreme_NB1 = np.take_along_axis(W_NBS, np.abs(W_NBS).argmax(axis=2, keepdims=True), axis=2)
    scales_NB1 = extreme_NB1 / np.float32(-half)
    # A block of zeros, or one so small that its scale is no normal number, is stored as zeros.
    scales_NB1[np.abs(scales_NB1) < np.finfo(np.float32).tiny] = 0
    divisors_NB1 = np.where(scales_NB1 == 0, np.float32(np.inf), scales_NB1)
    codes_NBS = np.clip(np.rint(W_NBS / divisors_NB1) + half, 0, 2 * half - 1).astype(np.uint8)
    packed = codes_NBS if bits == 8 else codes_NBS[..., 0::2] | codes_NBS[..., 1::2] << 4
    return packed, scales_NB1[..., 0]


def dequantize(blocks: Blocks) -> Floats:
    """The matrix that MatMulNBits multiplies by: float32 [N, K]."""
    packed = blocks.packed
    if blocks.bits == 4:
        packed = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(blocks.outputs, -1, blocks.block_size)
    centred_NBS = packed.astype(np.float32) - np.float32(1 << (blocks.bits - 1))
    return (centred_NBS * blocks.scales[..., None]).reshape(blocks.outputs, blocks.inputs)
