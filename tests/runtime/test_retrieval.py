"""The vectors of a version that serves: what is near to a query, and how relevant the answers are to it."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.memories import Told, make_embedder
from shammah_data.learned import FOLDER, Learned
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.engine.model import Memory
from shammah_runtime.learned import Known, LearnedIndex
from shammah_runtime.retrieval import Retrieval
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.weighing import weigh

ROWS = (
    ("00000000-0000-0000-0000-00000000000a", "how do i reset my password", "Open the account page and press Reset."),
    ("00000000-0000-0000-0000-00000000000b", "i forgot what to type in", "Open the account page and press Reset."),
    ("00000000-0000-0000-0000-00000000000c", "where do we store the old files", "In the cellar of the north house."),
)
ASKED = "what do i reset my password"
# Kept in eight bits, a cosine is off by a few thousandths.
CLOSE = 0.02


@pytest.fixture(scope="module")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("told"))


@pytest.fixture
def brought(embedder_folder: Path, tmp_path: Path) -> Callable[..., Memory]:
    """What a version brings along."""

    def load(older: bool = False) -> Memory:
        told = Told(embedder_folder, ROWS, older=older)
        staging = tmp_path / str(older)
        staging.mkdir()
        told.put("int8/model.onnx")(staging)
        learned = Learned.load(staging / FOLDER, told.retrieval)
        return Memory(Embedder(embedder_folder, threads=1), learned, told.retrieval.embedder)

    return load


@pytest.fixture
def wanted(embedder_folder: Path) -> Callable[[str, str], float]:
    """By the embedder itself: how much nearer ASKED is to an answer than the query that got it."""
    embed = Embedder(embedder_folder, threads=1).embed

    def told(query: str, answer: str) -> float:
        asked_H, query_H, answer_H = embed([ASKED, query, answer])
        return float(np.dot(asked_H - query_H, answer_H))

    return told


def relevances(retrieval: Retrieval, memory: Memory) -> dict[str, float]:
    return {one.id: one.relevance for one in retrieval.neighbours(memory, ASKED)}


def test_relevance_is_how_much_nearer_a_query_is_to_an_answer(
    brought: Callable[..., Memory], wanted: Callable[[str, str], float]
) -> None:
    found = relevances(Retrieval(LearnedIndex()), brought())
    assert found == {one: pytest.approx(wanted(query, answer), abs=CLOSE) for one, query, answer in ROWS}
    assert max(found.values()) - min(found.values()) > 5 * CLOSE


def test_what_is_learned_meanwhile_has_one_too(brought: Callable[..., Memory], wanted: Callable[[str, str], float]) -> None:
    index, memory = LearnedIndex(), brought()
    retrieval = Retrieval(index)
    retrieval.attach(memory)
    new = Known("00000000-0000-0000-0000-00000000000d", "the password is gone", "Ask Ann at the front desk.")
    index.add(new)
    assert relevances(retrieval, memory)[new.id] == pytest.approx(wanted(new.query, new.answer), abs=CLOSE)
    corrected = Known(new.id, new.query, "In the cellar of the north house.")
    index.add(corrected)
    assert relevances(retrieval, memory)[new.id] == pytest.approx(wanted(new.query, corrected.answer), abs=CLOSE)
    index.remove(new.id)
    assert set(relevances(retrieval, memory)) == {one for one, _, _ in ROWS}


def test_a_version_without_vectors_of_answers_tells_none(brought: Callable[..., Memory]) -> None:
    index, memory = LearnedIndex(), brought(older=True)
    retrieval = Retrieval(index)
    index.add(Known("00000000-0000-0000-0000-00000000000d", "the password is gone", "Ask Ann at the front desk."))
    assert set(relevances(retrieval, memory).values()) == {0.0}


def test_the_next_version_brings_its_own(brought: Callable[..., Memory], wanted: Callable[[str, str], float]) -> None:
    """Both have the same embedder, so that the vectors of the queries stay."""
    retrieval, older, newer = Retrieval(LearnedIndex()), brought(older=True), brought()
    assert set(relevances(retrieval, older).values()) == {0.0}
    assert relevances(retrieval, newer) == {one: pytest.approx(wanted(query, answer), abs=CLOSE) for one, query, answer in ROWS}
    assert set(relevances(retrieval, older).values()) == {0.0}


@pytest.fixture
def two(tmp_path: Path) -> list[Memory]:
    """What two versions bring along, the second with an embedder that weighs words otherwise."""
    plain, weighed = make_embedder(tmp_path, words=("password", "reset", "files")), tmp_path / "weighed"
    weighed.mkdir()
    weigh(plain, ["my password"], weighed)
    memories = []
    for folder in (plain, weighed):
        told, staging = Told(folder, ROWS), tmp_path / f"version of {folder.name}"
        staging.mkdir()
        told.put("int8/model.onnx")(staging)
        learned = Learned.load(staging / FOLDER, told.retrieval)
        memories.append(Memory(Embedder(folder, threads=1), learned, told.retrieval.embedder))
    return memories


def test_a_version_with_an_embedder_of_its_own_is_asked_by_that(two: list[Memory]) -> None:
    """Every night weighs words anew: vectors of two versions are never compared, nor those of what was learned meanwhile."""
    index, (older, newer) = LearnedIndex(), two
    retrieval = Retrieval(index)
    new = Known("00000000-0000-0000-0000-00000000000d", "reset it", "Ask Ann at the front desk.")
    index.add(new)
    found = []
    for memory in (older, newer, older):
        asked_H, *known_NH = memory.embedder.embed([ASKED, *(query for _, query, _ in ROWS), new.query])
        found.append({one.id: one.similarity for one in retrieval.neighbours(memory, ASKED)})
        wanted = zip((*(identity for identity, _, _ in ROWS), new.id), known_NH, strict=True)
        assert found[-1] == {one: pytest.approx(float(asked_H @ vector_H), abs=CLOSE) for one, vector_H in wanted}
    assert found[1][new.id] > found[0][new.id] + 5 * CLOSE


def test_two_versions_that_take_turns_embed_nothing_twice(two: list[Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    index = LearnedIndex()
    retrieval = Retrieval(index)
    read: list[str] = []
    embed = Embedder.embed

    def counted(embedder: Embedder, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Any:
        read.extend(texts)
        return embed(embedder, texts, progress)

    monkeypatch.setattr(Embedder, "embed", counted)
    index.add(Known("00000000-0000-0000-0000-00000000000d", "reset it", "Ask Ann at the front desk."))
    for memory in two:
        retrieval.neighbours(memory, ASKED)
    assert sorted(read) == sorted(2 * [ASKED, "reset it", "Ask Ann at the front desk."])
    for memory in (*two, *two):
        retrieval.neighbours(memory, ASKED)
    assert read[6:] == 4 * [ASKED]
    # What is learned or forgotten meanwhile is so for both.
    index.remove("00000000-0000-0000-0000-00000000000d")
    index.add(Known("00000000-0000-0000-0000-00000000000e", "the files", "In the cellar."))
    for memory in two:
        assert {one.id[-1] for one in retrieval.neighbours(memory, ASKED)} == {"a", "b", "c", "e"}


def test_of_a_version_that_is_gone_no_vectors_are_kept(two: list[Memory]) -> None:
    retrieval = Retrieval(LearnedIndex())
    for memory in two:
        retrieval.neighbours(memory, ASKED)
    assert list(retrieval._spaces) == [memory.digest for memory in two]
    del two[0]
    gc.collect()
    retrieval.neighbours(two[0], ASKED)
    assert list(retrieval._spaces) == [two[0].digest]


def test_a_corrected_answer_is_not_the_one_that_was_brought(
    brought: Callable[..., Memory], wanted: Callable[[str, str], float]
) -> None:
    index, memory = LearnedIndex(), brought()
    identity, query, _ = ROWS[0]
    index.add(Known(identity, query, "Call 555 and ask for Ann."))
    found = relevances(Retrieval(index), memory)
    assert found[identity] == pytest.approx(wanted(query, "Call 555 and ask for Ann."), abs=CLOSE)
    assert found[ROWS[1][0]] == pytest.approx(wanted(*ROWS[1][1:]), abs=CLOSE)


def test_the_trainer_sees_what_the_runtime_sees(brought: Callable[..., Memory], embedder_folder: Path) -> None:
    known = tuple(Example(one, query, answer, group=n) for n, (one, query, answer) in enumerate(ROWS))
    earlier = Earlier(Dataset(known, (), (), len(known)), embedder_folder)
    earlier.look_up([Example("asked", ASKED, "")])
    told = {one.id: one.relevance for one in earlier.neighbours(ASKED)}
    found = relevances(Retrieval(LearnedIndex()), brought())
    assert found == {one: pytest.approx(value, abs=CLOSE) for one, value in told.items()}
