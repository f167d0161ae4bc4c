"""Which share of the local answers is to be right: a version's own target, or another step of its ladder. Pure values."""

from dataclasses import replace
from typing import TypeVar

from shammah_data.manifest import Calibration, EarlyStep, Evidence, Step
from shammah_data.text import counted

Curve = TypeVar("Curve", Calibration, Evidence)

# A target written by hand and one that was measured are the same up to here.
_SAME = 1e-9
_NOTHING = 2.0


def steps(curve: Calibration | Evidence) -> tuple[Step, ...]:
    """What a version may be held to, the lowest target first; its own alone where it was published without a ladder."""
    own = Step(curve.target_precision, curve.threshold, curve.accepted, curve.accepted_right, curve.certified)
    others = [step for step in curve.ladder if abs(step.target_precision - own.target_precision) > _SAME]
    return tuple(sorted((own, *others), key=lambda step: step.target_precision))


def held_to(curve: Curve, wanted: float) -> Curve:
    """The curve with the threshold of the lowest target that is at least the wanted one; 0: as it was published.

    Above every step nothing is accepted, since nothing was measured for it.
    """
    if not wanted:
        return curve
    step = next((step for step in steps(curve) if step.target_precision >= wanted - _SAME), Step(wanted, _NOTHING, 0, 0, False))
    return replace(
        curve,
        target_precision=step.target_precision,
        threshold=step.threshold,
        accepted=step.accepted,
        accepted_right=step.accepted_right,
        certified=step.certified,
    )


def beyond(curve: Calibration | Evidence, wanted: float) -> str | None:
    """Why nothing may be answered where the wanted target is above every step, or None."""
    highest = steps(curve)[-1].target_precision
    if wanted <= highest + _SAME:
        return None
    return f"routing.target_precision is {percent(wanted)}, and the version was measured up to {percent(highest)} only"


def shown_early(held: Calibration) -> EarlyStep | None:
    """From where on an answer is shown before it has ended, for the target in force; None where that is never done."""
    steps = () if held.early is None else held.early.steps
    return next((step for step in steps if step.target_precision == held.target_precision and step.threshold <= 1.0), None)


def behind(curve: Calibration | Evidence, threshold: float) -> Step:
    """The step that has this threshold, the lowest target of several; the version's own where that has it, or none has."""
    own = next(step for step in steps(curve) if step.target_precision == curve.target_precision)
    return own if own.threshold == threshold else next((step for step in steps(curve) if step.threshold == threshold), own)


def told(held: Calibration | Evidence | Step) -> str:
    """From where on answers are given, for which target, on what that rests, and if it is certified (see `most_accepted`)."""
    target = f"{percent(held.target_precision)} precision"
    if held.threshold > 1.0:
        return f"no answers: no threshold reached {target}"
    certified = "certified" if held.certified else "not yet certified"
    was = "was" if held.accepted_right == 1 else "were"
    right = f"{held.accepted_right} of {counted(held.accepted, 'accepted held-out answer')} {was} right"
    return f"answers from {held.threshold:.2f} on for {target}: {right} ({certified})"


def percent(share: float) -> str:
    """A share such as 95% or 99.5%, no digit more than it has."""
    return f"{100 * share:.10g}%"
