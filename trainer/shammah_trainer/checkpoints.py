"""The state of a training on disk, so that a killed one goes on where it was. Knows files and time, not what a state means.

A checkpoint lies in the folder of its run: state.pt, and the weights that were best so far. Each is complete or absent. The
float32 weights and both moments of AdamW are kept as they are: rounded to bfloat16, a training would not come to the same end.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shammah_data.durable import PRIVATE_FILE, fsync_folder, private_folder

FOLDER = "checkpoint"
_STATE = "state.pt"
# Of the time of a training, so much may go into checkpoints.
_SHARE = 0.04
# Until the first write has been timed; a slow disk.
_BYTES_PER_SECOND = 200e6


class Checkpoints:
    """Writes and finds the state of one training below `folder`.

    `key`: digest of all that decides the result; a state with another key is not taken up. `seconds`: the least time between
    two states; it grows until writing takes no more than `share` of the whole. `size`: the bytes of a state, as far as known.
    `manner`: plain values that are written with each state, for who takes it up. A write that fails is the last one, and what
    lies there makes room for what the run still has to write; `say` is told.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        seconds: float = 60.0,
        size: int = 0,
        share: float = _SHARE,
        manner: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._folder = folder
        self._say = say
        self._failed = False
        self._marks = {"key": key, "manner": manner or {}}
        self._seconds = seconds
        self._factor = 1 / share - 1
        self._cost = size / _BYTES_PER_SECOND
        self._clock = clock
        self._ended = clock()

    @property
    def due(self) -> bool:
        """Whether the next state should be written."""
        return not self._failed and self._clock() - self._ended >= max(self._seconds, self._factor * self._cost)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state on disk by this one; best weights that it does not name are removed."""
        began = self._clock()
        try:
            self._write(self._folder / _STATE, {**self._marks, **state})
        except OSError as error:
            self._give_up(error)
            (self._folder / _STATE).unlink(missing_ok=True)
            return
        for path in self._folder.glob("best-*.pt"):
            if path.name != state.get("best_file"):
                path.unlink()
        self._ended = self._clock()
        self._cost = self._ended - began

    def load(self) -> dict[str, Any] | None:
        """The state that this training left, or None; one of another training is removed."""
        found = read(self._folder)
        if found is not None and found["key"] == self._marks["key"]:
            return found
        remove(self._folder)
        return None

    def save_best(self, name: str, weights: dict[str, Any]) -> bool:
        """Write the weights that are best so far, or return False; the next state is to give their name as `best_file`."""
        if not self._failed:
            try:
                self._write(self._folder / name, weights)
            except OSError as error:
                self._give_up(error)
        if self._failed:
            remove(self._folder)
        return not self._failed

    def load_best(self, name: str) -> dict[str, Any]:
        """The weights of that name."""
        import torch

        found: dict[str, Any] = torch.load(self._folder / name, map_location="cpu", weights_only=True)
        return found

    def _give_up(self, error: OSError) -> None:
        self._failed = True
        self._say(f"a checkpoint cannot be written ({error.strerror or error}): killed from now on, this run will begin anew")

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        import torch

        private_folder(self._folder)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except RuntimeError as error:  # torch's word for some of them
            raise OSError(str(error).partition("\n")[0]) from error
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def read(folder: Path) -> dict[str, Any] | None:
    """The state below a folder, its tensors mapped and not yet read; None where there is none that can be read."""
    import pickle

    import torch

    try:
        found = torch.load(folder / _STATE, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, dict) and "key" in found else None


def adopt(runs: Path, run: Path) -> str | None:
    """Move the newest checkpoint of an earlier run into this one; returns the earlier run's name.

    A rename: killed before or after it, exactly one of the two holds the checkpoint. Older ones, and states that were half
    written, are of no use any more and make room.
    """
    adopted = None
    for earlier in sorted((path for path in runs.iterdir() if path != run), reverse=True):
        if (earlier / FOLDER / _STATE).is_file():
            remove(run / FOLDER)
            (earlier / FOLDER).rename(run / FOLDER)
            adopted = earlier.name
            break
    sweep(runs, run)
    for half in (run / FOLDER).glob(".*"):
        half.unlink()
    return adopted


def remove(folder: Path) -> None:
    """Delete a checkpoint; none is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def size(folder: Path) -> int:
    """The bytes of a checkpoint; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def sweep(runs: Path, keep: Path | None) -> None:
    """Delete every checkpoint below `runs` but that of the run `keep`."""
    for run in runs.iterdir():
        if run != keep:
            remove(run / FOLDER)
