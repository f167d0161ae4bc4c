"""The commands of shammah-train that show what runs did: history, show, report. Knows options and streams."""

import importlib.util
import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from shammah_data.errors import ArtifactError, InputError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Manifest
from shammah_data.past import Past, past_runs
from shammah_data.present import print_json
from shammah_data.settings import Settings
from shammah_data.store import ModelStore, Pointer
from shammah_data.text import counted
from shammah_trainer.history import find, heldout_answers
from shammah_trainer.screen import answer_lines, history_lines, run_lines

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLUMNS = 80
_NARROWEST = 40


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for one in (history, show, report):
        app.command()(one)


def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs, newest first: what they learned from, what they measured, and why they were refused."""
    home, log, settings = _open()
    runs = past_runs(home, log, limit)
    if as_json:
        print_json([_plain(run) for run in runs])
    elif runs:
        print("\n".join(history_lines(runs, _width())))
    else:
        count = log.learnable_count() if log.exists() else 0
        wanted = settings.train.min_examples
        print(f"no run yet: `shammah-train` starts one ({count} of {counted(wanted, 'exchange')}; --force begins with fewer)")


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="An id or its beginning, a date, a version, or `last`.")],
    answers: Annotated[bool, typer.Option("--answers", help="List the held-out answers that were wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one run in full, the reasons of a refusal first."""
    home, log, _ = _open()
    chosen = find(past_runs(home, log), run)
    store = ModelStore(home.models)
    found = heldout_answers(home, chosen, _calibration(store, chosen))
    if as_json:
        wrong = [asdict(one) | {"bluffed": one.bluffed} for one in found if one.bluffed or one.missed]
        print_json(_plain(chosen) | ({"answers": wrong} if answers else {}))
        return
    try:
        roles = _roles(store.pointer(), chosen.version)
    except ArtifactError as error:
        print(f"shammah-train: {error}", file=sys.stderr)
        roles = ["role unknown"]
    lines = run_lines(chosen, roles, _width(), found)
    if answers and found:
        lines += answer_lines(found, _width())
    elif answers:
        lines += ["", "its held-out answers are not recorded, or were deleted"]
    print("\n".join(lines))


def report(
    out: Annotated[Path | None, typer.Option("--out", help="The file to write (default: report.html in the home).")] = None,
) -> None:
    """Write a page with curves and tables: what serves and why, what was learned, what was refused."""
    if importlib.util.find_spec("jinja2") is None:
        raise InputError("the report needs jinja2, which is not installed: pip install 'shammah[cpu,train]'")
    from shammah_trainer.report import may_write, write_report

    home, log, settings = _open()
    path = home.create().report if out is None else out
    may_write(path)
    write_report(home, log, path, datetime.now(UTC), settings)
    print(f"written: {path}")


def _open() -> tuple[Home, ExchangeLog, Settings]:
    home = Home.find()
    settings = Settings.load(home.settings)
    return home, ExchangeLog(home, settings), settings


def _plain(run: Past) -> dict[str, Any]:
    times = {"started": run.started.isoformat(), "finished": run.finished and run.finished.isoformat()}
    return {**asdict(run), **times, "figures": _without_nan(run.figures)}


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _calibration(store: ModelStore, run: Past) -> Calibration | None:
    """That of the version a run published, if it is still there."""
    if run.version is None:
        return None
    try:
        manifest = Manifest.load(store.folder(run.version))
    except ArtifactError:
        return None  # deleted since, as old versions are
    return manifest.graphs[0].calibration if manifest.run == run.id else None


def _roles(pointer: Pointer, version: str | None) -> list[str]:
    named = {"champion": pointer.champion, "previous": pointer.previous, "candidate": pointer.candidate}
    return [role for role, name in named.items() if version is not None and name == version]


def _width() -> int:
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return _COLUMNS
    return max(_NARROWEST, shutil.get_terminal_size((_COLUMNS, 24)).columns)
