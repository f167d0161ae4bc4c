"""The graph for CUDA beside a version's first one: made where there is CUDA, measured as it is, left out where it is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fakes.gpu import stand_in
from fakes.memories import make_embedder
from fakes.tiny import KEYS, Night, Said, TinyHome, exchanges
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.manifest import Manifest
from shammah_data.settings import TrainSettings
from shammah_data.store import ModelStore
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import open_model
from shammah_trainer.answering import Asked
from shammah_trainer.progress import Reporter
from shammah_trainer.second import second_graph

Train = Callable[..., Said]


def test_a_night_on_a_machine_with_cuda_publishes_a_graph_for_it(
    make_home: Callable[..., TinyHome], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    home = make_home()
    home.import_(exchanges())
    (tmp_path / "told").mkdir()
    shutil.move(make_embedder(tmp_path / "told", words=KEYS), home.root / "embedder")
    said = train(home)
    assert said.code == 0, said.err
    assert "exported fp16 for CUDA: " in said.out + said.err
    store = ModelStore(Home(home.root).models)
    manifest = store.verify("v0001")
    own, other = manifest.graphs
    assert [(one.provider, one.precision) for one in manifest.graphs] == [("cpu", "int8"), ("cuda", "fp16")]
    # Each has its own confidence and its own evidence, from the same questions.
    assert other.calibration.examples == own.calibration.examples
    assert other.calibration.weights != own.calibration.weights
    assert own.evidence is not None
    assert other.evidence is not None
    assert other.evidence.examples == own.evidence.examples
    figures = manifest.evaluation["cuda"]
    assert figures["heldout"]["phrasing"]["right"] >= manifest.evaluation["heldout"]["phrasing"]["right"] - 1
    assert figures["parity"]["mean_kl"] < 1e-3

    found = open_model(store.folder("v0001"), manifest)
    assert found.description == "v0001 (fp16, cuda)"
    golden = other.golden[0]
    assert found.decoder.generate(golden.prompt_ids, Decoding(max_tokens=8)).ids == golden.answer_ids
    monkeypatch.setattr("shammah_runtime.engine.model.cuda_usable", lambda: False)
    assert open_model(store.folder("v0001"), manifest).description == "v0001 (int8, cpu)"
    assert open_model(store.folder("v0001"), manifest, Wanted("cpu")).memory is not None


def left_out(night: Night, staging: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of a graph that is not made of what a night learned."""
    said: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "say", said.append)
    merged = next(path for path in (night.home.root / "runs").glob("*") if path.is_dir()) / "merged"
    shape = Manifest.load(ModelStore(Home(night.home.root).models).folder("v0001")).shape
    # It is asked nothing, by no decoder.
    nobody, nothing = cast(Decoder, SimpleNamespace(tokenizer=None, stop_ids=())), cast(Asked, None)
    assert second_graph(merged, staging, shape, [(1, 2, 3, 4, 5)], nobody, nothing, reporter) is None
    assert list(staging.iterdir()) == []
    return said


def test_a_graph_that_is_too_far_from_torch_is_left_out(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    monkeypatch.setattr("shammah_trainer.second.within_limits", lambda _: ["mean KL 1 nats is above 0.001"])
    assert left_out(night, tmp_path, monkeypatch) == ["no graph for CUDA: mean KL 1 nats is above 0.001"]


def test_a_graph_that_fails_while_it_answers_is_left_out(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)

    def fail(*_: object) -> None:
        raise ArtifactError("the graph cannot be run: out of memory")

    monkeypatch.setattr("shammah_trainer.second.answered", fail)
    exported, left = left_out(night, tmp_path, monkeypatch)
    assert exported.startswith("exported fp16 for CUDA: ")
    assert left == "no graph for CUDA: the graph cannot be run: out of memory"


def test_where_onnx_runtime_only_names_cuda_there_is_no_graph_for_it(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with onnxruntime-gpu on a machine without a GPU."""
    monkeypatch.setattr("shammah_trainer.second.cuda_usable", lambda: True)
    told = "CUDAExecutionProvider cannot be used here: see `shammah-serve doctor`"
    assert left_out(night, tmp_path, monkeypatch) == [f"no graph for CUDA: {told}"]


def test_what_was_never_run_on_a_gpu_is_not_published_for_one(night: Night) -> None:
    manifest = Manifest.load(ModelStore(Home(night.home.root).models).folder("v0001"))
    assert [one.provider for one in manifest.graphs] == ["cpu"]
    assert "cuda" not in manifest.evaluation
    assert TrainSettings().cuda == "auto"
