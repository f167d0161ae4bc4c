"""Who serves, decided by audits: a version on trial becomes champion or goes back, by itself. Knows roles, no model.

On trial is the candidate, beside the champion; or a champion that is newer than the one before it, until it has proved
itself. A version that somebody put back, or pinned, is on no trial.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from filelock import Timeout

from shammah_data.errors import ArtifactError
from shammah_data.exchange import Audited
from shammah_data.sequential import FINE_ERROR, MARGIN, WORSE_ERROR, Audit, Standing, allowed_rate, reference_rate, standing
from shammah_data.store import ModelStore, Pointer
from shammah_data.text import counted
from shammah_data.verdicts import Verdict, note


@dataclass(frozen=True)
class Plan:
    """`target_precision`: what the versions are calibrated for; `days`: how long a candidate is tried at most."""

    target_precision: float = 0.95
    days: int = 7


@dataclass(frozen=True)
class Trial:
    """A version, the one it is compared with, and where the tests are. `reference`: the latter's share of wrong answers."""

    version: str
    against: str
    role: Literal["candidate", "champion"]
    standing: Standing
    reference: float
    reference_audited: int

    @property
    def told(self) -> str:
        """In one line."""
        found = self.standing
        if not found.audited:
            return f"none of its answers is audited yet, {self.reference_audited} of {self.against}'s are"
        both = f", {found.pairs} of them beside {self.against}'s" if found.pairs else ""
        return (
            f"{found.wrong} of {counted(found.audited, 'audited answer')} wrong{both}, about {found.rate:.0%} of all; "
            f"{self.against}: about {self.reference:.0%} ({self.reference_audited} audited); "
            f"evidence that it is worse {found.worse:.3g} of {1 / WORSE_ERROR:.0f}, "
            f"good enough {found.fine:.3g} of {1 / FINE_ERROR:.0f}"
        )


@dataclass(frozen=True)
class Decision:
    """`none`: nothing is on trial; `wait`: the trial goes on. `version` is the one on trial; `reason` is one line."""

    action: Literal["none", "wait", "promote", "rollback"]
    reason: str
    version: str | None = None
    trial: Trial | None = None


def on_trial(pointer: Pointer) -> tuple[str, str, Literal["candidate", "champion"]] | None:
    """(version, the one it is compared with, its role), or None."""
    champion, previous = pointer.champion, pointer.previous
    if champion is None or pointer.pinned:
        return None
    if pointer.candidate is not None:
        return pointer.candidate, champion, "candidate"
    # One that came back after a newer one is there because it was better.
    if previous is not None and int(previous[1:]) < int(champion[1:]):
        return champion, previous, "champion"
    return None


def judge_trial(pointer: Pointer, outcomes: Sequence[Audited], plan: Plan, now: datetime) -> Decision:
    """What should be done, by the outcomes of both versions, oldest first; see `ExchangeLog.outcomes`."""
    found = on_trial(pointer)
    if found is None:
        return Decision("none", f"{pointer.champion} is pinned" if pointer.pinned else "no version is on trial")
    version, against, role = found
    others = {each.exchange_id: each for each in outcomes if each.version == against}
    audits = []
    for each in outcomes:
        if each.version == version:
            other = others.get(each.exchange_id)
            rival_wrong = None if other is None else not other.agrees
            audits.append(Audit(not each.agrees, each.probability, rival_wrong, each.rival_declined, each.given))
    references = [Audit(not each.agrees, each.probability) for each in others.values() if each.given]
    reference = reference_rate(references, plan.target_precision)
    found_so_far = standing(audits, reference, allowed_rate(references, plan.target_precision))
    trial = Trial(version, against, role, found_so_far, reference, len(references))
    verdict = trial.standing.verdict
    if verdict == "worse":
        return Decision("rollback", f"{version} is worse than {against}: {trial.told}", version, trial)
    if role == "champion":
        return Decision(
            "none" if verdict else "wait", f"{version} has proved itself" if verdict else trial.told, version, trial
        )
    if verdict == "fine":
        return Decision("promote", f"{version} is as good as {against}: {trial.told}", version, trial)
    if pointer.candidate_since is not None:
        began = datetime.fromisoformat(pointer.candidate_since)
        began = began if began.tzinfo else began.replace(tzinfo=UTC)
        if now - began >= timedelta(days=plan.days):
            return _undecided(trial, plan)
    return Decision("wait", trial.told, version, trial)


def _undecided(trial: Trial, plan: Plan) -> Decision:
    """After its time: the gate had passed it, so it serves unless what was audited speaks against it."""
    found = trial.standing
    worse = found.audited > 0 and found.rate > trial.reference + MARGIN
    told = f"not decided within {counted(plan.days, 'day')}: {trial.told}"
    if worse:
        return Decision("rollback", f"{trial.version} goes, {told}", trial.version, trial)
    return Decision("promote", f"{trial.version} serves as the gate had it, {told}", trial.version, trial)


def decide(store: ModelStore, outcomes: Sequence[Audited], plan: Plan | None = None, now: datetime | None = None) -> Decision:
    """Decide and do it; cheap enough for the start of every run and after every audit.

    `outcomes`: of the versions that the pointer names, oldest first. A version that turns out to be damaged does not serve:
    the decision says so. Raises ArtifactError for a store that cannot be read or written.
    """
    plan, now = plan or Plan(), now or datetime.now(UTC)
    pointer = store.pointer()
    decision = judge_trial(pointer, outcomes, plan, now)
    try:
        if decision.action == "promote" and decision.version is not None:
            store.promote(decision.version, pointer)
        elif decision.action == "rollback" and decision.trial is not None:
            if decision.trial.role == "candidate":
                store.clear_candidate(pointer)
            else:
                store.rollback(pointer)
    except ArtifactError as error:
        moved = store.pointer()
        if moved != pointer:
            # Another process did it first, or somebody by hand.
            return Decision("none", f"the versions changed meanwhile: {moved.champion} serves")
        if decision.action == "promote":
            store.clear_candidate(pointer)
            damaged = replace(decision, action="rollback", reason=f"{decision.version} cannot serve: {error}")
            return _noted(store, damaged, now)
        # There is nothing to go back to, and what serves is better than nothing.
        return replace(decision, action="none", reason=f"{decision.reason}; it stays: {error}")
    return _noted(store, decision, now)


def _noted(store: ModelStore, decision: Decision, now: datetime) -> Decision:
    """The decision, remembered where it ended a trial."""
    if decision.version is not None and decision.action in ("promote", "rollback"):
        with contextlib.suppress(OSError, Timeout):  # the pointer has changed, which is what counts
            at = now.isoformat(timespec="seconds")
            note(store.root, decision.version, Verdict(decision.action, at, decision.reason), store.versions())
    return decision


def named(pointer: Pointer) -> list[str]:
    """The versions whose outcomes `decide` needs."""
    return [name for name in (pointer.champion, pointer.previous, pointer.candidate) if name is not None]
