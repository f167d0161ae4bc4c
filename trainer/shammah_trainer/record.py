"""What a run writes down about its held-out answers: a line for people, a file for a closer look. Measures nothing."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shammah_data.durable import atomic_write
from shammah_data.manifest import Calibration
from shammah_data.targets import steps
from shammah_runtime.engine.confidence import confidence
from shammah_trainer.calibrate import accepts
from shammah_trainer.compare import Share
from shammah_trainer.evaluate import Outcome
from shammah_trainer.lookups import Tried


def summary(figures: dict[str, Any]) -> str:
    """One line on what was measured."""
    phrasing, group, outside = (figures["heldout"][kind] for kind in ("phrasing", "group", "outside"))
    repeated = ""
    if phrasing.get("repeated"):
        repeated = f" and with an earlier answer {phrasing['repeated']} more ({phrasing['repeated_right']} right)"
    return (
        f"held-out loss {figures['loss_before']:.3f} -> {figures['loss_after']:.3f}; other phrasings right "
        f"{phrasing['right']}/{phrasing['asked']}, answered at its threshold {phrasing['accepted']} "
        f"({phrasing['accepted_right']} right){repeated}; never trained on: answered {local(group)[0]}/{group['asked']} "
        f"({local(group)[1]} right); unanswerable: answered {local(outside)[0]}/{outside['asked']}"
    )


def local(counts: Mapping[str, int]) -> tuple[int, int]:
    """How many questions of a kind are answered, by the model or with an earlier answer, and how many of them rightly."""
    return (
        counts["accepted"] + counts.get("repeated", 0),
        counts["accepted_right"] + counts.get("repeated_right", 0),
    )


def counts(
    outcomes: Sequence[Outcome], calibration: Calibration, repeated: Sequence[Tried | None] = ()
) -> dict[str, dict[str, int]]:
    """Per kind of held-out query: asked, right, accepted at the threshold, right among the accepted, right and withheld.

    And how many get an earlier answer, and how many of these a right one, where it is told of each outcome what is `repeated`.
    """
    found = {}
    for kind in ("phrasing", "group", "outside"):
        of_kind = [(own, earlier) for own, earlier in _beside(outcomes, calibration, repeated) if own.kind == kind]
        taken = [own for own, _ in of_kind if _given(own, calibration)]
        found[kind] = {
            "asked": len(of_kind),
            "right": sum(own.right for own, _ in of_kind),
            "accepted": len(taken),
            "accepted_right": sum(own.right for own in taken),
            "withheld_right": sum(own.right for own, other in of_kind if other is None and not _given(own, calibration)),
        }
        if repeated:
            others = [other for _, other in of_kind if other is not None]
            found[kind] |= {"repeated": len(others), "repeated_right": sum(other.right for other in others)}
    return found


def given(outcomes: Sequence[Outcome], calibration: Calibration) -> dict[float, list[bool]]:
    """Of each question whether the version gives its own answer, for every target that it may be held to."""
    curves = {step.target_precision: replace(calibration, threshold=step.threshold) for step in steps(calibration)}
    return {target: [_given(outcome, curve) for outcome in outcomes] for target, curve in curves.items()}


def _beside(
    outcomes: Sequence[Outcome], calibration: Calibration, repeated: Sequence[Tried | None]
) -> list[tuple[Outcome, Tried | None]]:
    """Each outcome and the earlier answer that is given instead: none where the version gives its own."""
    beside = zip(outcomes, repeated or [None] * len(outcomes), strict=True)
    return [(own, None if _given(own, calibration) else earlier) for own, earlier in beside]


def _given(outcome: Outcome, calibration: Calibration) -> bool:
    return outcome.finished and accepts(calibration, outcome.features)


def intervals(heldout: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """The shares behind the counts, each with its exact 95% interval."""
    phrasing, group, outside = (heldout[kind] for kind in ("phrasing", "group", "outside"))
    accepted, accepted_right = (sum(counts) for counts in zip(*map(local, heldout.values()), strict=True))
    shares = {
        "phrasings right": Share.of(phrasing["right"], phrasing["asked"]),
        "phrasings answered": Share.of(local(phrasing)[0], phrasing["asked"]),
        "answers given right": Share.of(accepted_right, accepted),
        "never trained on answered": Share.of(local(group)[0], group["asked"]),
        "unanswerable answered": Share.of(local(outside)[0], outside["asked"]),
    }
    return {name: asdict(share) for name, share in shares.items() if share.total}


def by_group(outcomes: Sequence[Outcome], older: Collection[int]) -> dict[str, int]:
    """Held-out phrasings by trained group, and how many of the groups had all of theirs right, older ones apart."""
    groups: dict[int, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.kind == "phrasing":
            groups[outcome.example.group].append(outcome.right)
    old = {group: rights for group, rights in groups.items() if group in older}
    return {
        "groups": len(groups),
        "groups_all_right": sum(all(rights) for rights in groups.values()),
        "groups_none_right": sum(not any(rights) for rights in groups.values()),
        "older_groups": len(old),
        "older_asked": sum(map(len, old.values())),
        "older_right": sum(map(sum, old.values())),
    }


def write_outcomes(
    path: Path,
    outcomes: Sequence[Outcome],
    calibration: Calibration,
    before: Sequence[Outcome | None] = (),
    older: Collection[int] = (),
    repeated: Sequence[Tried | None] = (),
) -> None:
    """One JSON line per held-out query: what was asked, expected and answered, and whether it was right and accepted.

    `before`: the champion's answers to the same queries, None where it had been trained on one; `older`: groups it knew;
    `repeated`: earlier answers that are given instead.
    """
    lines = [
        {
            "kind": outcome.kind,
            "group": outcome.example.group,
            "older": outcome.example.group in older,
            "champion_right": champion.right if champion is not None else None,
            "query": outcome.example.query,
            "reference": outcome.example.target,
            "answer": outcome.text,
            "features": outcome.features,
            "right": outcome.right,
            "confidence": confidence(calibration, outcome.features),
            "accepted": _given(outcome, calibration),
            "reason": outcome.reason,
            "repeated": {"answer": earlier.answer, "right": earlier.right} if earlier is not None else None,
        }
        for (outcome, earlier), champion in zip(
            _beside(outcomes, calibration, repeated), before or [None] * len(outcomes), strict=True
        )
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(path, text.encode("utf-8", "replace"))
