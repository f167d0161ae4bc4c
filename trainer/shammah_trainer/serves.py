"""Who serves and why, and what the next night will do, in sentences. Reads the log and the store; changes and shows nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Manifest
from shammah_data.past import Past
from shammah_data.settings import Settings
from shammah_data.store import ModelStore, Pointer
from shammah_data.targets import beyond, held_to, percent
from shammah_data.text import counted
from shammah_data.verdicts import Verdict
from shammah_trainer.before import foreseen
from shammah_trainer.triggers import due

_ENDED = {"refused": "was refused", "failed": "failed", "unfinished": "has not ended"}


@dataclass(frozen=True)
class Standing:
    """Versions as they stand: those in the store, each with its manifest or with what is wrong with it, oldest first.

    `trials`: how those of some ended. `target`: the precision that local answers are held to, 0 for the version's own.
    `coming`: what the next night will do.
    """

    pointer: Pointer
    versions: Sequence[tuple[str, Manifest | str]]
    trials: dict[str, Verdict] = field(default_factory=dict)
    target: float = 0.0
    coming: str = ""

    def manifest(self, version: str | None) -> Manifest | str:
        """That of a version, or why there is none."""
        return dict(self.versions).get(version or "", f"models/{version} is gone: run `shammah-train rollback` or retrain")

    def roles(self, version: str) -> list[str]:
        """All that a version is."""
        pointer = self.pointer
        named = (
            ("champion", pointer.champion),
            ("previous", pointer.previous),
            (f"candidate, {pointer.candidate_share:.0%}", pointer.candidate),
        )
        pinned = ["pinned"] if pointer.pinned and version == pointer.champion else []
        return [role for role, name in named if name == version] + pinned


def next_night(store: ModelStore, log: ExchangeLog, settings: Settings) -> str:
    """Whether a run that began now would train, in a sentence. Raises LogError, ArtifactError."""
    if not log.exists():
        return f"The next night waits for exchanges: 0 of {settings.train.min_examples}."
    told = due(foreseen(store, log, settings), settings.train)
    if told.reasons:
        return f"The next night will train: {'; '.join(told.reasons)}."
    return f"As things are, the next night will not train: {told.waits}."


def why(standing: Standing, runs: Sequence[Past], maker: Past | None) -> list[str]:
    """Which version serves and why, in sentences. `maker`: the run that made it, where it is known; `runs`: newest first."""
    champion = standing.pointer.champion
    said = _without_champion(runs) if champion is None else _of_champion(standing, champion, runs, maker)
    return [*said, standing.coming] if standing.coming else said


def _without_champion(runs: Sequence[Past]) -> list[str]:
    said = ["Every question that needs a model goes to the teacher."]
    if not runs:
        return [*said, "shammah-train starts a run."]
    return [*said, f"The last run {_ended(runs[0])}"]


def _of_champion(standing: Standing, champion: str, runs: Sequence[Past], maker: Past | None) -> list[str]:
    pointer, found = standing.pointer, standing.manifest(champion)
    said = []
    if isinstance(found, str):
        said.append(f"It cannot be used, and every question that needs a model goes to the teacher: {found.rstrip('.')}.")
    if maker:
        said.append(f"The run of {maker.started:%Y-%m-%d %H:%M} UTC published {_arrows(maker.reason).rstrip('.')}.")
    later = [name for name, _ in standing.versions if int(name[1:]) > int(champion[1:]) and name != pointer.candidate]
    if pointer.pinned:
        since = f" {', '.join(later)} came later." if later else ""
        said.append(f"It is pinned: it serves whatever nights and audits say, until shammah-train unpin.{since}")
    elif later:
        ended = [f"{name} was {standing.trials[name].told.rstrip('.')}." for name in later if _rolled_back(standing, name)]
        unknown = [name for name in later if not _rolled_back(standing, name)]
        if unknown:
            said.append(f"It serves although {', '.join(unknown)} came later: somebody chose it, or a rollback returned to it.")
        said += ended
    if isinstance(found, Manifest):
        said += _threshold(found.graphs[0].calibration, standing.target)
    if pointer.candidate:
        said.append(f"{pointer.candidate} is tried on {pointer.candidate_share:.0%} of the sessions.")
    since_then = [run for run in runs if maker and run.id > maker.id and run.status in ("refused", "failed")]
    if since_then:
        count = counted(len(since_then), "run has", "runs have")
        said.append(f"{count} not been published since; the newest {_ended(since_then[0])}")
    return said


def _threshold(own: Calibration, target: float) -> list[str]:
    """From where on the version answers by itself."""
    held = held_to(own, target)
    if held.threshold > 1:
        aim = percent(held.target_precision)
        reason = beyond(own, target) or f"at no confidence were enough of its held-out answers right to promise {aim}"
        return [f"It gives no answer of its own: {reason}."]
    aim = percent(held.target_precision)
    said = [f"It answers from a confidence of {held.threshold:.2f} on, set so that {aim} of its answers are right."]
    if not held.certified:
        said.append("There were too few held-out answers to promise as much of answers to come.")
    if held.threshold != own.threshold:
        its = f"{own.threshold:.2f}, for {percent(own.target_precision)}" if own.threshold <= 1 else "none"
        said.append(f"routing.target_precision sets that; the counts on this page are those of its own threshold ({its}).")
    return said


def _rolled_back(standing: Standing, name: str) -> bool:
    return name in standing.trials and standing.trials[name].action == "rollback"


def _ended(run: Past) -> str:
    """How a run ended, with the first reason; the page tells the others further below."""
    first, *others = run.reasons or [run.reason]
    more = f" ({counted(len(others), 'more reason')} below)" if others else ""
    return f"{_ENDED.get(run.status, run.status)}: {_arrows(first).rstrip('.')}{more}."


def _arrows(reason: str) -> str:
    """One letter, lest a line breaks within it."""
    return reason.replace("->", "→")
