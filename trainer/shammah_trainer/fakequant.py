"""Training through the quantizer: the forward pass sees the weights that will be shipped, the gradient passes straight through.

Straight-through estimator: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
Computation" (arXiv 1308.3432). The rounding is that of shammah_export.quantize to the last bit.

N outputs, K inputs of a weight matrix; B blocks of a row, S inputs of a block.
"""

from typing import Any

import torch
from torch.nn.utils import parametrize

from shammah_export.precision import BITS, LARGEST_BLOCK, Precision
from shammah_export.quantize import block_size_for


def rounded(W_NK: torch.Tensor, bits: int, block_size: int) -> torch.Tensor:
    """What `dequantize(quantize_blocks(W))` gives, in torch: float32 [N, K]."""
    half = 1 << (bits - 1)
    W_NBS = W_NK.float().reshape(len(W_NK), -1, block_size)
    extreme_NB1 = W_NBS.gather(2, W_NBS.abs().argmax(dim=2, keepdim=True))
    scales_NB1 = extreme_NB1 / -half
    scales_NB1 = scales_NB1.masked_fill(scales_NB1.abs() < torch.finfo(torch.float32).tiny, 0.0)
    divisors_NB1 = scales_NB1.masked_fill(scales_NB1 == 0, torch.inf)
    return ((W_NBS / divisors_NB1).round().clamp(-half, half - 1) * scales_NB1).reshape(W_NK.shape)


class _ThroughQuantizer(torch.nn.Module):
    """A parametrization: the rounded weight, with the gradient of the weight itself."""

    def __init__(self, bits: int, block_size: int) -> None:
        super().__init__()
        self._bits = bits
        self._block_size = block_size

    def forward(self, W_NK: torch.Tensor) -> torch.Tensor:
        # In this order the difference is exactly zero, and the sum exactly the rounded weight.
        return rounded(W_NK.detach(), self._bits, self._block_size) + (W_NK - W_NK.detach())

    def right_inverse(self, W_NK: torch.Tensor) -> torch.Tensor:
        return W_NK


def quantize_forward(model: Any, precision: Precision) -> None:
    """Make every linear layer and the embedding compute with their weights as `precision` will store them.

    A tied head stays tied. Raises ExportError for a width that cannot be quantized.
    """
    for module in _weighted(model):
        block_size = block_size_for(module.weight.shape[1], LARGEST_BLOCK[precision])
        # Unchecked: the check would compute every layer once more to compare shapes, which cannot differ.
        parametrize.register_parametrization(module, "weight", _ThroughQuantizer(BITS[precision], block_size), unsafe=True)


def keep_quantized(model: Any, precision: Precision) -> None:
    """Undo `quantize_forward`, leaving the rounded weights, which the exporter rounds to the very same codes."""
    modules = _weighted(model)
    for module in modules:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    weights = {id(module.weight): module.weight for module in modules}
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(rounded(weight, BITS[precision], block_size_for(weight.shape[1], LARGEST_BLOCK[precision])))


def _weighted(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Embedding)]
