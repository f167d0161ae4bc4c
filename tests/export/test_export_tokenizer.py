"""A tokenizer written so that it is parsed sooner is the same one."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from shammah_data.errors import ExportError
from shammah_export.tokenizer import write_tokenizer

WORDS = {"Ġ": 0, "a": 1, "b": 2, "Ġa": 3, "Ġab": 4, "é": 5, "<end>": 6}
MERGES = [("Ġ", "a"), ("Ġa", "b")]


def pretty(folder: Path, words: dict[str, int], merges: list[tuple[str, str]]) -> Path:
    """A byte-level tokenizer as tokenizers writes it by itself."""
    tokenizer = Tokenizer(models.BPE(words, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    path = folder / "pretty.json"
    tokenizer.save(str(path))
    return path


def test_the_same_tokenizer_in_fewer_bytes(tmp_path: Path) -> None:
    source, target = pretty(tmp_path, WORDS, MERGES), tmp_path / "tokenizer.json"
    write_tokenizer(source, target)
    before, after = (Tokenizer.from_file(str(path)) for path in (source, target))
    assert after.to_str() == before.to_str()
    assert after.encode(" ab<end>a").tokens == ["Ġab", "<end>", "a"]
    assert json.loads(target.read_text(encoding="utf-8"))["model"]["merges"] == ["Ġ a", "Ġa b"]
    assert target.stat().st_size < source.stat().st_size / 1.5


def test_a_token_with_a_blank_in_it_stays_whole(tmp_path: Path) -> None:
    """One text would not tell where the first of two such tokens ends."""
    merges = [("a b", "c"), ("a", "b")]
    source = pretty(tmp_path, {"a": 0, "b": 1, "c": 2, "a b": 3, "a bc": 4, "ab": 5, "<end>": 6}, merges)
    target = tmp_path / "tokenizer.json"
    write_tokenizer(source, target)
    assert [tuple(pair) for pair in json.loads(target.read_text(encoding="utf-8"))["model"]["merges"]] == merges
    assert Tokenizer.from_file(str(target)).to_str() == Tokenizer.from_file(str(source)).to_str()


def test_a_tokenizer_without_merges(tmp_path: Path) -> None:
    source, target = tmp_path / "words.json", tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(source))
    write_tokenizer(source, target)
    assert Tokenizer.from_file(str(target)).encode("a").ids == [0]
    assert "merges" not in json.loads(target.read_text(encoding="utf-8"))["model"]


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"model": {"merges": [1]}}', encoding="utf-8")
    with pytest.raises(ExportError, match=r"broken\.json: not a tokenizer"):
        write_tokenizer(tmp_path / "broken.json", tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()
