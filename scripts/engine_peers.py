"""onnxruntime-genai, OpenVINO GenAI and transformers as contestants of scripts/bench, each through its own Python interface.

Imported by engine_contestant.py in a peer's environment: nothing of Shammah is needed here. How their model files are made
is in engine_files.py.
"""

import json
import time
from typing import Any

import numpy as np


class Genai:
    """onnxruntime-genai: tokens are appended, and the loop that its users write generates."""

    def __init__(self, folder: str, threads: int, context: int) -> None:
        import onnxruntime_genai

        config = onnxruntime_genai.Config(folder)
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._library = onnxruntime_genai
        self._model = onnxruntime_genai.Model(config)
        self._context = context
        self.begin()

    def begin(self, kept: int = 0) -> None:
        """Forget all tokens from `kept` on."""
        if kept:
            self._generator.rewind_to(kept)
        else:
            wanted = self._library.GeneratorParams(self._model)
            wanted.set_search_options(max_length=self._context, min_length=self._context, do_sample=False)
            self._generator = self._library.Generator(self._model, wanted)
        self._length, self._drawn = kept, -1

    def read(self, ids: list[int]) -> int:
        """Read tokens; the likeliest next one."""
        # The drawn token is in its sequence already, and is read when the next one is asked for.
        if ids != [self._drawn]:
            if self._drawn >= 0:
                self._generator.rewind_to(self._length)
            self._generator.append_tokens(np.array([ids], dtype=np.int32))
        self._generator.generate_next_token()
        self._length += len(ids)
        self._drawn = int(self._generator.get_next_tokens()[0])
        return self._drawn


class OpenVino:
    """OpenVINO GenAI from a GGUF file, with its prefix cache; it has no door for single passes, so whole requests are timed."""

    def __init__(self, file: str, threads: int) -> None:
        import openvino
        import openvino_genai

        self._tensor, self._library = openvino.Tensor, openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        self._pipeline = openvino_genai.LLMPipeline(
            file, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads, ENABLE_CPU_PINNING=False
        )
        # Every request has tokens of its own, or the prefix cache would answer for the prefill.
        self._rng = np.random.default_rng(1)

    def read(self, ids: list[int]) -> int:
        """The likeliest token after these alone."""
        return int(self._generate(np.array([ids]), 1).tokens[0][0])

    def decode(self, context: int, tokens: int) -> float:
        """Seconds per token, greedy, after the first token behind `context` tokens: the library's own figure."""
        found = self._generate(self._tokens(context), tokens + 1)
        return float(found.perf_metrics.get_tpot().mean) / 1e3

    def prefill(self, tokens: int, cached: int = 0) -> float:
        """Seconds to the first token of so many tokens behind others that an earlier request began with."""
        ids = self._tokens(cached + tokens)
        if cached:
            self._generate(np.concatenate([ids[:, :cached], self._tokens(tokens)], axis=1), 1)
        began = time.perf_counter()
        self._generate(ids, 1)
        return time.perf_counter() - began

    def _generate(self, ids: Any, tokens: int) -> Any:
        wanted = self._library.GenerationConfig()
        wanted.max_new_tokens, wanted.do_sample, wanted.ignore_eos = tokens, False, True
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        given = self._library.TokenizedInputs(self._tensor(ids), self._tensor(np.ones_like(ids)))
        return self._pipeline.generate(given, wanted)

    def _tokens(self, count: int) -> Any:
        return self._rng.integers(100, 40_000, (1, count))


class Transformers:
    """transformers on CUDA in fp16, with its own cache; a step is a forward pass, as its own generation makes one."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        self._torch, self._new = torch, DynamicCache
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).to("cuda").eval()
        self.begin()

    def begin(self, kept: int = 0) -> None:
        """Forget all tokens from `kept` on."""
        if kept:
            self._cache.crop(kept)
        else:
            self._cache = self._new()

    def read(self, ids: list[int]) -> int:
        """Read tokens; the likeliest next one."""
        with self._torch.inference_mode():
            given = self._torch.tensor([ids], device="cuda")
            found = self._model(given, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            return int(found.logits[0, -1].argmax())
