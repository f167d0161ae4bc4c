"""A processor that stands in for a GPU: graphs run through the same bindings and buffers, and recording means nothing to it."""

from typing import Any

import pytest

from shammah_export.parity import measure_parity
from shammah_runtime.engine import gpu, session


def _open_session(ort: Any, graph: str, options: Any) -> tuple[Any, bool]:
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]), True


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take its processor for a GPU; bf16 is beyond it."""
    monkeypatch.setattr(gpu, "open_session", _open_session)
    monkeypatch.setattr(gpu, "_DEVICE", "cpu")
    monkeypatch.setitem(session._PROVIDERS, "cuda", "CPUExecutionProvider")
    monkeypatch.setattr("shammah_runtime.engine.model.cuda_usable", lambda: True)
    monkeypatch.setattr("shammah_trainer.second.cuda_usable", lambda: True)

    def on_cpu(*given: Any, device: str, **more: Any) -> Any:
        assert device == "cuda"
        return measure_parity(*given, **more)

    monkeypatch.setattr("shammah_trainer.second.measure_parity", on_cpu)
