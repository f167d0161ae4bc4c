"""Greedy decoding of the real base's fp32 graph: token for token what transformers gives, but for ties of two tokens."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from shammah_data.manifest import CacheShape
from shammah_export.export import export_model
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.base import make_base

SUBJECTS = "lighthouses,bread dough,bicycle chains,the tides,beehives,snow,violins,rust,canals,tea".split(",")
WORDINGS = (
    "Explain {} in one sentence.",
    "Write two lines of verse about {}.",
    "What should a child know about {}?",
    "Name three things that go with {}.",
    "Once there was somebody who cared for nothing but {}. Go on.",
    "Translate into French: I like {}.",
    "Is there anything dangerous about {}? Answer yes or no, and why.",
    "def describe_{}(count: int) -> str:",
    "{}: 12, 15, 21, 33,",
    "Compare {} with the moon in a table.",
)
MOST = 32
# Two tokens whose logits, by transformers itself, are nearer than this: rounding decides between them.
TIE = 1e-4


def greedy(model: Any, prompt: Sequence[int], most: int, stops: Sequence[int]) -> list[int]:
    """The next tokens by transformers' own loop, the end token included."""
    told = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=list(stops),
        pad_token_id=stops[0],
    )
    ids: list[int] = told[0, len(prompt) :].tolist()
    return ids


def differences(model: Any, prompt: list[int], mine: list[int], stops: Sequence[int]) -> Iterator[float]:
    """By how much transformers prefers its own token, wherever it differs; behind that it goes on from the engine's."""
    same = 0
    while same < len(mine):
        theirs = greedy(model, [*prompt, *mine[:same]], len(mine) - same, stops)
        matched = [one == other for one, other in zip(theirs, mine[same:], strict=False)]
        if all(matched):
            assert len(theirs) == len(mine) - same, "one of the two ended and the other did not"
            return
        first = matched.index(False)
        same += first
        logits_V = model(torch.tensor([[*prompt, *mine[:same]]])).logits[0, -1]
        yield float(logits_V[theirs[first]] - logits_V[mine[same]])
        same += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_answers_of_the_real_model_are_those_of_transformers(tmp_path: Path) -> None:
    base = make_base(None, tmp_path / "bases", lambda _: None)
    export_model(base.folder, tmp_path / "fp32", "fp32", context=256)
    config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    shape = CacheShape(config["num_hidden_layers"], config["num_key_value_heads"], head_dim, config["vocab_size"], 256)
    chat = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    decoder = Decoder(GraphSession(tmp_path / "fp32" / "model.onnx", shape), chat, base.stop_ids)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    tokens, gaps = 0, {}
    with torch.inference_mode():
        for wording, subject in itertools.product(WORDINGS, SUBJECTS):
            prompt = chat.prompt(wording.format(subject))
            mine = [token for token, _ in decoder.tokens(prompt, Decoding(max_tokens=MOST))]
            tokens += len(mine)
            if found := list(differences(model, prompt, mine, base.stop_ids)):
                gaps[wording.format(subject)] = found
    print(f"{tokens} tokens, {sum(map(len, gaps.values()))} of them other than transformers': {gaps}")
    assert tokens > 1000
    assert all(abs(gap) < TIE for gap in itertools.chain(*gaps.values()))
