"""The spool: JSON lines that wait for the database to be free. Knows lines and their lock, not what a record means."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from shammah_data.durable import PRIVATE_FILE, append_line, fsync_folder


class Spool:
    """The spool at one path; beside it lie its lock and `.torn`, the lines that could not be used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from changing the spool."""
        with FileLock(self._path.with_suffix(".lock"), mode=PRIVATE_FILE):
            yield

    def exists(self) -> bool:
        """Whether anything waits."""
        return self._path.exists()

    def append(self, record: dict[str, Any]) -> None:
        """Make one record durable. Raises OSError."""
        # Half a surrogate pair cannot be written as UTF-8 and must not cost the rest.
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
        with self.lock():
            append_line(self._path, line)

    def read(self) -> list[tuple[bytes, Any]]:
        """Each line and what it says, None where it is not JSON; nothing when there is no spool."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [(line, _parsed(line)) for line in lines if line.strip()]

    def clear(self, torn: list[bytes]) -> None:
        """Remove the spool, whose records are in the database by now; `torn` lines are set aside. Raises OSError."""
        if torn:
            # A line cut by a crash was never acknowledged, but nothing a user wrote is thrown away unseen.
            append_line(self._path.with_suffix(".torn"), b"\n".join(torn))
        self._path.unlink()
        fsync_folder(self._path.parent)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
