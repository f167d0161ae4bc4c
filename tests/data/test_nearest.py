import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shammah_data import nearest
from shammah_data.nearest import Floats, Nearest


def unit(rng: np.random.Generator, rows: int, dimensions: int) -> Floats:
    vectors: Floats = rng.standard_normal((rows, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few vectors are many that the signs choose."""
    monkeypatch.setattr(nearest, "SCANNED", 32)


def test_the_nearest_come_first_with_their_cosines() -> None:
    vectors = unit(np.random.default_rng(0), 40, 96)
    found = Nearest(96)
    found.add([str(n) for n in range(40)], vectors)
    cosines = vectors @ vectors[7]
    listed = found.nearest(vectors[7], 5)
    assert [one for one, _ in listed] == [str(n) for n in np.argsort(-cosines)[:5]]
    assert [cosine for _, cosine in listed] == pytest.approx(sorted(cosines, reverse=True)[:5], abs=0.01)
    assert listed[0][1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.usefixtures("many")
def test_among_many_the_same_vector_is_always_found() -> None:
    vectors = unit(np.random.default_rng(1), 500, 100)
    found = Nearest(100)
    found.add([str(n) for n in range(500)], vectors)
    for n in range(0, 500, 7):
        assert found.nearest(vectors[n], 1)[0][0] == str(n)


@pytest.mark.usefixtures("many")
def test_among_many_a_near_vector_is_found() -> None:
    rng = np.random.default_rng(2)
    vectors = unit(rng, 500, 384)
    found = Nearest(384)
    found.add([str(n) for n in range(500)], vectors)
    asked = vectors + 0.05 * rng.standard_normal(vectors.shape).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    assert [found.nearest(vector, 1)[0][0] for vector in asked] == [str(n) for n in range(500)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40))
def test_it_holds_what_was_added_and_not_removed(steps: list[tuple[bool, int]]) -> None:
    vectors = unit(np.random.default_rng(3), 10, 64)
    found, there = Nearest(64), set()
    for added, n in steps:
        if added:
            found.add([str(n)], vectors[n : n + 1])
            there.add(n)
        else:
            found.remove(str(n))
            there.discard(n)
    assert len(found) == len(there)
    for n in range(10):
        assert (str(n) in found) == (n in there)
        listed = found.nearest(vectors[n], 10)
        assert {one for one, _ in listed} == {str(one) for one in there}
        if n in there:
            assert listed[0][0] == str(n)


def test_it_grows() -> None:
    vectors = unit(np.random.default_rng(4), 1000, 32)
    found = Nearest(32)
    for start in range(0, 1000, 100):
        found.add([str(n) for n in range(start, start + 100)], vectors[start : start + 100])
    assert found.nearest(vectors[999], 1)[0][0] == "999"
    assert found.bytes < 2 * 1000 * (32 + 8 + 4)


def test_nothing_is_near_where_nothing_is() -> None:
    assert Nearest(8).nearest(np.ones(8, np.float32), 3) == []
