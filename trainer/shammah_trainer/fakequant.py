"""Training through the quantizer: the forward pass sees the weights that will be shipped, the gradient passes straight through.

Straight-through estimator: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
Computation" (arXiv 1308.3432). The rounding is that of shammah_export.quantize to the last bit.

N outputs, K inputs of a weight matrix; M blocks of some rows, S inputs of a block.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shammah_export.precision import BITS, LARGEST_BLOCK, Precision
from shammah_export.quantize import block_size_for

# Weights rounded at once: few enough that what is read and written again and again stays in the processor's cache.
_AT_ONCE = 1 << 19
_ADAPTER = "default"


def rounded(W_NK: torch.Tensor, bits: int, block_size: int, out_NK: torch.Tensor | None = None) -> torch.Tensor:
    """What `dequantize(quantize_blocks(W))` gives, in torch: float32 [N, K], in `out_NK` where one is given.

    `W_NK` and `out_NK` are contiguous; they may be the same tensor.
    """
    half = 1 << (bits - 1)
    N, K = W_NK.shape
    out_NK = torch.empty(N, K, device=W_NK.device) if out_NK is None else out_NK
    rows = max(1, _AT_ONCE // K)
    for start in range(0, N, rows):
        W_MS = W_NK[start : start + rows].view(-1, block_size)
        out_MS = out_NK[start : start + rows].view(-1, block_size)
        # Two reductions: torch.aminmax takes four times as long as both.
        low_M, high_M = W_MS.amin(dim=1), W_MS.amax(dim=1)
        extreme_M = torch.where(high_M > -low_M, high_M, low_M)
        # Where both ends are as far from zero, the exporter takes the one that comes first.
        (tied,) = torch.nonzero(high_M == -low_M, as_tuple=True)
        if len(tied):
            blocks = W_MS[tied]
            extreme_M[tied] = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))[:, 0]
        scales_M1 = (extreme_M / -half)[:, None]
        scales_M1.masked_fill_(scales_M1.abs() < torch.finfo(torch.float32).tiny, 0.0)
        divisors_M1 = scales_M1.masked_fill(scales_M1 == 0, torch.inf)
        torch.div(W_MS, divisors_M1, out=out_MS).round_().clamp_(-half, half - 1).mul_(scales_M1)
    return out_NK


@dataclass
class _Weight:
    """A weight of the model and the tensor that changes places with it; `adapted` is what an adapter adds to it."""

    parameter: torch.nn.Parameter
    other_NK: torch.Tensor
    block_size: int
    adapted: Callable[[], torch.Tensor] | None

    def swap(self) -> None:
        self.parameter.data, self.other_NK = self.other_NK, self.parameter.data


class ThroughQuantizer:
    """The linear layers and the embedding of a model, which compute inside `applied` as `precision` will store them.

    Outside, and for the optimizer, they hold what was learned: the rounded weights are made once a step and change places
    with it, so that the gradient of the one reaches the other and a tied head is rounded once. The weights of a LoRA adapter
    are added before rounding, as merging will add them. Raises ExportError for a width that cannot be quantized.
    """

    def __init__(self, model: Any, precision: Precision) -> None:
        self._bits = BITS[precision]
        deltas: dict[int, Callable[[], torch.Tensor]] = {
            id(module.base_layer.weight): partial(module.get_delta_weight, _ADAPTER)
            for module in model.modules()
            if hasattr(module, "get_delta_weight")
        }
        self._weights = []
        for parameter in _weights(model):
            block_size = block_size_for(parameter.shape[1], LARGEST_BLOCK[precision])
            weight = _Weight(parameter, torch.empty_like(parameter.data), block_size, deltas.get(id(parameter)))
            self._weights.append(weight)
            self._round(weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Forward and backward pass belong inside, the optimizer's step outside."""
        for weight in self._weights:
            if weight.parameter.requires_grad or weight.adapted:
                self._round(weight)
            weight.swap()
        try:
            yield
        finally:
            for weight in self._weights:
                weight.swap()

    @torch.no_grad()
    def _round(self, weight: _Weight) -> None:
        learned_NK = weight.parameter.data
        if not weight.adapted:
            rounded(learned_NK, self._bits, weight.block_size, weight.other_NK)
            return
        # The layer adds its adapter to this, and the sum is the rounded weight; the adapter's gradient is as ever.
        delta_NK = weight.adapted()
        rounded(learned_NK + delta_NK, self._bits, weight.block_size, weight.other_NK).sub_(delta_NK)


@torch.no_grad()
def keep_rounded(model: Any, precision: Precision) -> None:
    """Leave the rounded weights in a trained and merged model; the exporter rounds them to the very same codes."""
    for parameter in _weights(model):
        block_size = block_size_for(parameter.shape[1], LARGEST_BLOCK[precision])
        rounded(parameter.data, BITS[precision], block_size, parameter.data)


def _weights(model: Any) -> list[torch.nn.Parameter]:
    """The weights that are stored in blocks, each once, without those of adapters."""
    found: dict[int, Any] = {
        id(module.weight): module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and ".lora_" not in name
    }
    return list(found.values())
