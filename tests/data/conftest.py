"""A home, a log and a store in a temporary folder, and a process of its own for what needs two."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import CacheShape, Calibration, ChatFormat, FileEntry, Golden, GraphEntry, Manifest
from shammah_data.store import ModelStore

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def log(home: Home) -> ExchangeLog:
    return ExchangeLog(home, wait=0.05)  # what finds the database taken need not wait long for the spool


@pytest.fixture
def store(home: Home) -> ModelStore:
    return ModelStore(home.models)


@pytest.fixture
def spawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawn]:
    """Start Python code in another process; arguments are sys.argv[1:], lines come through its stdout."""
    folder = tmp_path_factory.mktemp("programs")
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        # A file: where DuckDB finds none it takes the process for a notebook, and draws the progress of what takes long.
        program = folder / f"{len(running)}.py"
        program.write_text(code, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def describe() -> Callable[[str, tuple[FileEntry, ...]], Manifest]:
    return make_manifest


@pytest.fixture
def publish(store: ModelStore) -> Callable[[bytes], str]:
    """Publish a small version whose weights are these bytes."""

    def make(weights: bytes = b"weights") -> str:
        return store.publish(filled(store.staging(), weights), make_manifest)

    return make


def filled(staging: Path, weights: bytes) -> Path:
    (staging / "int8").mkdir()
    (staging / "int8" / "model.onnx").write_bytes(b"graph")
    (staging / "int8" / "weights.bin").write_bytes(weights)
    (staging / "tokenizer.json").write_text("{}")
    return staging


def make_manifest(version: str, files: tuple[FileEntry, ...]) -> Manifest:
    calibration = Calibration(
        weights={"mean": 2.0},
        intercept=1.0,
        threshold=0.9,
        target_precision=0.95,
        examples=40,
        accepted=20,
        accepted_right=20,
        certified=False,
    )
    golden = Golden(prompt_ids=(1, 2), answer_ids=(3,))
    return Manifest(
        version=version,
        created="2026-01-02T03:04:05+00:00",
        run="run-1",
        base="tiny",
        base_sha256="0" * 64,
        snapshot_sha256="1" * 64,
        snapshot_rows=3,
        snapshot_until="2026-01-02T03:04:05",
        shape=CacheShape(layers=2, kv_heads=1, head_dim=8, vocab=64, context=128),
        chat=ChatFormat("", "U:", "\n", "A:", "\n"),
        stop_ids=(0,),
        graphs=(GraphEntry("int8/model.onnx", "cpu", "int8", (golden,), calibration, {"max_abs": 0.5}),),
        files=files,
        evaluation={"right": 3, "asked": 4},
        oldest_runtime="0.1.0",
    )
