"""What was typed before, in a file of its owner's only. Knows lines and one file; what may be kept, others decide."""

import json
from collections.abc import Callable
from pathlib import Path

from shammah_data.durable import append_line, atomic_write

MOST = 1000


class History:
    """The newest lines, one JSON string each. `clean` takes out what no file should hold; `warn` gets one line, once."""

    def __init__(self, path: Path, clean: Callable[[str], str], warn: Callable[[str], None]) -> None:
        self._path = path
        self._clean = clean
        self._warn = warn
        self._warned = False

    def lines(self) -> list[str]:
        """Everything there is, oldest first, at most `MOST`; what is no line of ours is passed over."""
        try:
            raw = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._tell(error)
            return []
        found = [line for line in map(_line, raw) if line is not None]
        if len(found) > 2 * MOST:
            try:
                atomic_write(self._path, b"".join(_encoded(line) + b"\n" for line in found[-MOST:]))
            except OSError as error:
                self._tell(error)
        return found[-MOST:]

    def add(self, line: str) -> str:
        """Keep a line; returns it as it is kept."""
        kept = _writable(self._clean(line))
        try:
            append_line(self._path, _encoded(kept))
        except OSError as error:
            self._tell(error)
        return kept

    def _tell(self, error: OSError) -> None:
        if not self._warned:
            self._warn(f"what you type is not remembered: {self._path}: {error.strerror}")
        self._warned = True


def _writable(line: str) -> str:
    return line.encode("utf-8", "replace").decode("utf-8")


def _encoded(line: str) -> bytes:
    return json.dumps(_writable(line), ensure_ascii=False).encode("utf-8")


def _line(raw: bytes) -> str | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, str) else None
