"""What was forgotten: ids that are never stored again, that a running session drops, and that mark versions. Knows no text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shammah_data.errors import ArtifactError
from shammah_data.manifest import Manifest, utc
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
    made, until = utc(manifest.created), utc(manifest.snapshot_until)
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
