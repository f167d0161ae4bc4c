"""What one process tells the others of a home: ids, appended to a file that they look at. Knows no text and no log.

A file that may not grow for ever begins, once it was cut, with a line that says how many bytes of lines were before its first:
readers count from the beginning of all that was ever told.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from shammah_data.durable import PRIVATE_FILE, append_line, atomic_write

_LOCK_SECONDS = 2.0
_LONGEST_HEADER = 64


def announce(path: Path, ids: Iterable[str], most: int | None = None) -> None:
    """Tell running sessions of this home what is forgotten, or which ratings came. Raises OSError.

    `most`: a file that is larger, in bytes, loses the older half of them; None where all of it is to stay.
    """
    told = b"\n".join(json.dumps({"id": one}).encode() for one in ids)
    if most is None:
        append_line(path, told)
        return
    # What another process appends while the file is cut would be gone with the old one.
    with FileLock(path.with_suffix(".lock"), mode=PRIVATE_FILE, timeout=_LOCK_SECONDS):
        append_line(path, told)
        if path.stat().st_size > most:
            _cut(path, max(most // 2, len(told) + 1))


def _cut(path: Path, keep: int) -> None:
    """Leave the whole lines of the last `keep` bytes."""
    with path.open("rb") as file:
        _, cut = _start(file)
        lines = file.read()
    begin = lines.find(b"\n", len(lines) - keep - 1) + 1 if len(lines) > keep else 0
    atomic_write(path, json.dumps({"cut": cut + begin}).encode() + b"\n" + lines[begin:])


def _start(file: BinaryIO) -> tuple[int, int]:
    """Where the first line of ids begins, which is read next, and how many bytes of such lines were before it."""
    try:
        header = file.readline(_LONGEST_HEADER)
        return file.tell(), int(json.loads(header)["cut"])
    except (ValueError, TypeError, KeyError):
        file.seek(0)
        return 0, 0


class Announced:
    """Reads what was announced since the last look; a look at an unchanged file costs microseconds.

    `anew`: what was announced before is not told.
    """

    def __init__(self, path: Path, anew: bool = False) -> None:
        self._path = path
        # In bytes of lines, from the beginning of all that was ever told.
        self._read = 0
        self._looked: tuple[int, int, int] | None = None
        if anew:
            self.fresh()

    def fresh(self) -> list[str]:
        """Ids that were not there at the last call."""
        try:
            now = self._path.stat()
            looked = (now.st_ino, now.st_size, now.st_mtime_ns)
            if looked == self._looked:
                return []
            with self._path.open("rb") as file:
                first, cut = _start(file)
                end = cut + file.seek(0, os.SEEK_END) - first
                # What was cut before it was read is gone; a file that has less than was read was begun anew.
                begin = self._read if cut <= self._read <= end else cut
                file.seek(first + begin - cut)
                lines = file.read()
        except OSError:
            return []
        # A line that is still being written is read at the next look.
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read, self._looked = begin + len(whole), looked
        found = []
        for line in whole.splitlines():
            try:
                found.append(str(json.loads(line)["id"]))
            except (ValueError, TypeError, KeyError):
                continue
        return found
