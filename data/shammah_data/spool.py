"""The spool: JSON lines that wait for the database to be free. Knows lines and their locks, not what a record means.

Writers append to one file. Who drains it first renames it, so that no writer ever waits for the database through the spool;
a renamed file that a killed process left is drained by the next.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, append_line, fsync_folder


class Spool:
    """The spool at one path; beside it lie its locks, `.draining`, and `.torn`: the lines that could not be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draining = path.with_suffix(".draining")
        self.torn = path.with_suffix(".torn")

    def exists(self) -> bool:
        """Whether anything waits."""
        return self._path.exists() or self._draining.exists()

    def append(self, *records: dict[str, Any]) -> None:
        """Make records durable. Raises OSError."""
        # Half a surrogate pair cannot be written as UTF-8 and must not cost the rest.
        lines = [json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") for record in records]
        with self._appending():
            append_line(self._path, b"\n".join(lines))

    def read(self) -> list[tuple[bytes, Any]]:
        """Each waiting line and what it says, None where it is not JSON; nothing when there is no spool."""
        return [*_lines(self._draining), *_lines(self._path)]

    @contextlib.contextmanager
    def drain(self) -> Iterator[list[tuple[bytes, Any]]]:
        """The waiting lines, to be stored in the block; they are gone when it ends well, and stay when it raises.

        Nothing when another process drains at this moment. Raises OSError.
        """
        lock = FileLock(self._path.with_suffix(".drain.lock"), mode=PRIVATE_FILE, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield []
            return
        try:
            if not self._draining.exists():
                with self._appending():
                    if self._path.exists():
                        self._path.rename(self._draining)
                        fsync_folder(self._path.parent)
            yield _lines(self._draining)
            self._draining.unlink(missing_ok=True)
            fsync_folder(self._path.parent)
        finally:
            lock.release()

    def set_aside(self, lines: list[bytes]) -> None:
        """Keep lines that cannot be used: cut by a crash, never acknowledged, but not thrown away unseen. Raises OSError."""
        append_line(self.torn, b"\n".join(lines))

    @contextlib.contextmanager
    def _appending(self) -> Iterator[None]:
        with FileLock(self._path.with_suffix(".lock"), mode=PRIVATE_FILE):
            yield


def _lines(path: Path) -> list[tuple[bytes, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [(line, _parsed(line)) for line in lines if line.strip()]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
