"""The weights of a Hugging Face model folder, read one tensor at a time. Knows files, not architectures."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ExportError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "BF16", "F16")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ExportError when the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing; give a model folder with config.json and safetensors files") from error
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} does not hold a JSON object")
    return content


class Checkpoint(Mapping[str, npt.NDArray[np.float32]]):
    """Name to float32 array over one safetensors file or an index of several; each access reads from the disk.

    Stored bfloat16 and float16 are widened; names in `skipped` are left out. Raises ExportError for missing or damaged
    files and other types.
    """

    def __init__(self, folder: Path, skipped: Collection[str] = ()) -> None:
        self._paths: dict[str, Path] = {}
        if (folder / INDEX).exists():
            named = read_json(folder / INDEX).get("weight_map")
            if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
                raise ExportError(f"{folder / INDEX} has no weight_map from tensor names to file names")
            files = sorted({Path(file).name for file in named.values()})
        else:
            files = [SINGLE]
        for file in files:
            with self._open(folder / file) as opened:
                for name in opened.keys():  # noqa: SIM118 (a safetensors handle cannot be iterated)
                    if name in skipped:
                        continue
                    dtype = opened.get_slice(name).get_dtype()
                    if dtype not in DTYPES:
                        raise ExportError(f"{folder / file}: {name} is of type {dtype}; only {', '.join(DTYPES)} are read")
                    self._paths[name] = folder / file

    @staticmethod
    def _open(path: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            # numpy has no bfloat16, so torch reads and widens.
            return safe_open(path, framework="pt")
        except FileNotFoundError as error:
            raise ExportError(f"{path} is missing; give a model folder with config.json and safetensors files") from error
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        with self._open(self._paths[name]) as opened:
            array: npt.NDArray[np.float32] = opened.get_tensor(name).float().numpy()
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
