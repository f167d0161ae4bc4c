"""Runs an exported graph for the parity check. Knows the graph contract, no text, no sampling, no speed.

Legend: S tokens read in one run, M wanted rows, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ExportError
from shammah_data.manifest import WEIGHTS
from shammah_data.token_table import TABLE_KEY, TokenTable
from shammah_export.contract import cache_names

Device = Literal["cpu", "cuda"]
GRAPH_NAME = "model.onnx"

# Above this size a folded constant costs more memory than it saves time: the tied table would be stored twice.
FOLDING_LIMIT = ("optimization.constant_folding_max_output_size_in_bytes", "65536")
ERRORS_ONLY = 3
# ONNX Runtime's names: providers by device, and ONNX's numbers for the types of a cache.
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}


class GraphRunner:
    """One sequence over one graph, with a cache of `capacity` tokens (and one spare) that past and present share."""

    def __init__(self, graph_folder: Path, capacity: int, *, threads: int = 2, device: Device = "cpu") -> None:
        """Open graph_folder/model.onnx. Raises ExportError when ONNX Runtime refuses it, or cannot use the device."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry(*FOLDING_LIMIT)
        options.log_severity_level = ERRORS_ONLY
        path = graph_folder / GRAPH_NAME
        without = f"{_PROVIDERS[device][0]} cannot be used here: see `shammah-serve doctor`"
        if _PROVIDERS[device][0] not in onnxruntime.get_available_providers():
            raise ExportError(without)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_PROVIDERS[device])
        # ONNX Runtime's exceptions have no common class of their own.
        except Exception as error:
            raise ExportError(f"{path} cannot be run: {str(error).splitlines()[0]}") from error
        if _PROVIDERS[device][0] not in self._session.get_providers():
            raise ExportError(without)
        described = self._session.get_modelmeta().custom_metadata_map.get(TABLE_KEY)
        self._table = TokenTable(graph_folder / WEIGHTS, described)
        past = [value for value in self._session.get_inputs() if value.name.startswith("past_")]
        self._layers = len(past) // 2
        _, kv_heads, _, head_dim = past[0].shape
        cache = (1, kv_heads, capacity + 1, head_dim)
        kind = past[0].type
        if device == "cpu":
            zeros = np.zeros(cache, np.float16 if kind == "tensor(float16)" else np.float32)
            self._cache = [onnxruntime.OrtValue.ortvalue_from_numpy(zeros.copy()) for _ in past]
        else:
            made = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            self._cache = [made(cache, _TYPES[kind], device) for _ in past]
        self._capacity = capacity
        self.cached = 0

    def read(self, ids: Sequence[int], wanted: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
        """Read tokens on top of the `cached` ones; logits float32 [M, V] of the `wanted` rows (default: all).

        Lowering `cached` first forgets the tokens above it. Raises ExportError beyond the capacity and when
        ONNX Runtime fails.
        """
        total = self.cached + len(ids)
        if not ids or total > self._capacity:
            raise ExportError(f"{len(ids)} tokens on top of {self.cached} do not fit a cache of {self._capacity}")
        inputs = {
            "embedded": self._table.read(ids)[None],
            "seqlens_k": np.array([total], np.int32),
            "total_sequence_length": np.array(total + 1, np.int32),
            "sel": np.array(range(len(ids)) if wanted is None else wanted, np.int64),
        }
        binding: Any = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("logits", "cpu")
        for layer in range(self._layers):
            for part in range(2):
                buffer = self._cache[2 * layer + part]
                binding.bind_ortvalue_input(cache_names("past", layer)[part], buffer)
                binding.bind_ortvalue_output(cache_names("present", layer)[part], buffer)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise ExportError(f"the graph cannot be run: {str(error).splitlines()[0]}") from error
        self.cached = total
        logits: npt.NDArray[np.float32] = binding.get_outputs()[0].numpy()[0]
        return logits
