"""The card of an embedder: what it says is checked, and every mistake says what to do."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shammah_data.embedder import EmbedderCard, describe_files, digest_of
from shammah_data.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An embedder's folder whose graph and tokenizer are a few bytes."""
    (tmp_path / "embedder.onnx").write_bytes(b"graph")
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    files = describe_files(tmp_path)
    card = EmbedderCard("tiny", 8, 16, "mean", "int8", digest_of(files), "0" * 64, files, {"mean_cosine": 0.5})
    (tmp_path / "embedder.json").write_bytes(card.dump())
    return tmp_path


def test_a_card_is_read_back(folder: Path) -> None:
    card = EmbedderCard.verify(folder)
    assert (card.name, card.dimensions, card.max_tokens, card.parity) == ("tiny", 8, 16, {"mean_cosine": 0.5})
    assert card == EmbedderCard.load(folder)


def test_the_digest_depends_on_every_file(folder: Path) -> None:
    files = describe_files(folder)
    assert digest_of(reversed(files)) == digest_of(files)
    assert digest_of([files[0], replace(files[1], sha256="1" * 64)]) != digest_of(files)


def test_a_missing_embedder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no embedder: run `shammah-train embedder`"):
        EmbedderCard.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dimensions": 0}, "positive"),
        ({"dimensions": "8"}, "expected int"),
        ({"pooling": "cls"}, "'cls' is not one of mean"),
        ({"digest": "0" * 64}, "the digest is not that of the files"),
        ({"format": 0}, "format 0, expected 1"),
        ({"color": "red"}, "unknown key color"),
        ({"files": []}, "the files must be"),
        (
            {"files": [{"path": "../x", "bytes": 1, "sha256": ""}, {"path": "tokenizer.json", "bytes": 1, "sha256": ""}]},
            "must be",
        ),
    ],
    ids=str,
)
def test_a_wrong_card_says_what_to_do(change: dict[str, Any], said: str, folder: Path) -> None:
    path = folder / "embedder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=said) as caught:
        EmbedderCard.load(folder)
    assert str(caught.value).endswith("run `shammah-train embedder`")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"null"], ids=repr)
def test_a_card_that_is_no_card(content: bytes, folder: Path) -> None:
    (folder / "embedder.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="run `shammah-train embedder`"):
        EmbedderCard.load(folder)


def test_a_newer_card_asks_for_an_upgrade(folder: Path) -> None:
    path = folder / "embedder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2, "new": 1}))
    with pytest.raises(ArtifactError, match="format 2 is newer than 1"):
        EmbedderCard.load(folder)


def _changed(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _gone(path: Path) -> None:
    path.unlink()


def _linked(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


@pytest.mark.parametrize("damage", [_changed, _cut, _gone, _linked])
@pytest.mark.parametrize("name", ["embedder.onnx", "tokenizer.json"])
def test_damage_is_found_and_named(damage: Callable[[Path], None], name: str, folder: Path) -> None:
    damage(folder / name)
    with pytest.raises(ArtifactError, match=f"{name}: .*: run `shammah-train embedder`"):
        EmbedderCard.verify(folder)
