"""One night: log -> dataset -> fine-tune -> export -> evaluate -> calibrate -> gate -> publish. Knows the order only.

Nothing outside the run's own folder changes before the version is complete: a run killed at any moment leaves the log
and the published versions as they were.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, atomic_write, private_folder
from shammah_data.errors import LogError, ShammahError
from shammah_data.exchange import RunRecord
from shammah_data.exclusions import left_out_of
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.manifest import CacheShape, FileEntry, GraphEntry, Manifest, Retrieval
from shammah_data.past import RECORD, unrecorded
from shammah_data.settings import Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_data.text import counted
from shammah_data.tombstones import tombstones, versions_that_saw
from shammah_export.tokenizer import write_tokenizer
from shammah_trainer import checkpoints
from shammah_trainer.base import Base, check_base, wanted_base
from shammah_trainer.before import recipe_of, settle, state_of
from shammah_trainer.continuing import Beginning, begin, champion, lineage_after, runs_that_serve, split, tonight, without_known
from shammah_trainer.continuing import figures as start_figures
from shammah_trainer.curate import without_rejected
from shammah_trainer.dataset import Dataset, Example, build_dataset
from shammah_trainer.equipping import could_hold_out, equip, holds_out, lacks
from shammah_trainer.gate import Check, Figures, checks
from shammah_trainer.likeness import LEXICAL, Likeness, likeness_of
from shammah_trainer.priority import Serving
from shammah_trainer.processes import Processes
from shammah_trainer.progress import Reporter
from shammah_trainer.record import local, summary, write_outcomes
from shammah_trainer.replay import replayed
from shammah_trainer.triggers import due, still_serving


@dataclass(frozen=True)
class Result:
    """How a run ended: `reason` is one line; `version` is the published one."""

    status: Literal["published", "refused", "skipped"]
    reason: str
    version: str | None = None
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Stages:
    """What a run leaves to others, and a test may have done otherwise: how the rows are split, how weights become a graph."""

    split: Callable[..., Dataset] = build_dataset
    export: Callable[..., Any] | None = None


def train_once(
    home: Home,
    settings: Settings,
    reporter: Reporter,
    force: bool,
    stages: Stages = Stages(),
    processes: Processes | None = None,
) -> Result:
    """Run one night; of several processes, the first one's work.

    `force` trains below min_examples and without news. Raises ShammahError when the run cannot go on; its record says so.
    """
    lock = _lock(home)
    try:
        lock.acquire()
    except Timeout:
        return Result("skipped", "another run is in progress")
    try:
        return _locked(home, settings, reporter, force, stages, processes or Processes())
    finally:
        lock.release()


def in_progress(home: Home) -> bool:
    """Whether a process is in the middle of a run."""
    try:
        with _lock(home):
            return False
    except Timeout:
        return True


def _lock(home: Home) -> FileLock:
    return FileLock(private_folder(home.runs) / ".lock", timeout=0, mode=PRIVATE_FILE)


def _locked(home: Home, settings: Settings, reporter: Reporter, force: bool, stages: Stages, processes: Processes) -> Result:
    log = ExchangeLog(home, settings, wait=10.0)
    store = ModelStore(home.models)
    for record in unrecorded(home, log):
        log.record_run(record)
    trial = settle(store, log, settings, reporter.say)
    # Nobody needs a version that may know what was forgotten and does not serve.
    stale = versions_that_saw(store, log.read(tombstones))
    if stale and (gone := store.discard(stale)):
        reporter.say(f"deleted {', '.join(gone)}, which may have known what was forgotten")
    found = state_of(store, log, settings, trial)
    if not found.learnable:
        known = still_serving(found.stale, found.pinned)
        return Result("skipped", f"0 exchanges to learn from{known}" if force else due(found, settings.train).waits)
    told = due(found, settings.train)
    if not (told.reasons or force):
        return Result("skipped", told.waits)
    if told.reasons:
        reporter.say(f"due: {'; '.join(told.reasons)}")
    # This one holds the lock of all runs: what is half made is of killed ones, and as large as a version each time.
    store.sweep()
    started = datetime.now(UTC)
    run_id = started.strftime("%Y%m%dT%H%M%S") + f"{started.microsecond // 1000:03d}Z"
    folder = private_folder(home.runs / run_id)
    run = _Run(home, settings.train, reporter, log, run_id, folder, started, stages, processes)
    # Whatever ends the process before this is an interruption, and the next run goes on from the checkpoint.
    interrupted: Path | None = folder
    try:
        result = run.execute(force)
        interrupted = None
    except (Exception, SystemExit) as error:
        processes.ignore()
        reason = str(error) if isinstance(error, ShammahError) else f"{type(error).__name__}: {error}"
        if processes.lost(error):
            ended = "SIGTERM" if isinstance(error, SystemExit) else reason.splitlines()[0]
            reason = f"ended by {ended}: another process of the run failed, or it was told to end"
        log.record_run(RunRecord(run_id, started, datetime.now(UTC), "failed", reason, None, run.figures))
        interrupted = folder if processes.lost(error) else None
        raise
    finally:
        checkpoints.sweep(home.runs, interrupted)
        _sweep(home.runs, settings.train.keep_versions, ModelStore(home.models))
    return result


class _Run:
    def __init__(
        self,
        home: Home,
        train: TrainSettings,
        reporter: Reporter,
        log: ExchangeLog,
        run_id: str,
        folder: Path,
        started: datetime,
        stages: Stages,
        processes: Processes,
    ) -> None:
        self._home = home
        self._train = train
        self._reporter = reporter
        self._log = log
        self._id = run_id
        self._folder = folder
        self._started = started
        self._stages = stages
        self._processes = processes
        self._store = ModelStore(home.models)
        self._made = started
        self._trained_on: set[str] = set()
        self._earlier: tuple[str, ...] = ()
        self.figures: dict[str, Any] = {}

    def execute(self, force: bool) -> Result:
        import psutil

        check_base(self._train.base, self._home)
        serving = Serving(psutil.process_iter, time.monotonic)
        sha256, rows, until = self._log.snapshot(self._folder / "snapshot.parquet")
        self.figures |= {"snapshot_sha256": sha256, "snapshot_rows": rows, "recipe_sha256": recipe_of(self._train)}
        self.figures["snapshot_until"] = until.isoformat()
        stale = versions_that_saw(self._store, self._log.read(tombstones))
        if not force and (earlier := self._same_run_before(stale)):
            shutil.rmtree(self._folder)
            known = still_serving(stale, self._store.pointer().pinned)
            return Result("skipped", f"nothing new since run {earlier}{known}")
        say = self._reporter.say
        found = read_snapshot(self._folder / "snapshot.parquet")
        found, called_bad = without_rejected(found, self._log.rejected())
        self._trained_on = {str(row["id"]) for row in found}
        left_out = self._log.read(lambda session: left_out_of(session, until), wait=10.0)
        left_out = {**left_out, "rated bad when given again": called_bad} if called_bad else left_out
        dataset, likeness = self._split(found, left_out)
        if dataset is None:
            shutil.rmtree(self._folder)
            return Result(
                "skipped", f"nothing can be held out of so few exchanges ({rows}), and nothing else shows what it learned"
            )
        replay = replayed(dataset) if self._train.replay else ()
        self.figures["dataset"] = {**dataset.card, "replay": len(replay), "likeness": likeness.name}
        base = wanted_base(self._train.base, self._home, say)
        dataset, beginning = self._begin(base, dataset, stale, {str(row["id"]): row["query"] for row in found})
        say(
            f"run {self._id}: {counted(rows, 'exchange')} in {counted(dataset.groups, 'group')}; "
            f"{len(dataset.train)} to train on (and {len(replay)} everyday ones), held out "
            f"{counted(len(dataset.heldout_phrasings), 'phrasing')} and {len(dataset.heldout_groups)} of whole groups"
        )
        merged = self._folder / "merged"
        self._tune(base, dataset, beginning, replay, serving.busy())
        staging = self._store.staging()
        try:
            return self._finish(base, dataset, found, merged, staging, until)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _split(self, rows: list[dict[str, Any]], left_out: Mapping[str, int]) -> tuple[Dataset | None, Likeness]:
        """The split, by the home's embedder, which is made if need be; None where it holds nothing out."""
        train, say = self._train, self._reporter.say
        if lacks(self._home, train.embedder) and not could_hold_out(self._stages.split, rows, train.seed):
            return None, LEXICAL
        equip(self._home, train.embedder, say)
        likeness = likeness_of(self._home, train.threads or 2, say)
        dataset = self._stages.split(rows, train.seed, likeness, left_out)
        return dataset if holds_out(dataset) else None, likeness

    def _same_run_before(self, stale: Sequence[str]) -> str | None:
        """The last run, if this one could only come to the same end."""
        for earlier in self._log.runs(1):
            if stale and earlier["status"] != "refused" and not self._store.pointer().pinned:
                return None  # the version that replaces the one that knows what was forgotten is still to come
            same = all(earlier["figures"].get(key) == self.figures[key] for key in ("snapshot_sha256", "recipe_sha256"))
            gone = earlier["status"] == "published" and earlier["version"] not in self._store.versions()
            if same and not gone and earlier["status"] != "failed":
                return str(earlier["id"])
        return None

    def _begin(
        self, base: Base, dataset: Dataset, stale: Sequence[str], queries: Mapping[str, str]
    ) -> tuple[Dataset, Beginning]:
        """Decide what to start from; what the champion was trained on is not held out. `queries`: of the snapshot, by id."""
        found = champion(self._store, self._home.runs, stale)
        last = next(iter(self._log.runs(1)), None)
        beginning = begin(self._train.start, base.sha256, found, self._trained_on, self._train.restart_nights, last)
        if beginning.predecessor is None:
            return dataset, beginning
        learned = beginning.predecessor.lineage.learned
        earlier = {one: queries[one] for one in learned}
        narrowed = without_known(dataset, earlier)
        if narrowed is None:
            return dataset, Beginning(None, "the champion was trained on too much of what is held out today")
        if not split(narrowed.train, learned)[0]:
            return dataset, Beginning(None, "there is nothing new")
        self._earlier = tuple(earlier.values())
        return narrowed, beginning

    def _tune(
        self, base: Base, dataset: Dataset, beginning: Beginning, replay: tuple[Example, ...], serving_busy: bool
    ) -> None:
        from shammah_trainer.preferences import pairs
        from shammah_trainer.tune import Task, prepare, tune

        predecessor = beginning.predecessor
        examples, older = tonight(dataset.train, predecessor.lineage.learned if predecessor else {}, self._train.seed)
        lineage = lineage_after(predecessor, examples, len(self._trained_on))
        lineage.write(self._folder)
        self.figures["start"] = start_figures(beginning, lineage, len(examples) - older, older)
        self._reporter.say(
            f"starting from {predecessor.name if predecessor else 'the base'} ({beginning.reason}): {len(examples) - older} "
            f"exchanges are new, {older} older"
        )
        heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
        start, name = (predecessor.folder, predecessor.name) if predecessor else (base.folder, base.sha256)
        given = pairs(self._log.rejected(), dataset.train)
        task = Task(base, start, name, (*examples, *replay), heldout, dataset.heldout_phrasings, given)
        order, figures = prepare(task, self._folder, self._train, self._processes.count, serving_busy, self._reporter)
        if too_long := figures.pop("too_long"):
            self.figures["dataset"]["excluded"]["longer than max_length"] = too_long
        self.figures |= figures
        self._processes.share(order)
        self.figures |= tune(order, self._reporter, leads=True)
        self._processes.part()

    def _finish(
        self, base: Base, dataset: Dataset, rows: list[dict[str, Any]], merged: Path, staging: Path, until: datetime
    ) -> Result:
        from shammah_trainer.assess import assess
        from shammah_trainer.beside import beside_champion, remember
        from shammah_trainer.leak import leaks

        stages = [] if self._stages.export is None else [self._stages.export]
        through = self.figures["trained_through"]
        found = assess(base, dataset, merged, staging, self._train, through, self._reporter, self._home.embedder, *stages)
        self.figures |= found.figures
        stale = versions_that_saw(self._store, self._log.read(tombstones, wait=10.0))
        beside = beside_champion(self._home, self._store, self._train, dataset, rows, found, stale, self._reporter)
        self.figures |= beside.figures
        calibration, heldout = found.graphs[0].calibration, self._folder / "heldout.jsonl"
        write_outcomes(heldout, found.outcomes, calibration, beside.before, beside.older, found.repeated)
        outside = self.figures["heldout"]["outside"]
        looked_at = checks(
            Figures(
                self.figures["loss_before"],
                self.figures["loss_after"],
                found.matching,
                found.parity_reasons,
                self.figures["loss_after_torch"],
                leaks(dataset, self._earlier),
                (local(outside)[0], outside["asked"]),
                beside.against,
                sum(loss is not None for loss in found.losses),
            )
        )
        # A version is as old as this look: what is forgotten from now on, it knows.
        self._made = datetime.now(UTC)
        forgotten = self._log.read(tombstones, wait=10.0)
        if meanwhile := sum(each.exchange_id in self._trained_on for each in forgotten):
            reason = f"{meanwhile} of its exchanges {'was' if meanwhile == 1 else 'were'} forgotten while it ran: run again"
            looked_at.append(Check("forgotten", reason, reason))
            self.figures["run_again"] = True
        self.figures["gate"] = [asdict(check) for check in looked_at]
        for check in looked_at:
            self._reporter.say(f"{'ok    ' if check.passed else 'REFUSE'} {check.name}: {check.reason or check.told}")
        status: Literal["published", "refused"] = "refused"
        version = None
        reason = "; ".join(check.reason for check in looked_at if check.reason is not None)
        if not reason:
            write_tokenizer(merged / "tokenizer.json", staging / "tokenizer.json")
            describe = self._describe(base, found.graphs, found.retrieval, found.shape, until)
            version = self._store.publish(staging, describe)
            remember(self._home, self._store, version, dataset, found)
            stale = versions_that_saw(self._store, forgotten)
            role = self._roll_out(version, stale)
            status, reason = "published", f"{version}: {summary(self.figures)}{role}"
            if gone := self._store.discard(stale):
                reason += f"; deleted {', '.join(gone)}, which may have known what was forgotten"
            self._store.collect(self._train.keep_versions)
        record = RunRecord(self._id, self._started, datetime.now(UTC), status, reason, version, self.figures)
        atomic_write(self._folder / RECORD, json.dumps(asdict(record), default=str, indent=1).encode())
        try:
            self._log.record_run(record)
        except LogError as error:
            reason += f"; the next run puts its record into the log, which could not take it now ({error})"
        return Result(status, reason, version, self.figures)

    def _roll_out(self, version: str, stale: Sequence[str]) -> str:
        """Give a version that passed its role; what there is to say of it."""
        pointer = self._store.pointer()
        if pointer.pinned:
            return f"; {pointer.champion} is pinned and goes on serving"
        # A champion that knows what was forgotten must go now, not after a trial.
        if self._train.candidate_share and pointer.champion is not None and pointer.champion not in stale:
            self._store.set_candidate(version, self._train.candidate_share)
            return f"; on trial beside {pointer.champion} in {self._train.candidate_share:.0%} of the sessions"
        self._store.promote(version)
        return ""

    def _describe(
        self, base: Base, graphs: tuple[GraphEntry, ...], retrieval: Retrieval | None, shape: CacheShape, until: datetime
    ) -> Callable[[str, tuple[FileEntry, ...]], Manifest]:
        return lambda name, files: Manifest(
            version=name,
            created=self._made.isoformat(timespec="seconds"),
            run=self._id,
            base=base.name,
            base_sha256=base.sha256,
            snapshot_sha256=self.figures["snapshot_sha256"],
            snapshot_rows=self.figures["snapshot_rows"],
            snapshot_until=until.isoformat(),
            shape=shape,
            chat=base.chat,
            stop_ids=base.stop_ids,
            graphs=graphs,
            files=files,
            evaluation=self.figures,
            oldest_runtime=metadata.version("shammah"),
            context_examples=self.figures["dataset"]["train_with_context"],
            retrieval=retrieval,
        )


def _sweep(runs: Path, keep: int, store: ModelStore) -> None:
    """Keep the weights and snapshots of the newest runs, and of those whose versions serve; every run keeps its records."""
    folders = sorted(path for path in runs.iterdir() if path.is_dir())
    serving = runs_that_serve(store)
    for folder in folders[:-keep]:
        if folder.name in serving:
            continue
        for weights in ("merged", "learned"):
            shutil.rmtree(folder / weights, ignore_errors=True)
        for record in ("snapshot.parquet", "lineage.json"):
            (folder / record).unlink(missing_ok=True)
