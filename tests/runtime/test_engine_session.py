"""The graph session: any split of a sequence gives the same logits, and what does not fit is refused in one line."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fakes.blocked import block
from fakes.versions import CONTEXT, Tiny
from shammah_data.errors import ArtifactError, InputError
from shammah_runtime.engine.session import GraphSession

IDS = [int(token) for token in np.random.default_rng(5).integers(0, 300, 40)]
TOLERANCE = 2e-4  # float32 sums in another order; logits have a standard deviation of several


@pytest.fixture(scope="module")
def session(random_tiny: Tiny) -> GraphSession:
    return GraphSession(random_tiny.graph(), random_tiny.shape)


@pytest.mark.parametrize("cuts", [[1], [39], [1, 2, 3, 4], [7, 8, 20], list(range(1, 40))])
def test_chunks_give_the_logits_of_one_pass(session: GraphSession, cuts: list[int]) -> None:
    session.rewind()
    whole = session.feed(IDS, range(len(IDS)))
    session.rewind()
    pieces = [IDS[a:b] for a, b in zip([0, *cuts], [*cuts, len(IDS)], strict=True)]
    chunked = np.concatenate([session.feed(piece, range(len(piece))).copy() for piece in pieces])
    np.testing.assert_allclose(chunked, whole, atol=TOLERANCE)
    assert session.length == len(IDS)


def test_only_the_last_row_comes_unasked_and_others_on_request(session: GraphSession) -> None:
    session.rewind()
    whole = session.feed(IDS, range(len(IDS)))
    session.rewind()
    last = session.feed(IDS)
    assert last.shape == (1, session.shape.vocab)
    np.testing.assert_allclose(last[0], whole[-1], atol=TOLERANCE)
    session.rewind()
    np.testing.assert_allclose(session.feed(IDS, [30, 2]), whole[[30, 2]], atol=TOLERANCE)


def test_rewinding_forgets_exactly(session: GraphSession) -> None:
    session.rewind()
    session.feed(IDS[:10])
    first = session.feed(IDS[10:]).copy()
    session.rewind(10)
    session.feed([1, 2, 3, 4, 5])
    session.rewind(10)
    assert session.length == 10
    np.testing.assert_array_equal(session.feed(IDS[10:]), first)


@pytest.mark.parametrize("length", [-1, 41])
def test_one_cannot_rewind_to_what_was_never_fed(session: GraphSession, length: int) -> None:
    session.rewind()
    session.feed(IDS)
    with pytest.raises(ValueError, match="cannot rewind"):
        session.rewind(length)


def test_beyond_the_context_is_an_input_error_and_changes_nothing(session: GraphSession) -> None:
    session.rewind()
    session.feed([1] * CONTEXT)
    session.rewind(CONTEXT - 2)
    for too_many in ([1, 2, 3], []):
        with pytest.raises(InputError, match=rf"context of {CONTEXT}"):
            session.feed(too_many)
    assert session.length == CONTEXT - 2
    session.feed([1, 2])


def test_a_failing_pass_is_an_artifact_error_and_keeps_what_was_fed(
    session: GraphSession, capfd: pytest.CaptureFixture[str]
) -> None:
    session.rewind()
    before = session.feed(IDS[:9]).copy()
    with pytest.raises(ArtifactError, match="out of data bounds") as caught:
        session.feed([session.shape.vocab])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    session.rewind(8)
    np.testing.assert_allclose(session.feed(IDS[8:9]), before, atol=TOLERANCE)


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
