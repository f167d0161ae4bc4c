"""Passes on a GPU: on a real one where ONNX Runtime gets CUDA, and everywhere on a processor that stands in for it.

What stands in runs a graph in fp32 through the very same bindings and buffers; only the recording of a pass is CUDA's own.
"""

import dataclasses
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForCausalLM

from fakes.gpu import stand_in
from fakes.versions import ANSWER, CONTEXT, QUESTION, Tiny
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.settings import GraphPrecision
from shammah_data.store import ModelStore
from shammah_export.export import export_model
from shammah_export.parity import measure_parity, within_limits
from shammah_runtime.engine import gpu
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import open_model
from shammah_runtime.engine.session import GraphSession

FULL = [int(token) for token in np.random.default_rng(3).integers(0, 384, 200)]
# Of the spread of the logits: what 11 and 8 bits of mantissa leave of two random layers.
TOLERANCE: dict[GraphPrecision, float] = {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.08}
REAL = ("fp16", "bf16")


@pytest.fixture(params=list(TOLERANCE))
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GraphPrecision:
    chosen: GraphPrecision = request.param
    if chosen not in REAL:
        stand_in(monkeypatch)
    return chosen


def on_gpu(model: Tiny, folder: Path, precision: GraphPrecision) -> GraphSession:
    export_model(model.folder, folder / precision, precision, context=CONTEXT)
    try:
        return GraphSession(folder / precision / "model.onnx", model.shape, "cuda")
    except ArtifactError as error:
        if precision not in REAL or "CUDAExecutionProvider cannot be used" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def session(random_tiny: Tiny, tmp_path: Path, precision: GraphPrecision) -> GraphSession:
    return on_gpu(random_tiny, tmp_path, precision)


@pytest.fixture
def decoder(tiny: Tiny, tmp_path: Path, precision: GraphPrecision) -> Decoder:
    return Decoder(on_gpu(tiny, tmp_path, precision), tiny.chat, tiny.stop_ids)


def reference(folder: Path, ids: list[int]) -> npt.NDArray[np.float32]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        found: npt.NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
    return found


def test_logits_are_those_of_torch_in_whatever_passes_they_are_read(
    session: GraphSession, random_tiny: Tiny, precision: GraphPrecision
) -> None:
    wanted = reference(random_tiny.folder, FULL)
    for sizes in ((200,), (1, 2, 3, 34, 160), (150, *[1] * 50)):
        cache, found = session.new_cache(), []
        for size in sizes:
            found.append(session.feed(cache, FULL[cache.length : cache.length + size], range(size)).copy())
        difference = np.abs(np.concatenate(found) - wanted)
        assert difference.mean() < TOLERANCE[precision] * wanted.std()


def test_the_cache_stays_on_the_device_where_it_is_rewound_and_copied(session: GraphSession) -> None:
    cache = session.new_cache()
    assert {buffer.device_name() for buffer in cache.buffers} == {gpu._DEVICE}
    session.feed(cache, FULL[:60])
    other = session.new_cache()
    other.copy_from(cache, 40)
    wanted = session.feed(other, FULL[40:50]).copy()
    # Of another sequence, behind what is copied: it must not be seen again.
    session.feed(cache, FULL[60:])
    cache.rewind(40)
    np.testing.assert_array_equal(session.feed(cache, FULL[40:50]), wanted)


def test_a_draft_changes_no_token(session: GraphSession, random_tiny: Tiny) -> None:
    # Six tokens may well come out the same there; no answer may hang on it.
    assert not session.one_path()
    endless = Decoder(session, random_tiny.chat, ())
    plain = endless.generate(FULL[:30], Decoding(max_tokens=40))
    for draft in (plain.ids, FULL[:40]):
        drafted = endless.generate(FULL[:30], Decoding(max_tokens=40), answers=[draft])
        assert (drafted.ids, drafted.logprobs) == (plain.ids, plain.logprobs)


