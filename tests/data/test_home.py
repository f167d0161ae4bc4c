import os
from pathlib import Path

import pytest

from shammah_data.errors import InputError
from shammah_data.home import Home


def test_the_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "chosen"))
    home = Home.find()
    assert home.root == tmp_path / "chosen"
    assert not home.root.exists()


@pytest.mark.parametrize(("written", "meant"), [("~/here", "user/here"), ("here", "work/here")])
def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("SHAMMAH_HOME", written)
    assert Home.find().root == tmp_path / meant


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_the_platform_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("SHAMMAH_HOME", raising=False)
    else:
        monkeypatch.setenv("SHAMMAH_HOME", value)
    root = Home.find().root
    assert root.name == "shammah"
    assert tmp_path in root.parents


def test_a_new_home_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    assert home.root.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set SHAMMAH_HOME"):
        Home(tmp_path / "file" / "home").create()


@pytest.mark.skipif(os.name == "nt", reason="names there are no bytes")
@pytest.mark.parametrize("name", ["~no-such-user/home", os.fsdecode(b"/tmp/no\xff-text")])
def test_a_home_that_cannot_be_named_says_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SHAMMAH_HOME", name)
    with pytest.raises(InputError, match="set SHAMMAH_HOME"):
        Home.find()


def test_everything_lies_inside(home: Home) -> None:
    paths = [home.settings, home.log, home.spool, home.models, home.bases, home.runs]
    assert len(set(paths)) == 6
    assert all(path.parent == home.root for path in paths)
