"""One ONNX graph: token ids in, logits out. Knows no text, no sampling, no tiers.

S: tokens fed in one pass, M: rows whose logits are wanted, V: vocabulary. A `KVCache` holds one sequence: one pair of
buffers per layer, bound as past and as present, so that nothing is copied between two passes. However a sequence is divided
into passes, its logits are the same to the last bit (see shammah_export.contract).
"""

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ArtifactError, InputError
from shammah_data.manifest import WEIGHTS, CacheShape
from shammah_data.token_table import TABLE_KEY, TokenTable
from shammah_runtime.engine import gpu, kernels, memory
from shammah_runtime.engine.elements import Copier, element_of

Floats = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": gpu.PROVIDER}

# Longer prompts are read in passes of this many tokens: measured faster than one pass, and a bound on what a pass allocates.
PASS_TOKENS = 128
# Rows of logits that one pass may return: 12 MB for a vocabulary of 49152.
PASS_ROWS = 64
# Bindings kept per cache: one for every number of tokens that decoding with drafts feeds, and for prefill.
_MOST_BINDINGS = 48
# Passes of so many tokens are tried, whether the first of these come out as they do one by one: kernels change with the number
# of rows. On ARM ONNX Runtime's gave the same bits up to six rows and others from seven on.
_TRIED = (PASS_ROWS, 16, 8, 7, 6, 5, 4, 3, 2)
_COMPARED = 8


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor says that it has AVX-512; where nobody says so it counts as one without."""
    try:
        return "avx512f" in cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False


class KVCache:
    """The keys and values of one sequence, [kv heads, context + 1, head_dim] per layer and kind; made by a session.

    They are of the type that the graph wants, on its device. `ids` are the tokens it holds. On the CPU, pages that no token has
    reached take no memory.
    """

    def __init__(self, session: "GraphSession") -> None:
        shape = session.shape
        self.ids: list[int] = []
        self.bindings: dict[tuple[int, int], Any] = {}
        side = (1, shape.kv_heads, shape.context + 1, shape.head_dim)
        element = session.element
        self._values: npt.NDArray[Any] | None = None
        self._copy_values = session.copy_values
        self.slot: gpu.Slot | None = None
        if session.gpu is None:
            everything = (2 * shape.layers, *side)
            buffer = mmap.mmap(-1, element.bytes * int(np.prod(everything)))
            # A huge page would make memory of megabytes that no token has reached.
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                buffer.madvise(mmap.MADV_NOHUGEPAGE)
            self._values = np.frombuffer(buffer, element.holder).reshape(everything)
            self.buffers = [element.value(session.ort, part) for part in self._values]
        else:
            self.slot = session.gpu.slot(self)
            self.buffers = self.slot.buffers

    @property
    def length(self) -> int:
        """Tokens held."""
        return len(self.ids)

    def rewind(self, length: int = 0) -> None:
        """Forget the tokens from `length` on; exact and free."""
        if not 0 <= length <= len(self.ids):
            raise ValueError(f"cannot rewind from {len(self.ids)} to {length} tokens")
        del self.ids[length:]

    def copy_from(self, other: "KVCache", length: int | None = None) -> None:
        """Hold the first `length` tokens of another cache of the same session (default: all)."""
        length = other.length if length is None else length
        if self._values is not None and other._values is not None:
            # What both begin with is the same to the last bit, in whatever passes it was read.
            start = min(common(self.ids, other.ids), length)
            self._values[..., start:length, :] = other._values[..., start:length, :]
        else:
            self._copy_values(other.buffers, self.buffers)
        self.ids = other.ids[:length]

    def state(self) -> npt.NDArray[Any]:
        """A copy of what it holds: [2 layers, kv heads, length, head_dim], bfloat16 as its bits; only on the CPU."""
        assert self._values is not None
        return np.ascontiguousarray(self._values[:, 0, :, : self.length])

    def restore(self, ids: Sequence[int], state: npt.NDArray[Any]) -> None:
        """Hold what `state` of a cache with these ids gave; only on the CPU."""
        assert self._values is not None
        self._values[:, 0, :, : len(ids)] = state
        self.ids = list(ids)


class GraphSession:
    """An ONNX Runtime session of an exported graph.

    With `own_kernels` a quantized graph is run by our own kernels where they can be used, which the attribute says. `reading`
    is called when ONNX Runtime begins to read the graph, for which it needs no Python.

    Raises ArtifactError when ONNX Runtime is not installed, refuses the graph, or cannot use the device.
    """

    def __init__(
        self,
        graph: Path,
        shape: CacheShape,
        device: Device = "cpu",
        threads: int = 2,
        own_kernels: bool = True,
        *,
        reading: Callable[[], None] = lambda: None,
    ) -> None:
        ort = import_onnxruntime()
        without = f"{_PROVIDERS[device]} cannot be used here: see `shammah-serve doctor`"
        if _PROVIDERS[device] not in ort.get_available_providers():
            raise ArtifactError(without)
        model = _with_own_kernels(graph, shape.head_dim) if device == "cpu" and own_kernels else None
        records = False
        reading()
        self._session: Any = None if model is None else _opened_with_own_kernels(ort, model, graph, threads)
        self.own_kernels = self._session is not None
        # Sought in the bytes: a name that only looks like it costs a trial, no more.
        self._theirs = model is None or not self.own_kernels or any(operator in model for operator in kernels.REPLACED)
        try:
            if device == "cuda":
                self._session, records = gpu.open_session(ort, str(graph), session_options(ort, threads))
            elif self._session is None:
                self._session = ort.InferenceSession(
                    str(graph), session_options(ort, threads), providers=[_PROVIDERS[device]], enable_fallback=0
                )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{graph}: ONNX Runtime refuses it: {_first_line(error)}") from error
        if _PROVIDERS[device] not in self._session.get_providers():
            raise ArtifactError(without)
        # What packing took for a moment is given back before the first pass takes its own.
        memory.release()
        self.device = device
        self.threads = threads
        self.shape = shape
        self.ort = ort
        self._copier: Copier | None = None
        described = self._session.get_modelmeta().custom_metadata_map.get(TABLE_KEY)
        self._table = TokenTable(graph.with_name(WEIGHTS), described)
        self._one_path: bool | None = None
        self._check_signature()
        self.gpu = gpu.Gpu(ort, self._session, records, shape, self._table, self.element) if device == "cuda" else None
        self._run_options = self._make_run_options()
        # Every pass uses the front of these; their addresses are what the bindings hold.
        self._embedded = np.zeros((PASS_TOKENS, self._table.hidden), np.float32)
        self._rows = np.zeros(PASS_ROWS, np.int64)
        self._logits = np.empty(PASS_ROWS * shape.vocab, np.float32)
        self._seqlens = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)

    def _make_run_options(self) -> Any:
        if self.gpu is not None:
            return self.gpu.plain_options()
        options = self.ort.RunOptions()
        options.log_severity_level = 4
        return options

    def _check_signature(self) -> None:
        types = {item.name: item.type for item in self._session.get_inputs()}
        self.element = element_of(types.get("past_key_0", "nothing"))
        found = {item.name: item.shape for item in self._session.get_inputs()}
        logits = {item.name: item.shape for item in self._session.get_outputs()}.get("logits", [None])
        if logits[-1] != self.shape.vocab:
            raise ArtifactError(f"the graph's vocabulary is {logits[-1]}, not {self.shape.vocab} as the manifest says")
        for layer in range(self.shape.layers):
            if found.get(f"past_key_{layer}", [None] * 4)[1::2] != [self.shape.kv_heads, self.shape.head_dim]:
                raise ArtifactError(f"the graph's cache of layer {layer} is not what the manifest says")
        if f"past_key_{self.shape.layers}" in found:
            raise ArtifactError(f"the graph has more than the {self.shape.layers} layers of the manifest")

    def new_cache(self) -> KVCache:
        """An empty cache for one more sequence."""
        return KVCache(self)

    @property
    def token_bytes(self) -> int:
        """What a token takes in a cache."""
        return 2 * self.element.bytes * self.shape.layers * self.shape.kv_heads * self.shape.head_dim

    def copy_values(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        """Copy buffers of caches on their device, which no token leaves."""
        with gpu.TURNS.using():
            if self._copier is None:
                self._copier = Copier(self.ort, self.element, _PROVIDERS[self.device])
            self._copier.copy(sources, targets)

    def interrupt(self) -> None:
        """Make the pass that another thread is running, or the next one, fail with InterruptedError; `resume` undoes it."""
        self._run_options.terminate = True

    def resume(self) -> None:
        """Forget an `interrupt` that came too late."""
        if self._run_options.terminate:
            self._run_options = self._make_run_options()

    def _binding(self, cache: KVCache, tokens: int, rows: int) -> Any:
        binding = cache.bindings.get((tokens, rows))
        if binding is not None:
            return binding
        if len(cache.bindings) >= _MOST_BINDINGS:
            cache.bindings.pop(next(iter(cache.bindings)))
        binding = self._session.io_binding()
        for name, array, side in (
            ("embedded", self._embedded, (1, tokens, self._table.hidden)),
            ("seqlens_k", self._seqlens, (1,)),
            ("total_sequence_length", self._total, ()),
            ("sel", self._rows, (rows,)),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype.type, side, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, (1, rows, self.shape.vocab), self._logits.ctypes.data)
        for layer in range(self.shape.layers):
            for kind, buffer in zip(("key", "value"), cache.buffers[2 * layer : 2 * layer + 2], strict=True):
                binding.bind_ortvalue_input(f"past_{kind}_{layer}", buffer)
                binding.bind_ortvalue_output(f"present_{kind}_{layer}", buffer)
        cache.bindings[tokens, rows] = binding
        return binding

    def feed(self, cache: KVCache, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        """Append S tokens to the cache and return the logits [M, V] of the wanted rows, in rising order (default: the last).

        Where one pass does, its result is overwritten by the next one. Raises InputError beyond the context, ArtifactError
        when ONNX Runtime fails and InterruptedError after `interrupt`; what the cache held before is kept then.
        """
        before = cache.length
        if not ids or before + len(ids) > self.shape.context:
            raise InputError(f"{before + len(ids)} tokens do not fit into the model's context of {self.shape.context}")
        wanted = [len(ids) - 1] if rows is None else list(rows)
        found: list[Floats] = []
        try:
            start = 0
            while start < len(ids):
                end = min(start + (PASS_TOKENS if self.gpu is None else gpu.PASS_TOKENS), len(ids))
                inside = [row for row in wanted if start <= row < end]
                if len(inside) > PASS_ROWS:
                    end = inside[PASS_ROWS]
                    inside = inside[:PASS_ROWS]
                # A pass must ask for some row; that of the last token costs one product with the head.
                logits_MV = self._pass(cache, ids[start:end], [row - start for row in inside] or [end - start - 1])
                if inside:
                    found.append(logits_MV if end == len(ids) and not found else logits_MV.copy())
                start = end
        except BaseException:
            cache.rewind(before)
            raise
        if len(found) == 1:
            return found[0]
        return np.concatenate(found)

    def one_path(self) -> bool:
        """Whether several tokens in one pass give, to the last bit, the logits that they give one by one; found out once.

        Our own kernels are made so, and where the processor has AVX-512 ONNX Runtime's are too, for all precisions
        (docs/decisions/0005-one-kernel-path.md). On other processors those are other ones, so that it is tried there. On a GPU
        products of one row and of several are not the same, whatever a trial says. Raises what `feed` raises.
        """
        if self._one_path is None:
            known = not self._theirs or has_avx512()
            self._one_path = self.gpu is None and (known or self._tried_path())
        return self._one_path

    def _tried_path(self) -> bool:
        ids = [(7 * n + 3) % self.shape.vocab for n in range(min(PASS_ROWS, self.shape.context))]
        cache = self.new_cache()
        single_MV = np.concatenate([self.feed(cache, [token]).copy() for token in ids[:_COMPARED]])
        for count in _TRIED:
            cache.rewind(0)
            rows = range(min(count, len(ids), _COMPARED))
            if not np.array_equal(self.feed(cache, ids[:count], rows), single_MV[: len(rows)]):
                return False
        return True

    def _pass(self, cache: KVCache, ids: Sequence[int], rows: Sequence[int]) -> Floats:
        try:
            if cache.slot is None:
                logits_MV = self._pass_on_cpu(cache, ids, rows)
            else:
                assert self.gpu is not None
                if self._run_options.terminate:
                    raise InterruptedError("interrupted before the pass")
                logits_MV = self.gpu.run(cache.slot, ids, rows, cache.length, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class
            if self._run_options.terminate:
                self.resume()
                raise InterruptedError("the pass was interrupted") from error
            raise ArtifactError(f"the graph cannot be run: {_first_line(error)}") from error
        cache.ids.extend(ids)
        return logits_MV

    def _pass_on_cpu(self, cache: KVCache, ids: Sequence[int], rows: Sequence[int]) -> Floats:
        binding = self._binding(cache, len(ids), len(rows))
        total = cache.length + len(ids)
        self._embedded[: len(ids)] = self._table.read(ids)
        self._rows[: len(rows)] = rows
        self._seqlens[0] = total
        self._total[...] = total + 1
        self._session.run_with_iobinding(binding, self._run_options)
        size = self.shape.vocab
        return self._logits[: len(rows) * size].reshape(len(rows), size)


def _with_own_kernels(graph: Path, head_dim: int) -> bytes | None:
    """The graph as it uses our own kernels; None where they cannot be used."""
    if kernels.library() is None:
        return None
    try:
        return kernels.with_own_kernels(graph.read_bytes(), head_dim)
    except OSError:
        # The session says so in its own words.
        return None


def _opened_with_own_kernels(ort: Any, model: bytes, graph: Path, threads: int) -> Any:
    """A session of a graph that uses our own kernels; None where they do not take it, as those of another release may not."""
    options = session_options(ort, threads)
    # A model from memory has no folder of its own.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
    try:
        options.register_custom_ops_library(str(kernels.library()))
        return ort.InferenceSession(model, options, providers=[_PROVIDERS["cpu"]], enable_fallback=0)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class; what else is wrong shows as published
        return None


def session_options(ort: Any, threads: int) -> Any:
    """What every session has."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # What it would print comes as an exception too.
    options.log_severity_level = 4
    # Else the tied embedding is folded into a second copy of itself.
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", "65536")
    return options


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """Tokens that both begin with."""
    most = min(len(left), len(right))
    for index in range(most):
        if left[index] != right[index]:
            return index
    return most


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def import_onnxruntime() -> Any:
    """The onnxruntime module. Raises ArtifactError with the cure when it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ArtifactError(
            "ONNX Runtime is not installed: pip install 'shammah[cpu]' (or 'shammah[cuda]' on a machine with a CUDA GPU)"
        ) from error
    return onnxruntime
