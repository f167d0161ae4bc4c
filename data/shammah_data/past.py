"""Past training runs as the log and their folders tell of them. Reads; runs and shows nothing.

Runs of older versions lack figures that newer ones have: whatever is not there, or is not a number, reads as None.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shammah_data.exchange import RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.shares import Share

RECORD = "run.json"
KINDS = ("phrasing", "group", "outside")
_ID = re.compile(r"\d{8}T\d{6,9}Z")
_MOST = 100_000
# Nothing that a run measures is larger; what is would not survive arithmetic.
_LARGEST = 1e15
# What a run leaves in its folder as it goes on.
_STAGES = (
    ("snapshot.parquet", "took its snapshot"),
    ("checkpoint/state.pt", "wrote its last checkpoint"),
    ("merged", "had trained its weights"),
    ("heldout.jsonl", "had answered the held-out questions"),
)


@dataclass(frozen=True)
class Past:
    """One run that the log remembers, or one of which only a folder tells: as it ended, else "unfinished". Times are UTC."""

    id: str
    status: str
    started: datetime
    finished: datetime | None
    reason: str
    version: str | None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def at(self, *path: str) -> Any:
        """The figure at these keys, or None."""
        found: Any = self.figures
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def number(self, *path: str) -> float | None:
        """The finite number at these keys, or None."""
        return finite(self.at(*path))

    def count(self, *path: str) -> int | None:
        """The same, as a whole number."""
        found = self.number(*path)
        return None if found is None else int(found)

    def share(self, part: tuple[str, ...], whole: tuple[str, ...]) -> Share | None:
        """One figure as a share of another; None where either is missing, or they are no share."""
        some, of = self.count(*part), self.count(*whole)
        return Share(some, of) if some is not None and of and 0 <= some <= of else None

    def heldout(self, what: str, kind: str = "phrasing", of: str = "asked") -> Share | None:
        """Such as how many of the held-out phrasings that were asked are right."""
        return self.share(("heldout", kind, what), ("heldout", kind, of))

    def given(self, kind: str = "phrasing") -> tuple[int, int] | None:
        """How many questions of a kind would be answered, by the model or with an earlier answer, and how many rightly."""
        given, right = self.count("heldout", kind, "accepted"), self.count("heldout", kind, "accepted_right")
        if given is None or right is None:
            return None
        repeated = self.count("heldout", kind, "repeated") or 0
        return given + repeated, right + (self.count("heldout", kind, "repeated_right") or 0)

    def withheld_right(self, kind: str) -> int | None:
        """How many questions of a kind get no answer, although the model's own would be right."""
        told = self.count("heldout", kind, "withheld_right")
        if told is not None or self.count("heldout", kind, "repeated"):
            return told  # older nights do not say to how many of these an earlier answer was given
        right, given = self.count("heldout", kind, "right"), self.count("heldout", kind, "accepted_right")
        return None if right is None or given is None else max(0, right - given)

    def local(self, kind: str = "phrasing") -> Share | None:
        """How many of the questions of a kind would have been answered."""
        found, asked = self.given(kind), self.count("heldout", kind, "asked")
        return Share(found[0], asked) if found and asked and found[0] <= asked else None

    @property
    def answered(self) -> Share | None:
        """How many of the answers that would have been given are right, over every kind of question."""
        pairs = [found for kind in KINDS if (found := self.given(kind))]
        given = sum(pair[0] for pair in pairs)
        return Share(sum(pair[1] for pair in pairs), given) if given else None

    @property
    def reasons(self) -> list[str]:
        """The reason, one for each thing that went wrong; of a refused run one for each check of the gate."""
        gate = self.at("gate") if self.status == "refused" else None
        listed = [one.get("reason") for one in gate if isinstance(one, dict)] if isinstance(gate, list) else []
        return [one for one in listed if isinstance(one, str)] or _apart(self.reason)

    @property
    def checks(self) -> list[tuple[str, bool, str]]:
        """What the gate looked at, as (name, whether it passed, what was found, or why it refuses)."""
        gate = self.at("gate")
        listed = [one for one in gate if isinstance(one, dict)] if isinstance(gate, list) else []
        return [
            (str(one.get("name")), one.get("reason") is None, str(one.get("reason") or one.get("told") or "-"))
            for one in listed
            if isinstance(one.get("name"), str)
        ]

    @property
    def outdated(self) -> list[tuple[str, str]]:
        """Ids of exchanges whose facts a newer one replaced, and of that newer one."""
        found = self.at("dataset", "outdated")
        pairs = [one for one in (found if isinstance(found, list) else ()) if isinstance(one, dict) and one.get("id")]
        return [(str(one["id"]), str(one.get("replaced_by") or "-")) for one in pairs]

    @property
    def counted(self) -> list[tuple[str, dict[str, float]]]:
        """The counts of the dataset's card by name: what was excluded and why first, then whatever else it counts."""
        card = self.at("dataset")
        found = []
        for name, counts in card.items() if isinstance(card, Mapping) else ():
            numbers = {str(what): finite(n) for what, n in counts.items()} if isinstance(counts, Mapping) else {}
            known = {what: n for what, n in numbers.items() if n is not None}
            if known:
                found.append((str(name).replace("_", " "), known))
        return sorted(found, key=lambda one: one[0] != "excluded")

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Right answers by group, as the run recorded them: name, asked, right, accepted, older."""
        found = self.at("groups")
        listed = found if isinstance(found, list) else []
        known = [one for one in listed if isinstance(one, dict) and finite(one.get("asked")) and "name" in one]
        return [one for one in known if finite(one.get("right") or 0) is not None]


def finite(value: object) -> float | None:
    """A number that is one and may have been measured, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        return None
    return float(value)


