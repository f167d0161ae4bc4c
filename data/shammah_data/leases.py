"""Which versions are in use: a locked file per user of a version, let go of by the system when its process ends.

Knows names and locks, not what a version holds.
"""

import contextlib
import re
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE

# Whoever looks for dead leases may hold a new one for an instant.
_SECONDS = 5.0
_LEASE = re.compile(r"\.using-(v\d{4,})-[0-9a-f]{32}")


class Lease:
    """Held from its making until `release`."""

    def __init__(self, root: Path, version: str) -> None:
        self._path = root / f".using-{version}-{uuid.uuid4().hex}"
        # An engine may be given up by another thread than the one that loaded it.
        self._lock = FileLock(self._path, timeout=_SECONDS, mode=PRIVATE_FILE, thread_local=False)
        self._lock.acquire()

    def release(self) -> None:
        """Say that the version is no longer used; a second time changes nothing."""
        self._path.unlink(missing_ok=True)
        self._lock.release()


def leased(root: Path) -> set[str]:
    """The versions with a lease that a living process holds; what dead ones left is removed.

    In a folder that can only be read nobody can tell which ones live: all count.
    """
    found = set()
    for path in root.glob(".using-*"):
        if not (name := _LEASE.fullmatch(path.name)):
            continue
        lock = FileLock(path, timeout=0, mode=PRIVATE_FILE)
        try:
            lock.acquire()
        except (Timeout, OSError):
            found.add(name[1])
            continue
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
    return found
