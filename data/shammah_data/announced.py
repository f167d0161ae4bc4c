"""What one process tells the others of a home: ids, appended to a file that they look at. Knows no text and no log."""

import json
from collections.abc import Iterable
from pathlib import Path

from shammah_data.durable import append_line


def announce(path: Path, ids: Iterable[str]) -> None:
    """Tell running sessions of this home what is forgotten, or which ratings came. Raises OSError."""
    append_line(path, b"\n".join(json.dumps({"id": one}).encode() for one in ids))


class Announced:
    """Reads what was announced since the last look; a look at an unchanged file costs microseconds.

    `anew`: what was announced before is not told.
    """

    def __init__(self, path: Path, anew: bool = False) -> None:
        self._path = path
        self._read = path.stat().st_size if anew and path.exists() else 0

    def fresh(self) -> list[str]:
        """Ids that were not there at the last call."""
        try:
            if self._path.stat().st_size <= self._read:
                return []
            with self._path.open("rb") as file:
                file.seek(self._read)
                lines = file.read()
        except OSError:
            return []
        # A line that is still being written is read at the next look.
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                found.append(str(json.loads(line)["id"]))
            except (ValueError, TypeError, KeyError):
                continue
        return found
