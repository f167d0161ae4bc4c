"""The graph session: any split of a sequence gives the same logits, and what does not fit is refused in one line."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.blocked import block
from fakes.kernels import need_one_path
from fakes.versions import CONTEXT, Tiny
from shammah_data.errors import ArtifactError, InputError
from shammah_data.settings import Precision
from shammah_runtime.engine import session as session_module
from shammah_runtime.engine.session import GraphSession

IDS = [int(token) for token in np.random.default_rng(5).integers(0, 300, 40)]
SESSIONS: dict[Precision, GraphSession] = {}


@pytest.fixture(scope="module")
def session(random_tiny: Tiny) -> GraphSession:
    return GraphSession(random_tiny.graph(), random_tiny.shape)


def fed(session: GraphSession, ids: list[int], cuts: list[int]) -> npt.NDArray[np.float32]:
    """The logits of every token, fed in the passes that end at the cuts."""
    cache = session.new_cache()
    edges = [0, *sorted(set(cuts)), len(ids)]
    pieces = [ids[start:end] for start, end in itertools.pairwise(edges)]
    found = [session.feed(cache, piece, range(len(piece))).copy() for piece in pieces]
    assert cache.ids == ids
    return np.concatenate(found)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(IDS) - 1), max_size=len(IDS)))
def test_any_division_into_passes_gives_the_same_logits_to_the_last_bit(
    random_tiny: Tiny, precision: Precision, cuts: list[int]
) -> None:
    need_one_path(precision)
    if precision not in SESSIONS:
        SESSIONS[precision] = GraphSession(random_tiny.graph(precision), random_tiny.shape)
    single = fed(SESSIONS[precision], IDS, list(range(1, len(IDS))))
    np.testing.assert_array_equal(fed(SESSIONS[precision], IDS, cuts), single)


def test_more_tokens_and_rows_than_one_pass_takes(session: GraphSession, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fed(session, IDS, [])
    monkeypatch.setattr(session_module, "PASS_TOKENS", 16)
    monkeypatch.setattr(session_module, "PASS_ROWS", 5)
    np.testing.assert_array_equal(fed(session, IDS, []), whole)
    np.testing.assert_array_equal(session.feed(session.new_cache(), IDS), whole[-1:])
    np.testing.assert_array_equal(session.feed(session.new_cache(), IDS, [3, 20, 21]), whole[[3, 20, 21]])


def test_a_copied_or_restored_cache_goes_on_like_the_one_it_came_from(session: GraphSession) -> None:
    whole = fed(session, IDS, [])
    first = session.new_cache()
    session.feed(first, IDS[:20])
    state = first.state()
    copied, restored = session.new_cache(), session.new_cache()
    copied.copy_from(first, 15)
    restored.restore(IDS[:20], state)
    first.rewind()
    session.feed(first, IDS[::-1])
    assert copied.ids == IDS[:15]
    np.testing.assert_array_equal(session.feed(copied, IDS[15:]), whole[-1:])
    np.testing.assert_array_equal(session.feed(restored, IDS[20:]), whole[-1:])


def test_an_interrupted_pass_fails_and_the_session_goes_on(session: GraphSession) -> None:
    cache = session.new_cache()
    before = session.feed(cache, IDS[:9]).copy()
    session.interrupt()
    with pytest.raises(InterruptedError):
        session.feed(cache, IDS[9:])
    assert cache.length == 9
    cache.rewind(8)
    np.testing.assert_array_equal(session.feed(cache, IDS[8:9]), before)


def test_only_the_last_row_comes_unasked_and_others_on_request(session: GraphSession) -> None:
    cache = session.new_cache()
    whole = session.feed(cache, IDS, range(len(IDS)))
    cache.rewind()
    last = session.feed(cache, IDS)
    assert last.shape == (1, session.shape.vocab)
    np.testing.assert_array_equal(last[0], whole[-1])
    cache.rewind()
    np.testing.assert_array_equal(session.feed(cache, IDS, [2, 30]), whole[[2, 30]])


def test_rewinding_forgets_exactly(session: GraphSession) -> None:
    cache = session.new_cache()
    session.feed(cache, IDS[:10])
    first = session.feed(cache, IDS[10:]).copy()
    cache.rewind(10)
    session.feed(cache, [1, 2, 3, 4, 5])
    cache.rewind(10)
    assert cache.length == 10
    np.testing.assert_array_equal(session.feed(cache, IDS[10:]), first)


@pytest.mark.parametrize("length", [-1, 41])
def test_one_cannot_rewind_to_what_was_never_fed(session: GraphSession, length: int) -> None:
    cache = session.new_cache()
    session.feed(cache, IDS)
    with pytest.raises(ValueError, match="cannot rewind"):
        cache.rewind(length)


def test_beyond_the_context_is_an_input_error_and_changes_nothing(session: GraphSession) -> None:
    cache = session.new_cache()
    session.feed(cache, [1] * CONTEXT)
    cache.rewind(CONTEXT - 2)
    for too_many in ([1, 2, 3], []):
        with pytest.raises(InputError, match=rf"context of {CONTEXT}"):
            session.feed(cache, too_many)
    assert cache.length == CONTEXT - 2
    session.feed(cache, [1, 2])


def test_a_failing_pass_is_an_artifact_error_and_keeps_what_was_fed(
    session: GraphSession, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = session.new_cache()
    before = session.feed(cache, IDS[:9]).copy()
    with pytest.raises(ArtifactError, match="outside the vocabulary") as caught:
        session.feed(cache, [session.shape.vocab])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    cache.rewind(8)
    np.testing.assert_array_equal(session.feed(cache, IDS[8:9]), before)


@pytest.mark.parametrize(
    "wrong", [{"layers": 1}, {"layers": 3}, {"kv_heads": 1}, {"head_dim": 32}, {"vocab": 383}, {"vocab": 400}], ids=str
)
def test_a_manifest_that_describes_another_graph_is_refused(tiny: Tiny, wrong: dict[str, int]) -> None:
    with pytest.raises(ArtifactError, match="manifest"):
        GraphSession(tiny.graph(), dataclasses.replace(tiny.shape, **wrong))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a" * 100])
def test_what_is_no_graph_is_refused_in_one_line(
    tiny: Tiny, tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx: ONNX Runtime refuses it: \S") as caught:
        GraphSession(path, tiny.shape)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_graph_without_its_weights_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny.graph().read_bytes())
    with pytest.raises(ArtifactError, match="refuses it"):
        GraphSession(path, tiny.shape)


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from shammah_data.errors import ArtifactError\n"
        "from shammah_data.manifest import CacheShape\n"
        "from shammah_runtime.engine.session import GraphSession\n"
        "try:\n"
        "    GraphSession(Path('model.onnx'), CacheShape(1, 1, 1, 1, 1))\n"
        "except ArtifactError as error:\n"
        "    print(error)\n"
    )
    blocked = block(tmp_path / "site", {"onnxruntime"}, "ModuleNotFoundError")
    environment = {**os.environ, "PYTHONPATH": str(blocked)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "ONNX Runtime is not installed: pip install 'shammah[cpu]' (or 'shammah[cuda]' on a machine with a CUDA GPU)"
    ]
