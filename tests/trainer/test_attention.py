import copy
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from shammah_trainer import attention
from shammah_trainer.attention import LONGEST, register

_SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_LAYERS = ["sliding_attention", "full_attention"]


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**_SHAPE, **changes})).eval()


def both(model: Any, ids: torch.Tensor) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Logits and gradients by torch's attention and by ours."""
    found = []
    for kind in ("sdpa", register()):
        fresh = copy.deepcopy(model)
        fresh.set_attn_implementation(kind)
        logits = fresh(input_ids=ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        found.append((logits.detach(), [each.grad for each in fresh.parameters() if each.grad is not None]))
    return found


@pytest.mark.parametrize("tokens", [2, 3, 77, LONGEST, LONGEST + 1])
@pytest.mark.parametrize("key_heads", [1, 2, 6])
def test_logits_and_gradients_are_those_of_torchs_attention(tokens: int, key_heads: int) -> None:
    ids = torch.randint(0, 64, (3, tokens), generator=torch.Generator().manual_seed(tokens))
    (logits, gradients), (own_logits, own_gradients) = both(llama(num_key_value_heads=key_heads), ids)
    torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=1e-5)
    assert len(gradients) == len(own_gradients) > 10
    for own, gradient in zip(own_gradients, gradients, strict=True):
        torch.testing.assert_close(own, gradient, atol=1e-6, rtol=1e-4)


def through_torch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the queries that go through torch's attention from now on."""
    seen: list[int] = []
    plain = sdpa_attention_forward

    def counted(module: Any, query: torch.Tensor, *others: Any, **named: Any) -> Any:
        seen.append(query.shape[2])
        return plain(module, query, *others, **named)

    monkeypatch.setattr(attention, "sdpa_attention_forward", counted)
    return seen


def test_short_sequences_alone_go_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = through_torch(monkeypatch)
    model = llama()
    model.set_attn_implementation(register())
    with torch.no_grad():
        model(input_ids=torch.zeros(1, LONGEST, dtype=torch.long), use_cache=False)
        assert seen == []
        model(input_ids=torch.zeros(1, LONGEST + 1, dtype=torch.long), use_cache=False)
        assert seen == [LONGEST + 1] * 2


@pytest.mark.parametrize(
    "model",
    [
        lambda: MistralForCausalLM(MistralConfig(**_SHAPE, sliding_window=5)),
        lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_SHAPE, sliding_window=5, layer_types=_LAYERS)),
    ],
)
def test_a_sliding_window_stays_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = through_torch(monkeypatch)
    torch.manual_seed(0)
    ids = torch.randint(0, 64, (2, 40), generator=torch.Generator().manual_seed(1))
    (logits, _), (own_logits, _) = both(model().eval(), ids)
    torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=1e-5)
    assert seen


def test_a_cache_of_earlier_tokens_is_attended_to() -> None:
    ids = torch.randint(0, 64, (1, 20), generator=torch.Generator().manual_seed(2))
    model = llama()
    model.set_attn_implementation(register())
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        first = model(input_ids=ids[:, :12], use_cache=True)
        rest = model(input_ids=ids[:, 12:], past_key_values=first.past_key_values, use_cache=True).logits
    torch.testing.assert_close(rest, whole[:, 12:], atol=1e-5, rtol=1e-5)


def test_padding_is_hidden() -> None:
    ids = torch.randint(1, 64, (2, 16), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    model = llama()
    found = []
    for kind in ("sdpa", register()):
        model.set_attn_implementation(kind)
        with torch.no_grad():
            found.append(model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
