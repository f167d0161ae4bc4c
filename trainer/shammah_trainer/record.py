"""What a run writes down about its held-out answers: a line for people, a file for a closer look. Measures nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shammah_data.durable import atomic_write
from shammah_data.manifest import Calibration
from shammah_runtime.engine.confidence import confidence
from shammah_trainer.calibrate import accepts
from shammah_trainer.evaluate import Outcome


def summary(figures: dict[str, Any]) -> str:
    """One line on what was measured."""
    phrasing, group, outside = (figures["heldout"][kind] for kind in ("phrasing", "group", "outside"))
    return (
        f"held-out loss {figures['loss_before']:.3f} -> {figures['loss_after']:.3f}; other phrasings right "
        f"{phrasing['right']}/{phrasing['asked']}, answered at its threshold {phrasing['accepted']} "
        f"({phrasing['accepted_right']} right); never trained on: answered {group['accepted']}/{group['asked']} "
        f"({group['accepted_right']} right); unanswerable: answered {outside['accepted']}/{outside['asked']}"
    )


def counts(outcomes: Sequence[Outcome], calibration: Calibration) -> dict[str, dict[str, int]]:
    """Per kind of held-out query: asked, right, accepted at the threshold, right among the accepted."""
    found = {}
    for kind in ("phrasing", "group", "outside"):
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        taken = [outcome for outcome in of_kind if outcome.finished and accepts(calibration, outcome.features)]
        found[kind] = {
            "asked": len(of_kind),
            "right": sum(outcome.right for outcome in of_kind),
            "accepted": len(taken),
            "accepted_right": sum(outcome.right for outcome in taken),
        }
    return found


def write_outcomes(path: Path, outcomes: Sequence[Outcome], calibration: Calibration) -> None:
    """One JSON line per held-out query: what was asked, expected and answered, and whether it was right and accepted."""
    lines = [
        {
            "kind": outcome.kind,
            "query": outcome.example.query,
            "reference": outcome.example.target,
            "answer": outcome.text,
            "features": outcome.features,
            "right": outcome.right,
            "confidence": confidence(calibration, outcome.features),
            "accepted": outcome.finished and accepts(calibration, outcome.features),
            "reason": outcome.reason,
        }
        for outcome in outcomes
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(path, text.encode("utf-8", "replace"))
