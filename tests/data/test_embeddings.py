"""The cache of vectors: what was put in comes out, what the log lost goes, and no damage is worse than an empty cache."""

import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from shammah_data import embeddings
from shammah_data.embeddings import EmbeddingCache, forget, similarities
from shammah_data.errors import LogError
from shammah_data.home import Home

H = 24
Floats = npt.NDArray[np.float32]
IDS = [str(uuid.UUID(int=number + 1)) for number in range(6)]
HEADER, RECORD = 128, 16 + 2 * H


def some(count: int, seed: int = 0) -> Floats:
    """Random vectors of length one."""
    vectors = np.random.default_rng(seed).normal(size=(count, H)).astype(np.float32)
    made: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


@pytest.fixture
def cache(home: Home) -> EmbeddingCache:
    return EmbeddingCache(home, "a" * 64, H)


@pytest.fixture
def filled(cache: EmbeddingCache) -> EmbeddingCache:
    """Six vectors."""
    cache.add(IDS, some(6))
    return cache


@pytest.fixture
def path(home: Home) -> Path:
    return home.cache / "embeddings.bin"


def test_what_was_added_is_kept(cache: EmbeddingCache) -> None:
    assert cache.keep(IDS).ids == []
    vectors = some(6)
    cache.add(IDS[:2], vectors[:2])
    cache.add(IDS[2:], vectors[2:])
    kept = cache.keep(IDS)
    assert kept.ids == IDS
    assert np.abs(kept.vectors.astype(np.float32) - vectors).max() < 1e-3


def test_what_the_log_lost_is_gone_from_the_disk(filled: EmbeddingCache, path: Path) -> None:
    lost = uuid.UUID(IDS[1]).bytes
    assert lost in path.read_bytes()
    assert filled.keep([IDS[0], IDS[3]]).ids == [IDS[0], IDS[3]]
    assert lost not in path.read_bytes()
    assert path.stat().st_size == HEADER + 2 * RECORD
    assert filled.keep([]).ids == []
    assert path.stat().st_size == HEADER


def test_nothing_is_written_when_nothing_goes(filled: EmbeddingCache, path: Path) -> None:
    before = path.stat()
    filled.keep([*IDS, str(uuid.UUID(int=99))])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_it_does_not_grow_without_bound(filled: EmbeddingCache, path: Path) -> None:
    for seed in range(5):
        filled.add(IDS, some(6, seed))
    kept = filled.keep(IDS)
    assert kept.ids == IDS
    assert np.abs(kept.vectors.astype(np.float32) - some(6, 4)).max() < 1e-3
    assert path.stat().st_size == HEADER + 6 * RECORD


@pytest.mark.parametrize(("digest", "dimensions"), [("b" * 64, H), ("a" * 64, H + 1)])
def test_vectors_of_another_embedder_do_not_count(
    filled: EmbeddingCache, home: Home, digest: str, dimensions: int, path: Path
) -> None:
    other = EmbeddingCache(home, digest, dimensions)
    assert other.keep(IDS).ids == []
    assert path.stat().st_size == HEADER


def test_adding_for_another_embedder_begins_anew(filled: EmbeddingCache, home: Home, path: Path) -> None:
    other = EmbeddingCache(home, "b" * 64, H)
    other.add(IDS[:1], some(1))
    assert other.keep(IDS).ids == IDS[:1]
    assert path.stat().st_size == HEADER + RECORD


