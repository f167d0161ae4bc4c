"""One ONNX graph with its KV cache: token ids in, logits out. Knows no text, no sampling, no tiers.

S: tokens fed in one pass, M: rows whose logits are wanted, V: vocabulary. One sequence at a time; the cache is one pair
of buffers per layer, bound as past and as present, so that nothing is copied between two passes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ArtifactError, InputError
from shammah_data.manifest import CacheShape

Floats = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class GraphSession:
    """An ONNX Runtime session of an exported graph.

    Raises ArtifactError when ONNX Runtime is not installed, refuses the graph, or cannot use the device.
    """

    def __init__(self, graph: Path, shape: CacheShape, device: Device = "cpu", threads: int = 2) -> None:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # What it would print comes as an exception too.
        options.log_severity_level = 4
        # Else the tied embedding is folded into a second copy of itself.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", "65536")
        providers = [_PROVIDERS[device]] if device == "cpu" else [_PROVIDERS[device], _PROVIDERS["cpu"]]
        try:
            self._session: Any = ort.InferenceSession(str(graph), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{graph}: ONNX Runtime refuses it: {_first_line(error)}") from error
        if _PROVIDERS[device] not in self._session.get_providers():
            raise ArtifactError(f"{_PROVIDERS[device]} cannot be used here: see `shammah-serve doctor`")
        self.device = device
        self.shape = shape
        self._ort = ort
        self._length = 0
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = 4
        self._caches = self._make_caches()
        self._seqlens = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        # Decoding binds once: only the contents of these change from token to token.
        self._one_id, self._one_row = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)
        self._one_logits = np.zeros((1, 1, shape.vocab), np.float32)
        self._step = self._bind(self._one_id, self._one_row, self._one_logits)

    def _make_caches(self) -> list[tuple[Any, Any]]:
        found = {item.name: item.shape for item in self._session.get_inputs()}
        logits = {item.name: item.shape for item in self._session.get_outputs()}.get("logits", [None])
        if logits[-1] != self.shape.vocab:
            raise ArtifactError(f"the graph's vocabulary is {logits[-1]}, not {self.shape.vocab} as the manifest says")
        size = (1, self.shape.kv_heads, self.shape.context, self.shape.head_dim)
        caches = []
        for layer in range(self.shape.layers):
            if found.get(f"past_key_{layer}", [None] * 4)[1::2] != [self.shape.kv_heads, self.shape.head_dim]:
                raise ArtifactError(f"the graph's cache of layer {layer} is not what the manifest says")
            # Not filled: pages that no token has reached take no memory.
            pair = [self._ort.OrtValue.ortvalue_from_shape_and_type(size, np.float32, self.device) for _ in range(2)]
            caches.append((pair[0], pair[1]))
        if f"past_key_{self.shape.layers}" in found:
            raise ArtifactError(f"the graph has more than the {self.shape.layers} layers of the manifest")
        return caches

    def _bind(self, ids: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], logits: Floats) -> Any:
        binding = self._session.io_binding()
        for name, array in (
            ("input_ids", ids),
            ("seqlens_k", self._seqlens),
            ("total_sequence_length", self._total),
            ("sel", rows),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for layer, (key, value) in enumerate(self._caches):
            binding.bind_ortvalue_input(f"past_key_{layer}", key)
            binding.bind_ortvalue_input(f"past_value_{layer}", value)
            binding.bind_ortvalue_output(f"present_key_{layer}", key)
            binding.bind_ortvalue_output(f"present_value_{layer}", value)
        return binding

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._length

    def rewind(self, length: int = 0) -> None:
        """Forget the tokens from `length` on; exact and free."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot rewind from {self._length} to {length} tokens")
        self._length = length

    def feed(self, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        """Append S tokens to the cache and return the logits [M, V] of the wanted rows (default: the last one).

        The result of a single-token pass is overwritten by the next one. Raises InputError beyond the context and
        ArtifactError when ONNX Runtime fails; what was fed before is kept then.
        """
        total = self._length + len(ids)
        if not ids or total > self.shape.context:
            raise InputError(f"{total} tokens do not fit into the model's context of {self.shape.context}")
        self._seqlens[0] = total - 1
        self._total[...] = total
        if len(ids) == 1 and (rows is None or list(rows) == [0]):
            self._one_id[0, 0] = ids[0]
            binding, logits = self._step, self._one_logits
        else:
            # Kept in local names until the run is over: a binding holds bare pointers.
            id_array = np.array([ids], np.int64)
            row_array = np.array([len(ids) - 1] if rows is None else list(rows), np.int64)
            logits = np.empty((1, len(row_array), self.shape.vocab), np.float32)
            binding = self._bind(id_array, row_array, logits)
        try:
            self._session.run_with_iobinding(binding, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"the graph cannot be run: {_first_line(error)}") from error
        self._length = total
        result: Floats = logits[0]
        return result


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
