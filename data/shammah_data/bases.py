"""What a base model may be made of, and the folder that it is made into. Knows names and files, not what is in a model."""

import hashlib
from pathlib import Path

from shammah_data.errors import InputError
from shammah_data.settings import TrainSettings

DEFAULT = TrainSettings().base
BASE_INFO = "base.json"
# Behind the name of the setting, what is wrong with it.
CURE = "set it to a folder in bases/, a model folder, a GGUF file or a hub name"


def name_of(source: str | None) -> str:
    """The name of the folder in `bases/`; None is the default. Raises InputError."""
    if source is None or source == DEFAULT:
        return DEFAULT
    path = Path(source)
    stem = path.stem if path.suffix == ".gguf" else path.resolve().name if path.is_dir() else source
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in stem).strip(".-").lower()
    if not kept:
        raise InputError(f"{source!r}: cannot make a folder name of it")
    # Two files of the same name in different places are two bases.
    where = f"-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}" if path.exists() else ""
    return f"{kept}{where}"


def locate(source: str) -> Path | str:
    """The GGUF file or the model folder; as it is, what can be a hub name. Raises InputError for what can be neither."""
    path = Path(source)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"{source}: neither a GGUF file nor a model folder")
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise InputError(f"{source}: does not begin like a GGUF file")
        return path
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{source}: holds no config.json; a model folder needs it")
        return path
    if path.suffix == ".gguf" or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise InputError(f"{source}: no such file or folder (a hub name is written owner/name)")
    return source


def unusable(source: str, bases: Path) -> str | None:
    """Why no night can begin with this base, as far as names and files tell; None where one can."""
    try:
        if source != DEFAULT and not (bases / name_of(source) / BASE_INFO).exists():
            locate(source)
    except InputError as error:
        return bare(error, source)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def bare(error: Exception, source: str) -> str:
    """What an error says, without the source that it begins with: where that is named already."""
    return str(error).removeprefix(f"{source}: ").removeprefix(f"{source!r}: ")
