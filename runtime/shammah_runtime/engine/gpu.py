"""Passes over a graph on a CUDA device: how their inputs get there and their logits back. Knows no tokens' meaning.

ONNX Runtime copies an input to the device when it is bound, not when the graph runs: a pass over several tokens is bound anew
each time. A pass over one token, of which decoding consists, reads and writes places on the device that never change: there the
launches of its kernels, which take longer than the kernels, are recorded once and played back as one (a CUDA graph).

S: tokens fed in one pass, M: rows whose logits are wanted, V: vocabulary.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data.manifest import CacheShape
from shammah_data.token_table import TokenTable
from shammah_runtime.engine.elements import Element

Floats = npt.NDArray[np.float32]
PROVIDER = "CUDAExecutionProvider"
# Tokens read in one pass at most: it takes hardly longer than one over 128, and what it allocates is bounded.
PASS_TOKENS = 1024
_DEVICE = "cuda"
_RECORDED = "gpu_graph_id"
# Of a pass that is not recorded.
_NOT = "-1"
# Passes after which a recording is trusted: the one it was made of, and one over another token behind more of them.
_PROOFS = 2


class Turns:
    """Lets a thread record while no other one of this process uses CUDA: a recording fails where another one allocates."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._recording = False

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Use the device beside others; waits for a recording to end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._recording)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1

    @contextlib.contextmanager
    def recording(self) -> Iterator[bool]:
        """Use the device alone, if nobody else does just now: whether that is so. If not, it is used beside the others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._recording)
            alone = self._recording = self._users == 0
            self._users += 1
        try:
            yield alone
        finally:
            with self._changed:
                self._users -= 1
                if alone:
                    self._recording = False
                    self._changed.notify_all()


# Of all sessions of this process.
TURNS = Turns()


def open_session(ort: Any, graph: str, options: Any) -> tuple[Any, bool]:
    """A session on the device, and whether it can record; raises what ONNX Runtime does.

    Where a node has no kernel for CUDA the rest of the graph still runs there, but nothing can be recorded.
    """
    with TURNS.using():
        try:
            settings = {"enable_cuda_graph": "1"}
            return ort.InferenceSession(graph, options, providers=[(PROVIDER, settings), "CPUExecutionProvider"]), True
        except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class; what else is wrong shows below
            return ort.InferenceSession(graph, options, providers=[PROVIDER, "CPUExecutionProvider"]), False


class Slot:
    """Buffers for the keys and values of one sequence, and what its passes over single tokens are bound to."""

    def __init__(self, buffers: list[Any], number: int) -> None:
        self.buffers = buffers
        self.number = number
        self.single: Any = None
        self.proofs = 0

    @property
    def recorded(self) -> bool:
        """Whether its passes over single tokens are recorded, and the recording was seen to give what they give."""
        return self.proofs >= _PROOFS


class Gpu:
    """The passes of one session on the device."""

    def __init__(self, ort: Any, session: Any, records: bool, shape: CacheShape, table: TokenTable, element: Element) -> None:
        self._ort = ort
        self._session = session
        self._records = records
        self._shape = shape
        self._table = table
        self._element = element
        # A recording names the buffers that it was made with, and is never let go: they serve the next sequence.
        self._free: list[Slot] = []
        self._made = 0
        # ONNX Runtime keeps recordings, and the handles of its libraries with them, for each thread, and lets none of them go.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")
        self._fixed: dict[str, Any] = {}

    def slot(self, owner: object) -> Slot:
        """Buffers for a sequence, which come back when `owner` is gone."""
        slot = self._free.pop() if self._free else self._new_slot()
        weakref.finalize(owner, self._free.append, slot)
        return slot

    def _new_slot(self) -> Slot:
        shape = self._shape
        side = (1, shape.kv_heads, shape.context + 1, shape.head_dim)
        self._made += 1
        with TURNS.using():
            made = self._ort.OrtValue.ortvalue_from_shape_and_type
            return Slot([made(side, self._element.number, _DEVICE) for _ in range(2 * shape.layers)], self._made)

    def run(self, slot: Slot, ids: Sequence[int], rows: Sequence[int], before: int, options: Any) -> Floats:
        """Logits [M, V] after `before` tokens in the slot and these; raises what ONNX Runtime does."""
        if len(ids) == len(rows) == 1:
            return self._thread.submit(self._single, slot, ids[0], before).result()
        return self._thread.submit(self._several, slot, ids, rows, before, options).result()

    def _several(self, slot: Slot, ids: Sequence[int], rows: Sequence[int], before: int, options: Any) -> Floats:
        total = before + len(ids)
        with TURNS.using():
            binding = self._session.io_binding()
            for name, array in (
                ("embedded", self._table.read(ids)[None]),
                ("seqlens_k", np.array([total], np.int32)),
                ("total_sequence_length", np.array(total + 1, np.int32)),
                ("sel", np.array(rows, np.int64)),
            ):
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            binding.bind_output("logits", "cpu")
            self._bind_cache(binding, slot)
            self._session.run_with_iobinding(binding, options)
            logits: Floats = binding.get_outputs()[0].numpy()[0]
        return logits

    def _single(self, slot: Slot, token: int, before: int) -> Floats:
        if slot.single is None:
            self._bind_single(slot)
        with TURNS.recording() if self._records and not slot.recorded else _granted() as alone:
            self._fixed["embedded"].update_inplace(self._table.read([token])[None])
            self._fixed["seqlens_k"].update_inplace(np.array([before + 1], np.int32))
            if self._records and slot.recorded:
                return self._played(slot, recorded=True)
            logits = self._played(slot, recorded=False)
            if alone:
                logits = logits.copy()
                slot.proofs += 1
                self._records = self._gives(slot, logits)
        return logits

    def _gives(self, slot: Slot, logits: Floats) -> bool:
        """Whether the recording gives these logits too. A pass may be repeated: what it writes, it writes over."""
        try:
            return np.array_equal(logits, self._played(slot, recorded=True))
        except Exception:  # noqa: BLE001 - whatever keeps a pass from being recorded, it runs as it is
            return False

    def _played(self, slot: Slot, recorded: bool) -> Floats:
        binding, options = slot.single
        self._session.run_with_iobinding(binding, options[recorded])
        logits: Floats = self._fixed["logits"].numpy()[0]
        return logits

    def _bind_single(self, slot: Slot) -> None:
        shape = self._shape
        with TURNS.using():
            if not self._fixed:
                for name, array in (
                    ("embedded", np.zeros((1, 1, self._table.hidden), np.float32)),
                    ("seqlens_k", np.zeros(1, np.int32)),
                    ("sel", np.zeros(1, np.int64)),
                    ("logits", np.zeros((1, 1, shape.vocab), np.float32)),
                ):
                    self._fixed[name] = self._ort.OrtValue.ortvalue_from_numpy(array, _DEVICE, 0)
            binding = self._session.io_binding()
            for name in ("embedded", "seqlens_k", "sel"):
                binding.bind_ortvalue_input(name, self._fixed[name])
            # The kernels read the length on the device; this one, on the CPU, bounds it and is recorded as it is.
            binding.bind_cpu_input("total_sequence_length", np.array(shape.context + 1, np.int32))
            binding.bind_ortvalue_output("logits", self._fixed["logits"])
            self._bind_cache(binding, slot)
        slot.single = binding, (self._options(_NOT), self._options(str(slot.number)))

    def _bind_cache(self, binding: Any, slot: Slot) -> None:
        for layer in range(self._shape.layers):
            for kind, buffer in zip(("key", "value"), slot.buffers[2 * layer : 2 * layer + 2], strict=True):
                binding.bind_ortvalue_input(f"past_{kind}_{layer}", buffer)
                binding.bind_ortvalue_output(f"present_{kind}_{layer}", buffer)

    def _options(self, recorded: str) -> Any:
        options = self._ort.RunOptions()
        options.log_severity_level = 4
        if self._records:
            options.add_run_config_entry(_RECORDED, recorded)
        return options

    def plain_options(self) -> Any:
        """Options of a pass that is not recorded."""
        return self._options(_NOT)


@contextlib.contextmanager
def _granted() -> Iterator[bool]:
    with TURNS.using():
        yield False
