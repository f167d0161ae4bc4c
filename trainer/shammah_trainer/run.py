"""One night: log -> dataset -> fine-tune -> export -> evaluate -> calibrate -> gate -> publish. Knows the order only.

Nothing outside the run's own folder changes before the version is complete: a run killed at any moment leaves the log
and the published versions as they were.
"""

import dataclasses
import hashlib
import json
import shutil
import time
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
from shammah_data.manifest import CacheShape, Calibration, FileEntry, Golden, GraphEntry, Manifest
from shammah_data.settings import Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_trainer.base import DEFAULT, Base, make_base
from shammah_trainer.dataset import Dataset, build_dataset
from shammah_trainer.gate import Figures, mean_and_bound, refusals
from shammah_trainer.progress import Reporter

_GOLDEN_TOKENS = 8
# Long enough for any answer of the samples' kind; evaluation time grows with it.
_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Result:
    """How a run ended: `reason` is one line; `version` is the published one."""

    status: Literal["published", "refused", "skipped"]
    reason: str
    version: str | None = None
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


def train_once(home: Home, settings: Settings, reporter: Reporter, force: bool) -> Result:
    """Run one night.

    `force` trains below min_examples and without news. Raises ShammahError when the run cannot go on; its record says so.
    """
    private_folder(home.runs)
    lock = FileLock(home.runs / ".lock", timeout=0, mode=PRIVATE_FILE)
    try:
        lock.acquire()
    except Timeout:
        return Result("skipped", "another run is in progress")
    try:
        return _locked(home, settings, reporter, force)
    finally:
        lock.release()


