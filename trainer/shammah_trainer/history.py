"""One past run by the beginning of its name, and its held-out answers. Reads; runs and shows nothing."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.manifest import Calibration
from shammah_data.past import Past, finite
from shammah_data.shares import Share
from shammah_runtime.engine.confidence import confidence


@dataclass(frozen=True)
class HeldOut:
    """One held-out question and what the model made of it; `confidence` is None where the run cannot tell any more.

    `repeated`: the earlier answer that is given instead, where there is one. `group`: what tells its group from the others of
    its run; `older`: whether the champion of that night knew the group.
    """

    kind: str
    query: str
    reference: str
    answer: str
    right: bool
    accepted: bool
    reason: str
    confidence: float | None
    repeated: str | None = None
    repeated_right: bool = False
    group: str | None = None
    older: bool = False

    @property
    def given(self) -> bool:
        """Whether an answer would have been given, the model's own or an earlier one."""
        return self.accepted or self.repeated is not None

    @property
    def bluffed(self) -> bool:
        """Wrong, and it would have been given."""
        return self.given and not (self.right if self.repeated is None else self.repeated_right)

    @property
    def missed(self) -> bool:
        """Wrong where it could have been right, and withheld."""
        return self.kind == "phrasing" and not self.right and not self.given

    @property
    def said(self) -> str:
        """The answer that would have been given, else the model's."""
        return self.answer if self.repeated is None else self.repeated

    @property
    def why(self) -> str:
        """What there is to say of that answer."""
        if self.repeated is not None:
            return "an earlier answer, repeated"
        return self.reason + ("" if self.confidence is None else f", confidence {self.confidence:.2f}")


@dataclass(frozen=True)
class Group:
    """Held-out phrasings of one trained group, named by one of them: how many are right, and how many are answered."""

    name: str
    right: Share
    answered: float | None
    older: bool


def groups_of(run: Past, answers: Sequence[HeldOut]) -> list[Group]:
    """The groups of a run, the weakest first: as it recorded them, else by its held-out answers."""
    found = []
    for one in run.groups:
        asked, right = int(one["asked"]), int(one.get("right") or 0)
        if asked > 0:
            given = finite(one.get("accepted"))
            found.append(Group(str(one["name"]), Share(max(0, min(right, asked)), asked), given, bool(one.get("older"))))
    if not found:
        members: dict[str, list[HeldOut]] = defaultdict(list)
        for answer in answers:
            if answer.kind == "phrasing":
                # Older nights do not say which group a question is of.
                members[answer.reference if answer.group is None else answer.group].append(answer)
        for ones in members.values():
            right_ones = Share(sum(one.right for one in ones), len(ones))
            found.append(Group(ones[0].query, right_ones, float(sum(one.given for one in ones)), ones[0].older))
    return sorted(found, key=lambda one: (one.right.value, -one.right.total, one.name))


def find(runs: Sequence[Past], name: str) -> Past:
    """The run that is meant: `last`, a version that it published, or the beginning of its id or of its time.

    Raises InputError for a run that is not there, or several.
    """
    if not runs:
        raise InputError("no run yet: `shammah-train` starts one")
    if name == "last":
        return runs[0]
    wanted = re.sub(r"[-:]", "", name.strip()).upper().replace(" ", "T")
    found = [run for run in runs if run.version and run.version == name]
    if not found and wanted:
        found = [run for run in runs if run.id.startswith(wanted)]
    if not found:
        raise InputError(f"no run {name!r}: `shammah-train history` lists them")
    if len(found) > 1:
        raise InputError(f"{name!r} is the beginning of {len(found)} runs: give more of it")
    return found[0]


def heldout_answers(home: Home, run: Past, calibration: Calibration | None) -> list[HeldOut]:
    """The held-out answers of a run; none where its file is gone.

    `calibration` is that of the run's version: it tells the confidence of answers that were recorded without one. A line
    that cannot be read is passed over: what the others say stays true.
    """
    try:
        lines = (home.runs / run.id / "heldout.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    found = []
    for line in lines:
        try:
            raw = json.loads(line)
            repeated = raw.get("repeated")
            found.append(
                HeldOut(
                    str(raw["kind"]),
                    str(raw["query"]),
                    str(raw["reference"]),
                    str(raw["answer"]),
                    bool(raw["right"]),
                    bool(raw["accepted"]),
                    str(raw.get("reason", "")),
                    _sure(raw, calibration),
                    None if repeated is None else str(repeated["answer"]),
                    repeated is not None and bool(repeated["right"]),
                    None if raw.get("group") is None else str(raw["group"]),
                    bool(raw.get("older")),
                )
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


def _sure(raw: Mapping[str, Any], calibration: Calibration | None) -> float | None:
    recorded = finite(raw.get("confidence"))
    if recorded is not None and 0.0 <= recorded <= 1.0:
        return recorded
    features = raw.get("features")
    known = features if isinstance(features, dict) else {}
    if calibration is None or any(finite(known.get(name)) is None for name in calibration.weights):
        return None
    return finite(confidence(calibration, known))