def past_runs(home: Home, log: ExchangeLog, limit: int = _MOST) -> list[Past]:
    """The newest runs, newest first, with those that left a folder and no record. Raises LogError."""
    runs = [
        Past(
            str(row["id"]),
            str(row["status"]),
            row["started"],
            row["finished"],
            str(row["reason"]),
            row["version"],
            row["figures"] if isinstance(row["figures"], dict) else {},
        )
        for row in (log.runs(limit) if log.exists() else ())
    ]
    for folder in _others(home, {run.id for run in runs}):
        record = _recorded(folder)
        runs.append(_unfinished(folder) if record is None else _as_logged(record))
    return sorted(runs, key=lambda run: run.id, reverse=True)[:limit]


def unrecorded(home: Home, log: ExchangeLog) -> list[RunRecord]:
    """What runs wrote down of themselves that the log could not take, oldest first. Raises LogError."""
    known = {str(row["id"]) for row in log.runs(_MOST)}
    return [record for folder in sorted(_others(home, known)) if (record := _recorded(folder)) is not None]


def _others(home: Home, known: Container[str]) -> Iterator[Path]:
    """The folders of runs that are not known."""
    for folder in home.runs.iterdir() if home.runs.is_dir() else ():
        if folder.name not in known and _ID.fullmatch(folder.name) and folder.is_dir():
            yield folder


def _recorded(folder: Path) -> RunRecord | None:
    """What a run wrote down of itself when it ended."""
    try:
        raw = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        times = {name: datetime.fromisoformat(raw[name]) for name in ("started", "finished")}
        return RunRecord(**{**raw, **times, "id": folder.name, "figures": dict(raw["figures"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _as_logged(record: RunRecord) -> Past:
    times = {name: getattr(record, name).astimezone(UTC).replace(tzinfo=None) for name in ("started", "finished")}
    return Past(**{**vars(record), **times})


def _unfinished(folder: Path) -> Past:
    """What the files of a run tell that has no record: it is at work, or something ended it."""
    made = datetime.strptime(folder.name[:15], "%Y%m%dT%H%M%S")
    done = "began"
    at = made
    for name, what in _STAGES:
        try:
            moment = datetime.fromtimestamp((folder / name).stat().st_mtime, UTC).replace(tzinfo=None)
        except OSError:
            continue  # not reached, or tidied away
        done, at = what, moment
    return Past(folder.name, "unfinished", made, None, f"in progress, or cut short: it {done} at {at:%H:%M} UTC", None)


def _apart(reason: str) -> list[str]:
    """A reason split at its semicolons, but for those in brackets."""
    parts, depth = [""], 0
    for letter in reason:
        depth += (letter in "([") - (letter in ")]" and depth > 0)
        if letter == ";" and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
