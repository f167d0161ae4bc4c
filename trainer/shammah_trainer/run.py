"""One night: log -> dataset -> fine-tune -> export -> evaluate -> calibrate -> gate -> publish. Knows the order only.

Nothing outside the run's own folder changes before the version is complete: a run killed at any moment leaves the log
and the published versions as they were.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, atomic_write, private_folder
from shammah_data.errors import ShammahError
from shammah_data.exchange import RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.manifest import CacheShape, FileEntry, GraphEntry, Manifest
from shammah_data.settings import Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_data.tombstones import tombstones, versions_that_saw
from shammah_trainer import checkpoints
from shammah_trainer.base import DEFAULT, Base, make_base
from shammah_trainer.continuing import Beginning, begin, champion, lineage_after, runs_that_serve, split, tonight, without_known
from shammah_trainer.continuing import figures as start_figures
from shammah_trainer.dataset import Dataset, Example, build_dataset
from shammah_trainer.gate import Figures, refusals
from shammah_trainer.priority import Serving
from shammah_trainer.processes import Processes
from shammah_trainer.progress import Reporter
from shammah_trainer.record import summary, write_outcomes
from shammah_trainer.replay import replayed


@dataclass(frozen=True)
class Result:
    """How a run ended: `reason` is one line; `version` is the published one."""

    status: Literal["published", "refused", "skipped"]
    reason: str
    version: str | None = None
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


def train_once(home: Home, settings: Settings, reporter: Reporter, force: bool, processes: Processes | None = None) -> Result:
    """Run one night; of several processes, the first one's work.

    `force` trains below min_examples and without news. Raises ShammahError when the run cannot go on; its record says so.
    """
    private_folder(home.runs)
    lock = FileLock(home.runs / ".lock", timeout=0, mode=PRIVATE_FILE)
    try:
        lock.acquire()
    except Timeout:
        return Result("skipped", "another run is in progress")
    try:
        return _locked(home, settings, reporter, force, processes or Processes())
    finally:
        lock.release()


def _locked(home: Home, settings: Settings, reporter: Reporter, force: bool, processes: Processes) -> Result:
    log = ExchangeLog(home, settings, wait=10.0)
    count = log.learnable_count()
    if count < settings.train.min_examples and not force:
        return Result("skipped", f"{count} of {settings.train.min_examples} exchanges{_stale(home, log)}")
    if not count:
        return Result("skipped", f"0 exchanges to learn from{_stale(home, log)}")
    started = datetime.now(UTC)
    run_id = started.strftime("%Y%m%dT%H%M%S") + f"{started.microsecond // 1000:03d}Z"
    folder = private_folder(home.runs / run_id)
    run = _Run(home, settings.train, reporter, log, run_id, folder, started, processes)
    # Whatever ends the process before this is an interruption, and the next run goes on from the checkpoint.
    interrupted: Path | None = folder
    try:
        result = run.execute(force)
        interrupted = None
    except Exception as error:
        reason = str(error) if isinstance(error, ShammahError) else f"{type(error).__name__}: {error}"
        log.record_run(RunRecord(run_id, started, datetime.now(UTC), "failed", reason, None, run.figures))
        interrupted = None
        raise
    finally:
        checkpoints.sweep(home.runs, interrupted)
        _sweep(home.runs, settings.train.keep_versions, ModelStore(home.models))
    return result


def _stale(home: Home, log: ExchangeLog) -> str:
    """What to say beside a skipped run where a version still knows what was forgotten."""
    known = versions_that_saw(ModelStore(home.models), log.read(tombstones))
    return f"; {', '.join(known)} may know what was forgotten: --force trains without it" if known else ""


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
        processes: Processes,
    ) -> None:
        self._home = home
        self._train = train
        self._reporter = reporter
        self._log = log
        self._id = run_id
        self._folder = folder
        self._started = started
        self._processes = processes
        self._store = ModelStore(home.models)
        self._trained_on: set[str] = set()
        self.figures: dict[str, Any] = {}

    def execute(self, force: bool) -> Result:
        import psutil

        serving = Serving(psutil.process_iter, time.monotonic)
        sha256, rows, until = self._log.snapshot(self._folder / "snapshot.parquet")
        recipe = hashlib.sha256(json.dumps(asdict(self._train), sort_keys=True).encode()).hexdigest()
        self.figures |= {"snapshot_sha256": sha256, "snapshot_rows": rows, "recipe_sha256": recipe}
        stale = versions_that_saw(self._store, self._log.read(tombstones))
        if not force and not stale and (earlier := self._same_run_before()):
            shutil.rmtree(self._folder)
            return Result("skipped", f"nothing new since run {earlier}")
        say = self._reporter.say
        found = read_snapshot(self._folder / "snapshot.parquet")
        self._trained_on = {str(row["id"]) for row in found}
        dataset = build_dataset(found, self._train.seed)
        replay = replayed(dataset) if self._train.replay else ()
        self.figures["dataset"] = {**dataset.card, "replay": len(replay)}
        base = make_base(None if self._train.base == DEFAULT else self._train.base, self._home.bases, say)
        dataset, beginning = self._begin(base, dataset, stale)
        say(
            f"run {self._id}: {rows} exchanges in {dataset.groups} groups; {len(dataset.train)} to train on (and {len(replay)} "
            "everyday ones), held out "
            f"{len(dataset.heldout_phrasings)} phrasings and {len(dataset.heldout_groups)} of whole groups"
        )
        merged = self._folder / "merged"
        self._tune(base, dataset, beginning, replay, serving.busy())
        staging = self._store.staging()
        try:
            return self._finish(base, dataset, merged, staging, until)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _same_run_before(self) -> str | None:
        for earlier in self._log.runs(1):
            same = all(earlier["figures"].get(key) == self.figures[key] for key in ("snapshot_sha256", "recipe_sha256"))
            gone = earlier["status"] == "published" and earlier["version"] not in self._store.versions()
            if same and not gone and earlier["status"] != "failed":
                return str(earlier["id"])
        return None

    def _begin(self, base: Base, dataset: Dataset, stale: Sequence[str]) -> tuple[Dataset, Beginning]:
        """Decide what to start from; what the champion was trained on is not held out."""
        found = champion(self._store, self._home.runs, stale)
        beginning = begin(self._train.start, base.sha256, found, self._trained_on, self._train.restart_nights)
        if beginning.earlier is None:
            return dataset, beginning
        learned = beginning.earlier.lineage.learned
        narrowed = without_known(dataset, learned)
        if narrowed is None:
            return dataset, Beginning(None, "the champion was trained on too much of what is held out today")
        if not split(narrowed.train, learned)[0]:
            return dataset, Beginning(None, "there is nothing new")
        return narrowed, beginning

    def _tune(
        self, base: Base, dataset: Dataset, beginning: Beginning, replay: tuple[Example, ...], serving_busy: bool
    ) -> None:
        from shammah_trainer.preferences import pairs
        from shammah_trainer.tune import Task, prepare, tune

        earlier = beginning.earlier
        examples, older = tonight(dataset.train, earlier.lineage.learned if earlier else {}, self._train.seed)
        lineage = lineage_after(earlier, examples, len(self._trained_on))
        lineage.write(self._folder)
        self.figures["start"] = start_figures(beginning, lineage, len(examples) - older, older)
        self._reporter.say(
            f"starting from {earlier.name if earlier else 'the base'} ({beginning.reason}): {len(examples) - older} exchanges "
            f"are new, {older} older"
        )
        heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
        start, name = (earlier.folder, earlier.name) if earlier else (base.folder, base.sha256)
        given = pairs(self._log.rejected(), dataset.train)
        task = Task(base, start, name, (*examples, *replay), heldout, dataset.heldout_phrasings, given)
        order, figures = prepare(task, self._folder, self._train, self._processes.count, serving_busy, self._reporter)
        self.figures |= figures
        self._processes.share(order)
        self.figures |= tune(order, self._reporter, leads=True)

    def _finish(self, base: Base, dataset: Dataset, merged: Path, staging: Path, until: datetime) -> Result:
        from shammah_trainer.assess import assess

        found = assess(base, dataset, merged, staging, self._train, self.figures["trained_through"], self._reporter)
        self.figures |= found.figures
        write_outcomes(self._folder / "heldout.jsonl", found.outcomes, found.graph.calibration)
        reasons = refusals(
            Figures(self.figures["loss_before"], self.figures["loss_after"], found.matching, found.parity_reasons)
        )
        forgotten = self._log.read(tombstones, wait=10.0)
        if meanwhile := sum(each.exchange_id in self._trained_on for each in forgotten):
            reasons.append(f"{meanwhile} of its exchanges were forgotten while it ran: run again")
        status: Literal["published", "refused"] = "refused"
        version = None
        if reasons:
            reason = "; ".join(reasons)
        else:
            shutil.copyfile(merged / "tokenizer.json", staging / "tokenizer.json")
            describe = self._describe(base, found.graph, found.shape, until)
            version = self._store.publish(staging, describe)
            self._store.promote(version)
            status, reason = "published", f"{version}: {summary(self.figures)}"
            if gone := self._store.discard(versions_that_saw(self._store, forgotten)):
                reason += f"; deleted {', '.join(gone)}, which may have known what was forgotten"
            self._store.collect(self._train.keep_versions)
        record = RunRecord(self._id, self._started, datetime.now(UTC), status, reason, version, self.figures)
        atomic_write(self._folder / "run.json", json.dumps(asdict(record), default=str, indent=1).encode())
        self._log.record_run(record)
        return Result(status, reason, version, self.figures)

    def _describe(
        self, base: Base, graph: GraphEntry, shape: CacheShape, until: datetime
    ) -> Callable[[str, tuple[FileEntry, ...]], Manifest]:
        return lambda name, files: Manifest(
            version=name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            run=self._id,
            base=base.name,
            base_sha256=base.sha256,
            snapshot_sha256=self.figures["snapshot_sha256"],
            snapshot_rows=self.figures["snapshot_rows"],
            snapshot_until=until.isoformat(),
            shape=shape,
            chat=base.chat,
            stop_ids=base.stop_ids,
            graphs=(graph,),
            files=files,
            evaluation=self.figures,
            oldest_runtime=metadata.version("shammah"),
            context_examples=self.figures["dataset"]["train_with_context"],
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
