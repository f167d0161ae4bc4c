"""What was forgotten: ids that are never stored again, that a running session drops, and that mark versions. Knows no text."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shammah_data.durable import append_line
from shammah_data.errors import ArtifactError
from shammah_data.manifest import Manifest
from shammah_data.session import Session, fetch
from shammah_data.store import ModelStore


@dataclass(frozen=True)
class Tombstone:
    """One forgotten exchange; both times in UTC without a zone. `learnable`: a run may have trained on it."""

    exchange_id: str
    logged_at: datetime
    forgotten_at: datetime
    learnable: bool


def tombstones(session: Session) -> tuple[Tombstone, ...]:
    """All that was forgotten, oldest first."""
    found = fetch(session, "SELECT * FROM tombstones ORDER BY forgotten_at, exchange_id")
    return tuple(Tombstone(**{**row, "exchange_id": str(row["exchange_id"])}) for row in found)


def saw(manifest: Manifest, forgotten: Sequence[Tombstone]) -> bool:
    """Whether a version may have been trained on something that was forgotten after it was made."""
    made = datetime.fromisoformat(manifest.created)
    if made.tzinfo is not None:
        made = made.astimezone(UTC).replace(tzinfo=None)
    until = datetime.fromisoformat(manifest.snapshot_until)
    return any(each.learnable and each.logged_at <= until and made < each.forgotten_at for each in forgotten)


def versions_that_saw(store: ModelStore, forgotten: Sequence[Tombstone]) -> list[str]:
    """The versions that may have been trained on what was forgotten; one whose manifest is unreadable counts as such."""
    found = []
    for name in store.versions() if forgotten else ():
        try:
            if not saw(Manifest.load(store.folder(name)), forgotten):
                continue
        except ArtifactError:
            pass  # what cannot be told must not be kept
        found.append(name)
    return found


def announce(path: Path, ids: Iterable[str]) -> None:
    """Tell running sessions of this home what is forgotten. Raises OSError."""
    append_line(path, b"\n".join(json.dumps({"id": one}).encode() for one in ids))


class Announced:
    """Reads what was announced since the last look; a look at an unchanged file costs microseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

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
