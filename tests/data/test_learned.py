"""The files of a version's learned index."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from shammah_data.errors import ArtifactError
from shammah_data.learned import ANSWERS, INDEX, VECTORS, Learned, LearnedAnswer, LearnedExchange
from shammah_data.manifest import Retrieval

WANTED = Retrieval("retrieval", 2, 3, "digest")
LEARNED = Learned(
    (LearnedAnswer("Nine — 九.", {"int8/model.onnx": -2.5}, 3, 1), LearnedAnswer("Ten.", {})),
    (LearnedExchange("a", "When?", 1), LearnedExchange("b", "Wann?\ud800", 0)),
    np.array([[1, 0, 0], [0, 0.5, 0.25]], np.float16),
    np.array([[0, 1, 0], [0.5, 0, 0.25]], np.float16),
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    LEARNED.save(tmp_path)
    found = Learned.load(tmp_path, WANTED)
    assert found.answers == LEARNED.answers
    assert [one.query for one in found.exchanges] == ["When?", "Wann??"]
    assert [one.answer for one in found.exchanges] == [1, 0]
    assert np.array_equal(found.vectors, LEARNED.vectors)
    assert found.answer_vectors is not None
    assert LEARNED.answer_vectors is not None
    assert np.array_equal(found.answer_vectors, LEARNED.answer_vectors)


def test_an_older_version_has_no_vectors_of_answers(tmp_path: Path) -> None:
    dataclasses.replace(LEARNED, answer_vectors=None).save(tmp_path)
    assert not (tmp_path / ANSWERS).exists()
    assert Learned.load(tmp_path, WANTED).answer_vectors is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (INDEX, b"{"),
        (INDEX, b"[]"),
        (INDEX, b'{"answers": [], "exchanges": []}'),
        (INDEX, b'{"answers": [["a", {}, 1, true]], "exchanges": []}'),
        (INDEX, b'{"answers": [], "exchanges": [["a", "", 0], ["b", "", 0]]}'),
        (INDEX, b'{"answers": [["a", {}, 1, 0]], "exchanges": [["a", "", 0], ["b", 7, 0]]}'),
        (
            INDEX,
            b'{"answers": [["a", {}, 1, 0]], "exchanges": [["a", ""], ["b", "", 0]]}',
        ),
        (VECTORS, b"\0" * 10),
        (ANSWERS, b"\0" * 10),
    ],
)
def test_what_is_damaged_is_told_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    LEARNED.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"learned\.json: [^\n]*\Z"):
        Learned.load(tmp_path, WANTED)


def test_another_number_of_exchanges_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    LEARNED.save(tmp_path)
    with pytest.raises(ArtifactError, match="are not what the manifest says"):
        Learned.load(tmp_path, dataclasses.replace(WANTED, rows=3))
