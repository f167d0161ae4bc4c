"""One engine in a process of its own, for scripts/bench engine: reads orders as JSON lines, answers with figures.

engine_contestant.py KIND FILE [IDS], where KIND is shammah or shammah-cuda (a graph folder), llama (a GGUF file), genai (its
model folder), openvino (a GGUF file) or transformers (a base folder, on CUDA), and IDS the JSON list of tokens to begin with.
Only what is asked for is imported, so that a peer's environment can run it.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

THREADS = 2
CONTEXT = 2048
SEED = 0


class Engine(Protocol):
    """What every contestant can do."""

    def begin(self, kept: int = 0) -> None:
        """Forget all tokens from `kept` on."""

    def read(self, ids: list[int]) -> int:
        """Read tokens; the likeliest next one."""


class Shammah:
    """The engine of this project."""

    def __init__(self, folder: str, device: Any = "cpu") -> None:
        from shammah_data.manifest import CacheShape
        from shammah_runtime.engine.session import GraphSession

        shape = CacheShape(**json.loads((Path(folder) / "shape.json").read_text(encoding="utf-8")))
        self._folder = Path(folder)
        self.session = GraphSession(self._folder / "model.onnx", shape, device, THREADS)
        self._cache = self.session.new_cache()
        self._decoder: Any = None

    def begin(self, kept: int = 0) -> None:
        """Forget all tokens from `kept` on."""
        self._cache.rewind(kept)

    def read(self, ids: list[int]) -> int:
        """Read tokens; the likeliest next one."""
        return int(self.session.feed(self._cache, ids)[-1].argmax())

    def drafts(self, prompt: list[int], tokens: int, changed: float, seed: int) -> dict[str, Any]:
        """An answer of so many tokens without a draft and with itself as the draft, a share of whose tokens is `changed`."""
        from shammah_runtime.engine.decoder import Decoder
        from shammah_runtime.engine.decoding import Decoding

        decoder = self._decoder = self._decoder or Decoder(self.session, _NoText(), ())  # type: ignore[arg-type]
        decoding = Decoding(max_tokens=tokens)
        rng = np.random.default_rng(seed)
        # The prompt is then in memory for both, not for the second alone.
        decoder.generate(prompt, Decoding(max_tokens=1))
        began = time.perf_counter()
        plain = decoder.generate(prompt, decoding)
        middle = time.perf_counter()
        draft = [int(rng.integers(0, self.session.shape.vocab)) if rng.random() < changed else token for token in plain.ids]
        between = time.perf_counter()
        drafted = decoder.generate(prompt, decoding, answers=[draft])
        end = time.perf_counter()
        same = (plain.ids, plain.logprobs) == (drafted.ids, drafted.logprobs)
        return {"plain": (middle - began) / tokens, "drafted": (end - between) / tokens, "same": same, "passes": drafted.passes}

    def cancel(self, times: int, seed: int) -> list[float]:
        """Seconds from Ctrl-C, at random moments of requests that read 512 tokens and answer 64, until the answer has ended."""
        from shammah_runtime.engine.decoder import Decoder
        from shammah_runtime.engine.decoding import Decoding
        from shammah_runtime.neural import interruptible

        decoder = self._decoder = self._decoder or Decoder(self.session, _NoText(), ())  # type: ignore[arg-type]
        rng = np.random.default_rng(seed)
        # A process that a script starts in the background ignores it, and so would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def request() -> Any:
            # Of other tokens each time, or the prefix cache would hold them.
            ids = [int(token) for token in rng.integers(100, 40_000, 512)]
            return interruptible(decoder, lambda: decoder.generate(ids, Decoding(max_tokens=64)))

        began = time.perf_counter()
        request()
        whole = time.perf_counter() - began
        found: list[float] = []
        while len(found) < times:
            pressed: list[float] = []

            def press(pressed: list[float] = pressed) -> None:
                pressed.append(time.perf_counter())
                os.kill(os.getpid(), signal.SIGINT)

            timer = threading.Timer(rng.random() * whole, press)
            timer.start()
            under_way = True
            try:
                request()
                under_way = False
                # It may have been faster than the first one.
                timer.join()
            except KeyboardInterrupt:
                if under_way:
                    found.append(time.perf_counter() - pressed[0])
        return found


class _NoText:
    """Stands where a tokenizer does: this bench measures ids."""

    def stream(self) -> "_NoText":
        return self

    def push(self, token: int) -> str:
        return ""

    def close(self) -> str:
        return ""


class Llama:
    """llama.cpp through the C interface of llama-cpp-python."""

    def __init__(self, file: str) -> None:
        import ctypes

        import llama_cpp

        self._c = llama_cpp
        # Kept: the library holds a bare pointer to it.
        self._silence = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        llama_cpp.llama_log_set(self._silence, None)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = CONTEXT, 512, 512
        wanted.n_threads = wanted.n_threads_batch = THREADS
        self._context = llama_cpp.llama_init_from_model(self._model, wanted)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def begin(self, kept: int = 0) -> None:
        """Forget all tokens from `kept` on."""
        memory = self._c.llama_get_memory(self._context)
        self._c.llama_memory_seq_rm(memory, 0, kept, -1)

    def read(self, ids: list[int]) -> int:
        """Read tokens; the likeliest next one."""
        array = (self._c.llama_token * len(ids))(*ids)
        if self._c.llama_decode(self._context, self._c.llama_batch_get_one(array, len(ids))):
            raise RuntimeError("llama_decode failed")
        logits = np.ctypeslib.as_array(self._c.llama_get_logits_ith(self._context, -1), (self._vocab,))
        return int(logits.argmax())


def open_engine(kind: str, file: str) -> Any:
    """The engine of that kind."""
    if kind.startswith("shammah"):
        return Shammah(file, "cuda" if kind == "shammah-cuda" else "cpu")
    if kind == "llama":
        return Llama(file)
    import engine_peers

    if kind == "transformers":
        return engine_peers.Transformers(file)
    return engine_peers.Genai(file, THREADS, CONTEXT) if kind == "genai" else engine_peers.OpenVino(file, THREADS)


def decode(engine: Engine, context: int, tokens: int) -> float:
    """Seconds per token, greedy, one at a time, after `context` tokens."""
    engine.begin()
    token = engine.read(_tokens(context))
    began = time.perf_counter()
    for _ in range(tokens):
        token = engine.read([token])
    return (time.perf_counter() - began) / tokens


def prefill(engine: Engine, tokens: int, cached: int = 0) -> float:
    """Seconds to the first token of so many tokens behind others that were read before."""
    engine.begin()
    ids = _tokens(cached + tokens)
    if cached:
        engine.read(ids[:cached])
    began = time.perf_counter()
    engine.read(ids[cached:])
    return time.perf_counter() - began


def peak_mebibytes() -> float:
    """The most memory this process has had, mapped file pages included."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status: this bench needs Linux")


def _tokens(count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(SEED).integers(100, 40_000, count)]


def main() -> None:
    """Load, read the first tokens, say what that took; then do what is asked until the input ends."""
    began = time.perf_counter()
    kind, file, *more = sys.argv[1:]
    engine: Any = open_engine(kind, file)
    engine.read(json.loads(more[0]) if more else _tokens(24))
    told = {"first_token": time.perf_counter() - began, "peak": peak_mebibytes(), "at": time.monotonic()}
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        what = order.pop("do")
        if what == "drafts":
            found = engine.drafts(**order)
        elif hasattr(engine, what):
            found = {"seconds": getattr(engine, what)(**order)}
        else:
            found = {"seconds": {"decode": decode, "prefill": prefill}[what](engine, **order)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
