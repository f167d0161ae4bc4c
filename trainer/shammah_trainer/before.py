"""What a run finds when it starts: trials settled, news counted, the recipe. Reads the log and the store."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from shammah_data.auditing import Judged, suspicions
from shammah_data.log import ExchangeLog
from shammah_data.rollout import Plan, decide, judge_trial, named
from shammah_data.settings import Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_data.targets import percent
from shammah_data.text import counted
from shammah_data.tombstones import tombstones, versions_that_saw
from shammah_trainer.base import source_files
from shammah_trainer.triggers import WATCHED_ANSWERS, WATCHED_AUDITS, LastRun, State

# They say when and how quietly to run and what becomes of the result, not what is trained.
_NO_RECIPE = frozenset(
    "min_examples new_examples max_age_days local_share_drop candidate_share trial_days threads keep_versions nice max_minutes "
    "checkpoint_seconds".split()
)
# All of them: bets made anew on a window would be a test for each of its places.
_EVERY_AUDIT = 1_000_000


def plan_of(settings: Settings) -> Plan:
    """How trials are decided by these settings."""
    return Plan(settings.target_precision, settings.train.trial_days)


def recipe_of(train: TrainSettings) -> str:
    """A digest of the settings that change what is trained, and of the base where it is a folder or a file."""
    kept = {name: value for name, value in asdict(train).items() if name not in _NO_RECIPE}
    base = Path(train.base)
    if base.exists():
        kept["base_files"] = source_files(base)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def settle(store: ModelStore, log: ExchangeLog, settings: Settings, say: Callable[[str], None]) -> str | None:
    """Decide what audits can decide. Returns what is still on trial as a candidate, in words."""
    pointer = store.pointer()
    if pointer.champion is None or not log.exists():
        return None
    decision = decide(store, log.outcomes(named(pointer)), plan_of(settings))
    if decision.action in ("promote", "rollback"):
        say(f"{'promoted' if decision.action == 'promote' else 'rolled back'}: {decision.reason}")
        return None
    if decision.action == "wait" and decision.trial is not None and decision.trial.role == "candidate":
        return f"{decision.version}, {decision.reason}"
    return None


def foreseen(store: ModelStore, log: ExchangeLog, settings: Settings) -> State:
    """What a run that began now would find once it had settled the trials; settles none. Raises LogError, ArtifactError."""
    pointer = store.pointer()
    trial = None
    if pointer.champion is not None:
        decision = judge_trial(pointer, log.outcomes(named(pointer)), plan_of(settings), datetime.now(UTC))
        if decision.action == "wait" and decision.trial is not None and decision.trial.role == "candidate":
            trial = f"{decision.version}, {decision.reason}"
    return state_of(store, log, settings, trial)


def state_of(store: ModelStore, log: ExchangeLog, settings: Settings, trial: str | None) -> State:
    """Everything that `due` looks at."""
    now = datetime.now(UTC).replace(tzinfo=None)
    learnable = log.learnable_count()
    last = None
    new, gone = learnable, False
    for row in log.runs(1):
        figures = row["figures"]
        last = LastRun(
            str(row["id"]),
            row["status"] == "failed",
            row["finished"],
            figures.get("recipe_sha256"),
            bool(figures.get("run_again")),
        )
        since = figures.get("snapshot_until")
        new = log.news(datetime.fromisoformat(since) if since else row["started"])
        gone = row["status"] == "published" and row["version"] not in store.versions()
    return State(
        learnable=learnable,
        new=new,
        last=last,
        local=log.local_share(WATCHED_ANSWERS),
        slipped=_slipped(store, log, settings.target_precision, last.finished if last else None),
        recipe=recipe_of(settings.train),
        gone=gone,
        stale=versions_that_saw(store, log.read(tombstones)),
        trial=trial,
        now=now,
        pinned=store.pointer().pinned,
    )


def _slipped(store: ModelStore, log: ExchangeLog, target: float, since: datetime | None) -> str | None:
    """What audits say of the champion where, since the last run, they were evidence enough that it is below the target."""
    champion = store.pointer().champion
    if champion is None:
        return None
    # What it would have given to a rival's query is no answer of its own.
    given = [each for each in log.outcomes([champion], _EVERY_AUDIT) if each.given]
    found = suspicions([Judged(None, each.agrees, each.probability) for each in given], target)
    recent = [suspected for suspected, each in zip(found, given, strict=True) if since is None or each.audited_at > since]
    # The last one of those before is what stands where none came since.
    if not any(recent or found[-1:]):
        return None
    newest = given[-WATCHED_AUDITS:]
    count = sum(not each.agrees for each in newest)
    was = "was" if count == 1 else "were"
    wrong = f"{count} of the newest {counted(len(newest), 'audited answer')} of {champion} {was} wrong"
    return f"the precision fell below {percent(target)}: {wrong}"
