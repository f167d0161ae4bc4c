"""One page that shows what the nights did, as HTML without script or network. Knows how a page is put together and written.

All text that may come from users is stripped of control characters and directions, then escaped by the template.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from shammah_data import copies
from shammah_data.durable import atomic_write
from shammah_data.errors import ArtifactError, InputError, LogError
from shammah_data.home import Home
from shammah_data.learning import learning_curve
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Manifest
from shammah_data.pages import Table, Tile, environment, style
from shammah_data.past import KINDS, Past, past_runs
from shammah_data.present import size
from shammah_data.session import literal
from shammah_data.settings import Settings
from shammah_data.shares import Share
from shammah_data.store import ModelStore
from shammah_data.text import counted
from shammah_data.verdicts import verdicts
from shammah_trainer import figures
from shammah_trainer.history import HeldOut, heldout_answers
from shammah_trainer.screen import KIND_NAMES, flat
from shammah_trainer.serves import Standing, next_night, why

_FOLDER = Path(__file__).parent
# What tells a report from another file, within so many bytes of its beginning.
_TITLE, _HEAD = "<title>Shammah: what the nights did</title>", 4096
_MOST_RUNS = 40
_MOST_LOSSES = 2
_FIRST_FAILED = 5
_MOST_ANSWERS = 25
_LONGEST = 400


@dataclass(frozen=True)
class Known:
    """Everything that the page is made from. `subject` is the run whose answers are shown: the champion's where it is known."""

    runs: Sequence[Past]
    standing: Standing
    subject: Past | None
    calibration: Calibration | None
    answers: Sequence[HeldOut]

    @property
    def maker(self) -> Past | None:
        """The run that made the champion."""
        champion = self.standing.pointer.champion
        return self.subject if self.subject and champion and self.subject.version == champion else None


def may_write(path: Path) -> None:
    """Raise InputError where a page cannot be put: no folder, no file, or a file that is no report and would be lost."""
    literal(path)  # else it could not be noted
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent}: no such folder")
    if not os.path.lexists(path):
        return
    if path.is_file():
        try:
            with path.open("rb") as file:
                if _TITLE.encode() in file.read(_HEAD):
                    return
        except OSError as error:
            raise InputError(f"{path}: is there already and cannot be read: {error.strerror}") from error
    raise InputError(f"{path}: is there already and is no report: name another file")


