"""How trials of versions ended, in one small file beside the pointer. Knows reasons, no audits.

The pointer says who serves; why a version that was tried no longer does is written here, and gone with the version.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from shammah_data.durable import PRIVATE_FILE, atomic_write

_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Verdict:
    """What became of a version on trial, when (ISO format), and why in one line."""

    action: Literal["promote", "rollback"]
    at: str
    reason: str

    @property
    def told(self) -> str:
        """For people."""
        return f"{'promoted' if self.action == 'promote' else 'rolled back'} on {self.at[:16]}: {self.reason}"


def note(models: Path, version: str, verdict: Verdict, present: Collection[str]) -> None:
    """Remember how the trial of a version ended; what is known of versions that are not `present` goes."""
    path = models / "verdicts.json"
    with FileLock(models / ".verdicts.lock", timeout=_LOCK_SECONDS, mode=PRIVATE_FILE):
        held = {name: each for name, each in verdicts(models).items() if name in present} | {version: verdict}
        atomic_write(path, json.dumps({name: asdict(each) for name, each in held.items()}, indent=1).encode())


def verdicts(models: Path) -> dict[str, Verdict]:
    """How the last trial of each version ended. A file that cannot be read explains nothing, and stops nobody."""
    try:
        raw = json.loads((models / "verdicts.json").read_text(encoding="utf-8"))
        return {str(name): Verdict(each["action"], str(each["at"]), str(each["reason"])) for name, each in raw.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