def test_the_owner_alone_can_read_it(filled: EmbeddingCache, path: Path) -> None:
    filled.keep(IDS[:3])
    filled.add(IDS[3:], some(3))
    assert {found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


# -- forgetting -------------------------------------------------------------------------------------------------------


def test_forgotten_vectors_are_gone_at_once(filled: EmbeddingCache, home: Home, path: Path) -> None:
    assert forget(home, [IDS[2], IDS[5], str(uuid.UUID(int=99))]) == 2
    assert path.stat().st_size == HEADER + 4 * RECORD
    assert not any(uuid.UUID(identity).bytes in path.read_bytes() for identity in (IDS[2], IDS[5]))
    assert filled.keep(IDS).ids == [IDS[0], IDS[1], IDS[3], IDS[4]]


def test_every_vector_of_an_exchange_is_forgotten_with_a_torn_one(filled: EmbeddingCache, home: Home, path: Path) -> None:
    filled.add(IDS[:1], some(1))
    path.write_bytes(path.read_bytes() + uuid.UUID(IDS[0]).bytes + b"torn")
    assert forget(home, IDS[:1]) == 2
    assert uuid.UUID(IDS[0]).bytes not in path.read_bytes()
    assert filled.keep(IDS).ids == IDS[1:]


def test_without_a_cache_there_is_nothing_to_forget(home: Home) -> None:
    assert forget(home, IDS) == 0
    assert not home.cache.exists()


@pytest.mark.parametrize(
    "header", [b"", b"none", b"x y 3\n", b"shammah-embeddings-1 a -3\n", b"shammah-embeddings-1 a 99999999999\n"], ids=repr
)
def test_what_cannot_be_understood_is_deleted_rather_than_kept(
    header: bytes, filled: EmbeddingCache, home: Home, path: Path
) -> None:
    path.write_bytes(header.ljust(len(header) and HEADER) + uuid.UUID(IDS[0]).bytes)
    assert forget(home, IDS[:1]) == 0
    assert not path.exists()


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_before_more_is_added(filled: EmbeddingCache, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -RECORD // 2])
    filled.add(IDS[5:], some(6)[5:])
    kept = filled.keep(IDS)
    assert kept.ids == IDS
    assert np.abs(kept.vectors.astype(np.float32) - some(6)).max() < 1e-3


def test_a_vector_that_is_none_is_made_again(filled: EmbeddingCache, path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = HEADER + RECORD + 16
    content[at : at + 2 * H] = bytes(2 * H)
    content[at + RECORD : at + RECORD + 2 * H] = np.full(H, np.nan, "<f2").tobytes()
    content[at + 2 * RECORD : at + 2 * RECORD + 2 * H] = np.full(H, 6e4, "<f2").tobytes()
    path.write_bytes(content)
    assert filled.keep(IDS).ids == [IDS[0], IDS[4], IDS[5]]
    assert path.stat().st_size == HEADER + 3 * RECORD


@settings(max_examples=60)
@given(at=st.integers(0, HEADER + 6 * RECORD - 1), what=st.binary(max_size=200), cut=st.booleans())
def test_no_damage_is_an_error(at: int, what: bytes, cut: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    cache = EmbeddingCache(home, "a" * 64, H)
    cache.add(IDS, some(6))
    path = home.cache / "embeddings.bin"
    content = path.read_bytes()
    path.write_bytes(content[:at] + what + (b"" if cut else content[at + len(what) :]))
    kept = cache.keep(IDS)
    assert set(kept.ids) <= set(IDS)
    missing = [identity for identity in IDS if identity not in kept.ids]
    cache.add(missing, some(len(missing)))
    assert sorted(cache.keep(IDS).ids) == IDS


def test_another_process_that_holds_it_is_told(filled: EmbeddingCache, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_LOCK_SECONDS", 0.0)
    with FileLock(home.cache / ".embeddings.bin.lock"):
        for action in (lambda: filled.keep(IDS), lambda: filled.add(IDS, some(6)), lambda: forget(home, IDS)):
            with pytest.raises(LogError, match="in use by another process"):
                action()


def test_a_cache_that_cannot_be_written_says_what_it_is(cache: EmbeddingCache, home: Home) -> None:
    home.cache.write_bytes(b"")
    with pytest.raises(LogError, match="the vectors of questions cannot be kept: File exists"):
        cache.keep(IDS)


def test_a_cache_that_cannot_be_read_is_one_line(cache: EmbeddingCache, path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(LogError, match="Is a directory"):
        cache.keep(IDS)


# -- similarity -------------------------------------------------------------------------------------------------------


def test_similarities_are_cosines(filled: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = some(6)
    found = similarities(filled.keep(IDS), vectors[3])
    assert found == pytest.approx(vectors @ vectors[3], abs=2e-3)
    assert found[3] == pytest.approx(1.0, abs=2e-3)


def test_many_vectors_are_taken_in_parts(cache: EmbeddingCache) -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(20_000)]
    vectors = some(20_000)
    cache.add(ids, vectors)
    found = similarities(cache.keep(ids), vectors[0])
    assert found == pytest.approx(vectors @ vectors[0], abs=2e-3)