def write_report(home: Home, log: ExchangeLog, path: Path, now: datetime, settings: Settings = Settings()) -> None:
    """Write the page, whole or not at all, for its owner only; the log notes it, so that `forget` finds it.

    What is at `path` is replaced (see `may_write`). Raises LogError, ArtifactError, InputError.
    """
    page = render(gather(home, log, settings), now)
    try:
        atomic_write(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if log.exists():
        try:
            log.change(lambda session: copies.note(session, path, "report"))
        except LogError:
            path.unlink()  # `forget` would never find it
            raise


def gather(home: Home, log: ExchangeLog, settings: Settings = Settings()) -> Known:
    """What the log, the store and the folders of the runs tell. Raises LogError, ArtifactError."""
    runs = past_runs(home, log)
    store = ModelStore(home.models)
    versions = [(name, _manifest(store, name)) for name in store.versions()]
    standing = Standing(
        store.pointer(), versions, verdicts(store.root), settings.routing.target_precision, next_night(store, log, settings)
    )
    champion = standing.pointer.champion
    serving = standing.manifest(champion)
    if isinstance(serving, Manifest):
        subject = next((run for run in runs if run.id == serving.run), None)
    else:
        subject = next((run for run in runs if champion and run.version == champion), None)
    if subject is None:
        subject = next((run for run in runs if run.heldout("right")), None)
    made = standing.manifest(subject.version) if subject else ""
    own = isinstance(made, Manifest) and subject is not None and made.run == subject.id
    calibration = made.graphs[0].calibration if own and isinstance(made, Manifest) else None
    answers = heldout_answers(home, subject, calibration) if subject else []
    return Known(runs, standing, subject, calibration, answers)


def render(known: Known, now: datetime) -> str:
    """The page as text."""
    css = style(_FOLDER, "report.css")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    subject, trials = known.subject, known.standing.trials
    losses = [one for one in (figures.loss_curve(run, n) for n, run in enumerate(known.runs)) if one]
    threshold = _threshold(known)
    newest = next((run for run in known.runs if run.at("dataset")), None)
    return (
        environment(_FOLDER)
        .get_template("report.html.j2")
        .render(
            style=Markup(css),
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            made=f"{now:%Y-%m-%d %H:%M} UTC",
            champion=known.standing.pointer.champion,
            why=why(known.standing, known.runs, known.maker),
            tiles=_tiles(known, threshold),
            learning=learning_curve(known.runs),
            subject=subject,
            kinds=subject and figures.by_kind(subject),
            groups=subject and figures.by_group(subject, known.answers),
            confidence=[
                one for one in (figures.reliability_plot(known.answers), figures.risk_plot(known.answers, threshold)) if one
            ],
            losses=losses[:_MOST_LOSSES],
            newest=newest,
            checked=_checked(known),
            compared=_compared(known.runs),
            split=newest and figures.split(newest),
            left_out=newest and figures.left_out(newest),
            made_of=figures.made_of(newest) if newest else [],
            versions=_versions(known),
            trials=[f"{name}: {trials[name].told}" for name, _ in reversed(known.standing.versions) if name in trials],
            failed=[run for run in known.runs if run.status != "published"][:_MOST_RUNS],
            first_failed=_FIRST_FAILED,
            runs=_runs(known.runs[:_MOST_RUNS]),
            total=len(known.runs),
            bluffed=_wrong("Wrong, and sure enough to be given", [one for one in known.answers if one.bluffed]),
            missed=_wrong("Wrong, and withheld", [one for one in known.answers if one.missed]),
            answers=len(known.answers),
            gone=_gone(known),
        )
    )


def _manifest(store: ModelStore, name: str) -> Manifest | str:
    """The manifest of a version, or what is wrong with it."""
    try:
        return Manifest.load(store.folder(name))
    except ArtifactError as error:
        return str(error)


def _threshold(known: Known) -> float | None:
    if known.calibration:
        return known.calibration.threshold
    return known.subject.number("calibration", "threshold") if known.subject else None


def _tiles(known: Known, threshold: float | None) -> list[Tile]:
    champion, run = known.standing.pointer.champion, known.maker
    tiles = [Tile("Serving", champion or "none", "the champion" if champion else "the teacher answers")]
    if run is None:
        return tiles  # what another run measured says nothing of it
    if (learned := run.count("snapshot_rows")) is not None:
        trained = run.count("dataset", "train")
        tiles.append(Tile("Exchanges known", f"{learned}", "" if trained is None else f"{trained} of them to train on"))
    if right := run.heldout("right"):
        tiles.append(
            Tile("Right", right.percent, f"{right.part} of {counted(right.total, 'held-out phrasing')} ({_to(right)})")
        )
    if given := run.local():
        at = f", from confidence {threshold:.2f}" if threshold is not None and threshold <= 1 else ""
        tiles.append(
            Tile("Answered by itself", given.percent, f"{given.part} of {counted(given.total, 'held-out phrasing')}{at}")
        )
    if precise := run.answered:
        tiles.append(
            Tile("Right when it answers", precise.percent, f"{precise.part} of {precise.total}, all kinds ({_to(precise)})")
        )
    return tiles


def _to(share: Share) -> str:
    return share.range.replace("-", " to ")


def _gone(known: Known) -> str:
    """How many held-out answers of the run shown are no longer recorded, in a sentence; empty where all are."""
    asked = sum(known.subject.count("heldout", kind, "asked") or 0 for kind in KINDS) if known.subject else 0
    gone = asked - len(known.answers)
    if gone <= 0 or not known.answers:
        return ""
    return (
        f"{gone} of its {counted(asked, 'held-out answer')} {'is' if gone == 1 else 'are'} no longer recorded, as happens when "
        "a question is forgotten. The counts above are of all of them; whatever else this page says of held-out answers is of "
        "those that are left."
    )


def _versions(known: Known) -> Table | None:
    rows = []
    for name, found in reversed(known.standing.versions):
        role = ", ".join(known.standing.roles(name)) or "kept"
        if isinstance(found, str):
            rows.append((name, role, "cannot be read", "-", "-", "-", "-"))
            continue
        graph = found.graphs[0]
        limit = graph.calibration.threshold
        rows.append(
            (
                name,
                role,
                found.created[:16].replace("T", " "),
                found.base,
                f"{graph.precision}, {size(sum(entry.bytes for entry in found.files))}",
                str(found.snapshot_rows),
                "nothing" if limit > 1 else f"{limit:.2f}",
            )
        )
    heads = ("version", "role", "made (UTC)", "base", "graph", "exchanges", "answers from")
    return Table("Versions and their roles", heads, tuple(rows), frozenset({5, 6})) if rows else None


def _runs(runs: Sequence[Past]) -> Table | None:
    rows = []
    for run in runs:
        before, after = run.number("loss_before"), run.number("loss_after")
        right, given, learned = run.heldout("right"), run.local(), run.count("snapshot_rows")
        rows.append(
            (
                f"{run.started:%Y-%m-%d %H:%M}",
                run.status,
                "-" if learned is None else str(learned),
                f"{before:.2f} → {after:.2f}" if before is not None and after is not None else "-",
                f"{right.percent} ({right.range})" if right else "-",
                given.percent if given else "-",
                run.version or "-",
            )
        )
    heads = ("started (UTC)", "status", "exchanges", "held-out loss", "right", "answered", "version")
    return Table("Runs, newest first", heads, tuple(rows), frozenset({2, 3, 4, 5})) if rows else None


def _checked(known: Known) -> list[Table]:
    """What the gate looked at in the newest run that came so far, and in the one that made what serves."""
    newest = next((run for run in known.runs if run.checks), None)
    tables: list[Table] = []
    for run in {run.id: run for run in (newest, known.maker) if run and run.checks}.values():
        rows = tuple((name, "passed" if passed else "refused", _short(told)) for name, passed, told in run.checks)
        title = f"Looked at before publishing, run of {run.started:%Y-%m-%d %H:%M} UTC ({run.version or run.status})"
        tables.append(Table(title, ("check", "result", "what was found"), rows))
    return tables


def _compared(runs: Sequence[Past]) -> Table | None:
    """The last comparison with the champion, whatever is in it."""
    for run in runs:
        found = run.at("champion")
        if isinstance(found, dict) and found:
            title = f"Compared with the champion, run of {run.started:%Y-%m-%d %H:%M} UTC"
            return Table(title, ("figure", "value"), tuple(flat(found)))
    return None


def _wrong(title: str, answers: Sequence[HeldOut]) -> Table | None:
    rows = []
    for one in answers[:_MOST_ANSWERS]:
        why = f"{KIND_NAMES.get(one.kind, one.kind)}: {one.why}"
        expected = one.reference or "(nobody here can know)"
        rows.append((_short(one.query), _short(expected), _short(one.said) or "(nothing)", _short(why)))
    count = f"{len(rows)} of {len(answers)}" if len(rows) < len(answers) else str(len(rows))
    return Table(f"{title} ({count})", ("question", "expected", "answered", "why it is wrong"), tuple(rows)) if rows else None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