def _locked(home: Home, settings: Settings, reporter: Reporter, force: bool) -> Result:
    log = ExchangeLog(home, wait=10.0)
    count = log.learnable_count()
    if count < settings.train.min_examples and not force:
        return Result("skipped", f"{count} of {settings.train.min_examples} exchanges")
    if not count:
        return Result("skipped", "0 exchanges to learn from")
    started = datetime.now(UTC)
    run_id = started.strftime("%Y%m%dT%H%M%S") + f"{started.microsecond // 1000:03d}Z"
    folder = private_folder(home.runs / run_id)
    run = _Run(home, settings.train, reporter, log, run_id, folder, started)
    try:
        result = run.execute(force)
    except ShammahError as error:
        log.record_run(RunRecord(run_id, started, datetime.now(UTC), "failed", str(error), None, run.figures))
        raise
    finally:
        _sweep(home.runs, settings.train.keep_versions)
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
    ) -> None:
        self._home = home
        self._train = train
        self._reporter = reporter
        self._log = log
        self._id = run_id
        self._folder = folder
        self._started = started
        self._store = ModelStore(home.models)
        self.figures: dict[str, Any] = {}

    def execute(self, force: bool) -> Result:
        sha256, rows, until = self._log.snapshot(self._folder / "snapshot.parquet")
        recipe = hashlib.sha256(json.dumps(asdict(self._train), sort_keys=True).encode()).hexdigest()
        self.figures |= {"snapshot_sha256": sha256, "snapshot_rows": rows, "recipe_sha256": recipe}
        if not force and (earlier := self._same_run_before()):
            shutil.rmtree(self._folder)
            return Result("skipped", f"nothing new since run {earlier}")
        say = self._reporter.say
        dataset = build_dataset(read_snapshot(self._folder / "snapshot.parquet"), self._train.seed)
        self.figures["dataset"] = dataset.card
        say(
            f"run {self._id}: {rows} exchanges in {dataset.groups} groups; {len(dataset.train)} to train on, held out "
            f"{len(dataset.heldout_phrasings)} phrasings and {len(dataset.heldout_groups)} of whole groups"
        )
        base = make_base(None if self._train.base == DEFAULT else self._train.base, self._home.bases, say)
        merged = self._folder / "merged"
        self._tune(base, dataset, merged)
        staging = self._store.staging()
        try:
            return self._finish(base, dataset, merged, staging, sha256, rows, until)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _same_run_before(self) -> str | None:
        for earlier in self._log.runs(1):
            same = all(earlier["figures"].get(key) == self.figures[key] for key in ("snapshot_sha256", "recipe_sha256"))
            if same and earlier["status"] != "failed":
                return str(earlier["id"])
        return None

    def _tune(self, base: Base, dataset: Dataset, merged: Path) -> None:
        import torch
        import transformers

        from shammah_runtime.engine.chat import ChatTokenizer
        from shammah_trainer.batches import Encoder
        from shammah_trainer.finetune import Recipe, finetune, load_model, mean_loss

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        train = self._train
        if train.threads:
            torch.set_num_threads(train.threads)
        tokenizer = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
        encoder = Encoder(tokenizer, base.stop_ids, train.max_length)
        heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
        model = load_model(base.folder)
        pad = base.stop_ids[0]
        self.figures["loss_before"] = mean_loss(model, encoder, heldout, pad)
        self._reporter.say(f"held-out loss before: {self.figures['loss_before']:.3f} nats per token")
        recipe = Recipe(
            train.method, train.lora_rank, train.epochs, train.learning_rate, train.batch_size, train.context_share, train.seed
        )
        began = time.monotonic()
        model, losses = finetune(model, encoder, dataset.train, recipe, pad, self._reporter.training)
        self._reporter.end()
        self.figures["train_seconds"] = round(time.monotonic() - began, 1)
        self.figures["epoch_losses"] = [round(loss, 4) for loss in losses]
        self.figures["loss_after_torch"] = mean_loss(model, encoder, heldout, pad)
        self._reporter.say(
            f"trained in {self.figures['train_seconds']:.0f} s; held-out loss after: {self.figures['loss_after_torch']:.3f}"
        )
        model.to(torch.bfloat16).save_pretrained(merged)
        for name in ("tokenizer.json", "base.json"):
            shutil.copyfile(base.folder / name, merged / name)

    def _finish(
        self, base: Base, dataset: Dataset, merged: Path, staging: Path, sha256: str, rows: int, until: datetime
    ) -> Result:
        graph, shape = self._export_and_evaluate(base, dataset, merged, staging)
        reasons = refusals(
            Figures(
                self.figures["loss_before"],
                self.figures["loss_after"],
                self.figures.pop("wins"),
                self.figures.pop("parity_reasons"),
            )
        )
        status: Literal["published", "refused"] = "refused"
        version = None
        if reasons:
            reason = "; ".join(reasons)
        else:

            def describe(name: str, files: tuple[FileEntry, ...]) -> Manifest:
                return Manifest(
                    version=name,
                    created=datetime.now(UTC).isoformat(timespec="seconds"),
                    run=self._id,
                    base=base.name,
                    base_sha256=base.sha256,
                    snapshot_sha256=sha256,
                    snapshot_rows=rows,
                    snapshot_until=until.isoformat(),
                    shape=shape,
                    chat=base.chat,
                    stop_ids=base.stop_ids,
                    graphs=(graph,),
                    files=files,
                    evaluation=self.figures,
                    oldest_runtime=metadata.version("shammah"),
                )

            shutil.copyfile(merged / "tokenizer.json", staging / "tokenizer.json")
            version = self._store.publish(staging, describe)
            self._store.promote(version)
            status, reason = "published", f"{version}: {summary(self.figures)}"
            self._store.collect(self._train.keep_versions)
        record = RunRecord(self._id, self._started, datetime.now(UTC), status, reason, version, self.figures)
        atomic_write(self._folder / "run.json", json.dumps(asdict(record), default=str, indent=1).encode())
        self._log.record_run(record)
        return Result(status, reason, version, self.figures)

    def _export_and_evaluate(self, base: Base, dataset: Dataset, merged: Path, staging: Path) -> tuple[GraphEntry, CacheShape]:
        from shammah_export.export import export_model
        from shammah_export.parity import measure_parity, within_limits
        from shammah_export.shape import ModelShape
        from shammah_runtime.engine.chat import ChatTokenizer
        from shammah_runtime.engine.model import Decoder
        from shammah_runtime.engine.session import GraphSession
        from shammah_trainer.batches import Encoder
        from shammah_trainer.calibrate import calibrate
        from shammah_trainer.evaluate import answer_all, likelihoods

        train, reporter = self._train, self._reporter
        config = json.loads((merged / "config.json").read_text(encoding="utf-8"))
        context = min(train.context, ModelShape.from_config(config).context)
        exported = export_model(merged, staging / train.precision, train.precision, context=context)
        self.figures["export"] = {"precision": train.precision, "bytes": exported.bytes, "nodes": exported.nodes}
        reporter.say(f"exported {train.precision}: {exported.bytes / 1e6:.0f} MB in {exported.seconds:.0f} s")
        tokenizer = ChatTokenizer(merged / "tokenizer.json", base.chat)
        encoder = Encoder(tokenizer, base.stop_ids, train.max_length)
        heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
        compared = [encoded for example in heldout[:8] if (encoded := encoder.encode(example)) is not None]
        parity_reasons: list[str] = []
        parity_figures: dict[str, float] = {}
        if compared:
            ids = [item.prompt + item.response for item in compared]
            parity = measure_parity(merged, staging / train.precision, ids, train.precision)
            parity_reasons = within_limits(parity)
            parity_figures = {
                "max_abs_difference": parity.max_abs_difference,
                "mean_kl": parity.mean_kl,
                "top1_agreement": parity.top1_agreement,
            }
            reporter.say(f"parity with torch: top-1 agreement {parity.top1_agreement:.1%}, KL {parity.mean_kl:.4f} nats")
        sizes = exported.shape
        shape = CacheShape(sizes.layers, sizes.kv_heads, sizes.head_dim, sizes.vocab, sizes.context)
        path = f"{train.precision}/model.onnx"
        session = GraphSession(staging / path, shape, "cpu", max(1, train.threads or 2))
        decoder = Decoder(session, tokenizer, base.stop_ids)
        # Groups that were never trained on say little about which answer belongs to which question; they are the judge
        # only where no group has phrasings to spare.
        judged = dataset.heldout_phrasings if len(dataset.heldout_phrasings) >= 8 else heldout
        liked = likelihoods(decoder, encoder, judged, train.seed, reporter.counter("score"))
        self.figures["loss_after"] = _merged_loss(decoder, encoder, heldout, liked.loss if judged is heldout else None)
        self.figures["wins"] = liked.wins
        if liked.wins:
            self.figures["wins_mean"], self.figures["wins_low"] = mean_and_bound(liked.wins)
        self.figures["parity_reasons"] = parity_reasons
        labelled = [("phrasing", e) for e in dataset.heldout_phrasings] + [("group", e) for e in dataset.heldout_groups]
        most = min(_ANSWER_TOKENS, context // 2)
        outcomes = answer_all(decoder, labelled, most, reporter.counter("answer"))  # type: ignore[arg-type]
        reporter.end()
        calibration = calibrate([(o.mean_logprob, o.right) for o in outcomes], train.target_precision)
        self._record_outcomes(outcomes, calibration)
        best = max(outcomes, key=lambda outcome: outcome.mean_logprob, default=None)
        asked = best.example.query if best else "Hello"
        prompt = tokenizer.prompt(asked)
        from shammah_runtime.engine.sampling import Decoding

        golden = tuple(token for token, _ in decoder.tokens(prompt, Decoding(max_tokens=_GOLDEN_TOKENS)))
        entry = GraphEntry(path, "cpu", train.precision, Golden(tuple(prompt), golden), calibration, parity_figures)
        return entry, shape

    def _record_outcomes(self, outcomes: list[Any], calibration: Calibration) -> None:
        from shammah_runtime.engine.confidence import logistic

        def accepted(outcome: Any) -> bool:
            sure = logistic(calibration.slope * outcome.mean_logprob + calibration.intercept)
            return sure >= calibration.threshold and outcome.finished

        counts = {}
        for kind in ("phrasing", "group"):
            of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
            taken = [outcome for outcome in of_kind if accepted(outcome)]
            counts[kind] = {
                "asked": len(of_kind),
                "right": sum(outcome.right for outcome in of_kind),
                "accepted": len(taken),
                "accepted_right": sum(outcome.right for outcome in taken),
            }
        self.figures["heldout"] = counts
        self.figures["milliseconds_median"] = _median([outcome.milliseconds for outcome in outcomes])
        lines = [
            {
                "kind": o.kind,
                "query": o.example.query,
                "reference": o.example.target,
                "answer": o.text,
                "mean_logprob": o.mean_logprob,
                "right": o.right,
                "accepted": accepted(o),
                "reason": o.reason,
            }
            for o in outcomes
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        atomic_write(self._folder / "heldout.jsonl", text.encode("utf-8", "replace"))


def summary(figures: dict[str, Any]) -> str:
    """One line on what was measured."""
    phrasing, group = figures["heldout"]["phrasing"], figures["heldout"]["group"]
    return (
        f"held-out loss {figures['loss_before']:.3f} -> {figures['loss_after']:.3f}; other phrasings right "
        f"{phrasing['right']}/{phrasing['asked']}, answered at its threshold {phrasing['accepted']} "
        f"({phrasing['accepted_right']} right); never trained on: answered {group['accepted']}/{group['asked']} "
        f"({group['accepted_right']} right)"
    )


def _merged_loss(decoder: Any, encoder: Any, heldout: Any, known: float | None) -> float:
    """Loss of the graph over the same exchanges as the loss before; measured anew unless it is known already."""
    if known is not None:
        return known
    total, count = 0.0, 0
    for example in heldout:
        encoded = encoder.encode(example)
        if encoded is not None:
            (scores,) = decoder.score(encoded.prompt, [encoded.response])
            total, count = total - sum(scores), count + len(scores)
    return total / count if count else float("nan")


def _median(values: list[float]) -> float | None:
    ordered = sorted(values)
    return round(ordered[len(ordered) // 2], 1) if ordered else None


def _sweep(runs: Path, keep: int) -> None:
    """Keep the weights and snapshots of the newest runs only; every run keeps its small records."""
    folders = sorted(path for path in runs.iterdir() if path.is_dir())
    for folder in folders[:-keep]:
        shutil.rmtree(folder / "merged", ignore_errors=True)
        (folder / "snapshot.parquet").unlink(missing_ok=True)