@pytest.mark.parametrize("beams", [1, 4])
def test_an_answer_is_found_greedily_and_by_beams(decoder: Decoder, beams: int) -> None:
    said = decoder.generate(decoder.tokenizer.prompt(QUESTION), Decoding(beams=beams))
    assert said.text == ANSWER
    again = decoder.generate(decoder.tokenizer.prompt(QUESTION), Decoding(beams=beams))
    assert again.ids == said.ids
    assert again.reused > 0


def test_a_pass_can_be_interrupted(session: GraphSession) -> None:
    cache = session.new_cache()
    session.feed(cache, FULL[:10])
    wanted = session.feed(cache, FULL[10:20]).copy()
    cache.rewind(10)
    session.interrupt()
    with pytest.raises(InterruptedError):
        session.feed(cache, FULL[10:20])
    assert cache.ids == FULL[:10]
    np.testing.assert_array_equal(session.feed(cache, FULL[10:20]), wanted)


def test_sessions_serve_side_by_side_while_another_is_opened(
    session: GraphSession, random_tiny: Tiny, tmp_path: Path, precision: GraphPrecision
) -> None:
    graph = tmp_path / precision / "model.onnx"
    others = [GraphSession(graph, random_tiny.shape, "cuda") for _ in range(2)]

    def said(one: GraphSession) -> npt.NDArray[np.float32]:
        """The logits behind every prefix, after it was read at once and token by token, in caches of their own."""
        rows = []
        for _ in range(3):
            cache, further = one.new_cache(), one.new_cache()
            one.feed(cache, FULL[:30])
            further.copy_from(cache)
            rows += [one.feed(where, [token]).copy() for where in (cache, further) for token in FULL[30:50]]
        return np.concatenate(rows)

    wanted = said(session)
    found: list[npt.NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda one=one: found.append(said(one))) for one in others]
    for thread in threads:
        thread.start()
    found.append(said(GraphSession(graph, random_tiny.shape, "cuda")))
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for logits in found:
        np.testing.assert_array_equal(logits, wanted)


def test_a_version_serves_with_its_graph_for_the_gpu(
    tiny: Tiny, decoder: Decoder, home: Home, tmp_path: Path, precision: GraphPrecision
) -> None:
    def add(staging: Path) -> None:
        (tmp_path / precision).rename(staging / precision)

    graphs = [{}, {"path": f"{precision}/model.onnx", "provider": "cuda", "precision": precision}]
    version = tiny.publish(home, graphs=graphs, prepare=add)
    store = ModelStore(home.models)
    model = open_model(store.folder(version), store.verify(version))
    assert model.description == f"v0001 ({precision}, cuda)"
    assert model.why == "CUDA can be used"
    assert model.decoder.generate(model.prompt(QUESTION, (), 24).ids, Decoding()).text == ANSWER


@pytest.mark.parametrize("precision", REAL, indirect=True)
def test_parity_is_measured_on_the_device(decoder: Decoder, tiny: Tiny, tmp_path: Path, precision: GraphPrecision) -> None:
    prompt = tiny.chat.prompt(QUESTION) + tiny.chat.encode(ANSWER)
    found = measure_parity(tiny.folder, tmp_path / precision, [prompt], precision, device="cuda")
    assert within_limits(found) == []
    assert dataclasses.asdict(found)["positions"] == len(prompt)


def test_the_buffers_of_a_sequence_that_is_gone_serve_the_next(session: GraphSession) -> None:
    cache = session.new_cache()
    wanted = [session.feed(cache, [token]).copy() for token in FULL[:20]]
    slot = cache.slot
    del cache
    gc.collect()
    again, other = session.new_cache(), session.new_cache()
    assert again.slot is slot
    assert other.slot is not slot
    for cache in (again, other):
        for token, logits in zip(FULL[:20], wanted, strict=True):
            np.testing.assert_array_equal(session.feed(cache, [token]), logits)


