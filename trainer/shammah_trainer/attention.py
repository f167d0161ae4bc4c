"""Causal attention over short sequences as plain products, which torch's CPU kernel does worse. Knows tensors, no model.

Exchanges are short: of 77 tokens on average the fused kernel's backward pass alone took a sixth of a training step. Its use is
to keep no scores, which are small there; longer sequences, and any with a mask of their own, still go through it.

Legend: B examples, H query heads, K key heads, G = H / K, T tokens, D dimensions of a head.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "short"
# Up to here the scores add less than a third to what a layer of the default base keeps anyway.
LONGEST = 128


def short_attention(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The weighted values, [B, T, H, D]; softmax in float32. What transformers expects of an attention."""
    B, H, T, D = query_BHTD.shape
    K = key_BKTD.shape[1]
    plain = attention_mask is None and not dropout and key_BKTD.shape[2] == T and query_BHTD.device.type == "cpu"
    if not plain or not 1 < T <= LONGEST or others.get("is_causal") is False:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query_BHTD, key_BKTD, value_BKTD, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    value = value_BKTD.reshape(B * K, T, D)
    with torch.autocast(query_BHTD.device.type, enabled=False):
        # In float32: rounded to bfloat16, a score of ten is wrong by up to three hundredths. A key head serves its G query
        # heads in one product, without being repeated.
        query = (query_BHTD.float() * (D**-0.5 if scaling is None else scaling)).reshape(B * K, H // K * T, D)
        scores = torch.bmm(query, key_BKTD.float().reshape(B * K, T, D).transpose(1, 2)).view(B * K, H // K, T, T)
        future_TT = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
        weights = scores.masked_fill(future_TT, float("-inf")).softmax(-1).to(value.dtype)
    mixed = torch.bmm(weights.view(B * K, H // K * T, T), value)
    return mixed.view(B, H, T, D).transpose(1, 2), None


def register() -> str:
    """Make it known to transformers; the name to load a model with."""
    AttentionInterface.register(NAME, short_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
