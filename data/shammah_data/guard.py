"""Thresholds that audits have raised, in one small file beside the pointer. Knows versions and figures, not how they came.

The manifest of a version stays as it was published; what has been learned about it since is written here, read by every
session before each answer, and gone with the version.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from shammah_data.durable import PRIVATE_FILE, atomic_write, plain
from shammah_data.errors import ArtifactError

_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Raised:
    """From `since` (ISO format) on, answers of a version need at least this confidence; above 1 accepts none."""

    threshold: float
    reason: str
    since: str


class Guard:
    """The raised thresholds of one model folder, by version."""

    def __init__(self, models: Path) -> None:
        self._path = models / "guard.json"
        self._stamp = (0, 0)
        self._raised: dict[str, Raised] = {}

    def of(self, version: str) -> Raised | None:
        """What holds for a version now; costs one stat call. Raises ArtifactError for a file that cannot be understood."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._raised, self._stamp = self._read(), stamp
        return self._raised.get(version)

    def threshold(self, version: str, published: float) -> float:
        """The least confidence that a version's answers need now, where `published` is what its manifest says."""
        raised = self.of(version)
        return published if raised is None else max(published, raised.threshold)

    def raise_to(self, version: str, raised: Raised) -> bool:
        """Raise a version's threshold; a lower one than holds already changes nothing. Returns whether it was raised.

        Raises ArtifactError for a file that cannot be understood.
        """
        with FileLock(self._path.parent / ".guard.lock", timeout=_LOCK_SECONDS, mode=PRIVATE_FILE):
            held = self._read()
            if version in held and held[version].threshold >= raised.threshold:
                return False
            held[version] = raised
            atomic_write(self._path, json.dumps({name: asdict(each) for name, each in held.items()}, indent=1).encode())
        return True

    def _read(self) -> dict[str, Raised]:
        try:
            raw = json.loads(plain(self._path).read_text(encoding="utf-8"))
            found = {
                str(name): Raised(float(each["threshold"]), str(each["reason"]), str(each["since"]))
                for name, each in raw.items()
            }
            if any(math.isnan(each.threshold) for each in found.values()):
                raise ValueError("a threshold is no number")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._unreadable(error) from error
        return found

    def _unreadable(self, error: Exception) -> ArtifactError:
        return ArtifactError(f"{self._path}: cannot be read ({error}): delete it to go back to the published thresholds")
