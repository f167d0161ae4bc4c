"""Tiny random models, saved the way transformers saves real ones, and their logits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

Floats = npt.NDArray[np.float32]

FAMILIES: Mapping[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
}
# The intermediate size divides by 32 and not by 64, so that one model has blocks of both sizes.
SIZES: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": 160,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def make_model(family: str, **settings: Any) -> Any:
    """A random model; norms and biases are random too, or a graph without them would pass."""
    config, model_class = FAMILIES[family]
    torch.manual_seed(7)
    model = model_class(config(**{**SIZES, **settings})).eval()
    # Gemma stores how far the weight of a norm is from one.
    centre = 0.0 if family == "gemma3" else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(centre if "norm" in name else 0.0, 0.2)
    return model


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make and save a model once per set of settings; `dtype` and `shard_size` are for the saved files."""
    saved: dict[str, Path] = {}

    def save(family: str = "llama", *, dtype: torch.dtype = torch.float32, shard_size: str = "1GB", **settings: Any) -> Path:
        key = repr((family, dtype, shard_size, sorted(settings.items())))
        if key not in saved:
            saved[key] = tmp_path_factory.mktemp(family)
            make_model(family, **settings).to(dtype).save_pretrained(saved[key], max_shard_size=shard_size)
        return saved[key]

    return save


@pytest.fixture(scope="session")
def torch_logits() -> Callable[..., Floats]:
    """Logits [M, V] of a saved model in float32; `change` maps each tensor's name and value to its replacement."""

    def run(folder: Path, ids: Sequence[int], change: Callable[[str, Floats], Floats] | None = None) -> Floats:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.inference_mode():
            if change is not None:
                for name, parameter in model.named_parameters():
                    parameter.copy_(torch.from_numpy(change(name, parameter.numpy())))
            logits: Floats = model(torch.tensor([list(ids)])).logits[0].numpy()
            return logits

    return run


@pytest.fixture(scope="session")
def prompt() -> list[int]:
    """Forty token ids of the tiny vocabulary."""
    return [int(token) for token in np.random.default_rng(3).integers(0, SIZES["vocab_size"], 40)]
