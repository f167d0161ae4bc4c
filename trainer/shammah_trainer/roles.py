"""Which version has which role, and where its trial is, in lines for people."""

from collections.abc import Mapping
from datetime import UTC, datetime

from shammah_data.log import ExchangeLog
from shammah_data.rollout import Decision, judge_trial, named
from shammah_data.settings import Settings
from shammah_data.store import ModelStore, Pointer
from shammah_data.verdicts import Verdict, verdicts
from shammah_trainer.before import plan_of


def role_lines(store: ModelStore, log: ExchangeLog, settings: Settings) -> list[str]:
    """One line for each version, oldest first."""
    pointer = store.pointer()
    used = store.in_use()
    decision = None
    if pointer.champion is not None and log.exists():
        decision = judge_trial(pointer, log.outcomes(named(pointer), wait=10.0), plan_of(settings), datetime.now(UTC))
    ended = verdicts(store.root)
    return [_line(name, pointer, name in used, decision) + _ended(name, pointer, ended) for name in store.versions()]


def _ended(name: str, pointer: Pointer, ended: Mapping[str, Verdict]) -> str:
    """Why a version that was tried does not serve."""
    verdict = ended.get(name)
    if verdict is None or verdict.action != "rollback" or name in (pointer.champion, pointer.candidate):
        return ""
    return f": {verdict.told}"


def _line(name: str, pointer: Pointer, used: bool, decision: Decision | None) -> str:
    told = []
    if name == pointer.champion:
        told.append("champion")
        if pointer.pinned:
            told.append("pinned")
    elif name == pointer.previous:
        told.append("previous")
    if name == pointer.candidate:
        told.append(f"candidate for {pointer.candidate_share:.0%} of the sessions")
    if used:
        told.append("in use")
    line = f"{name} {', '.join(told)}".rstrip()
    trial = decision.trial if decision is not None and decision.version == name else None
    if decision is None or trial is None or not (trial.standing.audited or trial.role == "candidate"):
        return line
    verdict = {"promote": "; to be promoted", "rollback": "; to be rolled back", "none": "; has proved itself", "wait": ""}
    return f"{line}: {trial.told}{verdict[decision.action]}"