def test_a_pass_is_recorded_when_nobody_else_uses_the_device(session: GraphSession, precision: GraphPrecision) -> None:
    cache = session.new_cache()
    assert cache.slot is not None
    with gpu.TURNS.using():
        plain = [session.feed(cache, [token]).copy() for token in FULL[:8]]
    assert not cache.slot.recorded
    cache.rewind(0)
    recorded = [session.feed(cache, [token]).copy() for token in FULL[:8]]
    assert cache.slot.recorded
    assert session.gpu is not None
    assert session.gpu._records
    # Played back over other tokens and lengths than those it was recorded with.
    cache.rewind(3)
    recorded[3:] = [session.feed(cache, [token]).copy() for token in FULL[3:8]]
    np.testing.assert_array_equal(np.concatenate(recorded), np.concatenate(plain))
    session.feed(cache, FULL[8:60])
    behind = session.feed(cache, FULL[60:61]).copy()
    other = session.new_cache()
    session.feed(other, FULL[:60])
    np.testing.assert_allclose(behind, session.feed(other, FULL[60:61]), atol=5 * TOLERANCE[precision])


@pytest.mark.parametrize("fault", ["stale", "refused"])
def test_a_recording_that_gives_something_else_is_never_used(
    session: GraphSession, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache = session.new_cache()
    plain = session.new_cache()
    with gpu.TURNS.using():
        wanted = [session.feed(plain, [token]).copy() for token in FULL[:6]]
    assert session.gpu is not None
    played = session.gpu._played
    first: list[npt.NDArray[np.float32]] = []

    def faulty(slot: gpu.Slot, recorded: bool) -> npt.NDArray[np.float32]:
        """Plays back what it was recorded with, as a recording does whose inputs do not reach the device; or nothing at all."""
        if recorded and fault == "refused":
            raise RuntimeError("operation not permitted when stream is capturing")
        found = played(slot, recorded=False)
        if recorded and not first:
            first.append(found.copy())
        return first[0] if recorded else found

    monkeypatch.setattr(session.gpu, "_played", faulty)
    found = [session.feed(cache, [token]).copy() for token in FULL[:6]]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(wanted))
    assert not session.gpu._records


def noted(made: Callable[..., Any], on: set[int]) -> Callable[..., Any]:
    """The same, and the thread that it was made on."""

    def make(*given: Any, **more: Any) -> Any:
        on.add(threading.get_ident())
        return made(*given, **more)

    return make


def test_all_passes_of_a_session_are_made_on_one_thread(session: GraphSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime keeps what it recorded for each thread, for ever, and every answer is made on a thread of its own."""
    assert session.gpu is not None
    on: set[int] = set()
    for name in ("_played", "_several"):
        monkeypatch.setattr(session.gpu, name, noted(getattr(session.gpu, name), on))

    def answer() -> None:
        cache = session.new_cache()
        session.feed(cache, FULL[:10])
        for token in FULL[10:14]:
            session.feed(cache, [token])

    threads = [threading.Thread(target=answer) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len(on) == 1
    assert on.isdisjoint(thread.ident for thread in threads)


def test_a_recording_waits_for_nobody_and_everybody_for_a_recording() -> None:
    turns, order = gpu.Turns(), []
    with turns.using(), turns.recording() as alone:
        assert not alone

    def use() -> None:
        with turns.using():
            order.append("used")

    with turns.recording() as alone:
        assert alone
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(0.2)
        assert order == []
        order.append("recorded")
    thread.join()
    assert order == ["recorded", "used"]


def test_a_failed_pass_lets_the_others_go_on(session: GraphSession, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = session.new_cache()
    wanted = session.feed(cache, FULL[:1]).copy()
    cache.rewind(0)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(session._table, "read", fail)
        for ids in (FULL[:1], FULL[:4]):
            with pytest.raises(ArtifactError, match="the graph cannot be run: the device is gone"):
                session.feed(cache, ids)
    assert cache.ids == []
    np.testing.assert_array_equal(session.feed(cache, FULL[:1]), wanted)
