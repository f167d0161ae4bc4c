"""shammah-log: fill, read, correct, export and look after the exchange log."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from shammah_data import command, upkeep
from shammah_data.choosing import Before, Ids, Search, Since, Source, TeacherModel, chosen, open_log
from shammah_data.errors import InputError
from shammah_data.exchange import WEIGHTS, Feedback, Rating
from shammah_data.importing import BadLines, read_past
from shammah_data.present import print_exchanges, print_json
from shammah_data.text import counted, one_line, printable

app = typer.Typer(
    help="Fill, read, correct, export and look after the exchange log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="How many, newest first.")]
OneId = Annotated[str, typer.Argument(help="An id, or its beginning.")]


@app.callback()
def log(version: command.ShowVersion = False) -> None:
    """What goes before a command."""


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of Claude Code transcripts.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would happen, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add past exchanges; those that are there already, or were forgotten, are left alone.

    Reads JSON lines of {"query", "response"} or {"messages"}, the conversations.json of a claude.ai export or its zip,
    transcripts of Claude Code, and the logs.db of llm.
    """
    _, log = open_log()
    unusable = 0
    done = []
    for path in files:
        bad = BadLines()
        name = path.name or str(path)  # "." and "/" have no name

        def progress(seen: int, name: str = name) -> None:
            if sys.stderr.isatty():
                print(f"\r{printable(name)}: {counted(seen, 'exchange')}", end="", file=sys.stderr, flush=True)

        past = read_past(path, bad)
        new, known = log.count_new(past, progress) if dry_run else log.add_many(past, progress)
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
        done.append(
            {
                "file": str(path),
                "new": new,
                "known": known,
                "unusable": bad.count,
                "named": bad.named,
                "unanswered": bad.unanswered,
                "dry_run": dry_run,
            }
        )
        if not as_json:
            would = " (nothing was written)" if dry_run else ""
            unanswered = f", {bad.unanswered} that nobody answered left out" if bad.unanswered else ""
            print(f"{printable(name)}: {new} new, {known} already there, {bad.count} unusable{unanswered}{would}")
        for line in bad.named:
            print(printable(f"  {name} {line}"), file=sys.stderr)
        unusable += bad.count
    if as_json:
        print_json(done)
    if unusable:
        raise InputError(
            f"{counted(unusable, 'line')} could not be used{'' if dry_run else ' (the rest are imported)'}: correct "
            f"{'it' if unusable == 1 else 'them'} and import again"
        )


@app.command("list")
def list_(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the newest exchanges."""
    none = "the log is empty: ask something with shammah-serve, or run `shammah-log import FILE`"
    _print_rows(open_log()[1].recent(limit), as_json, none)


@app.command()
def search(
    words: Annotated[
        list[str], typer.Argument(help="Words that must all occur in the question, the answer or its correction.")
    ],
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Find exchanges by their words."""
    _print_rows(open_log()[1].search(words, limit), as_json, "no exchange holds all of these words")


def _print_rows(rows: list[dict[str, Any]], as_json: bool, none: str) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        print_exchanges(rows)
    else:
        print(none)


@app.command()
def show(exchange: OneId, as_json: AsJson = False) -> None:
    """Show one exchange with every tier that was tried."""
    row, attempts = open_log()[1].find(exchange)
    if as_json:
        print_json({**row, "context": json.loads(row["context"]), "attempts": attempts})
        return
    for name, value in row.items():
        if value is not None and value != "" and name not in ("context", "withdrawn"):
            told = f"{value.isoformat(' ', 'seconds')} UTC" if isinstance(value, datetime) else str(value)
            # What a user wrote in several lines is not taken for more of these.
            print(f"{name:<20} {printable(told)}".replace("\n", "\n" + 21 * " "))
    if row["withdrawn"]:
        print(f"{'withdrawn':<20} the correction, which was called bad too")
    for turn in json.loads(row["context"]):
        told = f"{turn['role']}: {turn['content']}"
        print(f"{'before':<20} {one_line(told, 90)}")
    for attempt in attempts:
        told = f"{attempt['tier']}: {attempt['outcome']}, {attempt['reason']}"
        print(f"{'tried':<20} {one_line(told, 140)}")


@app.command()
def stats(as_json: AsJson = False) -> None:
    """Count exchanges by who answered."""
    figures = open_log()[1].stats()
    if as_json:
        tiers = {
            tier: {"exchanges": n, "median_latency_ms": ms, "cost_usd": usd} for tier, (n, ms, usd) in figures.per_tier.items()
        }
        print_json({**{name: n for name, n in asdict(figures).items() if name != "per_tier"}, "tiers": tiers})
        return
    known = f"{counted(figures.exchanges, 'exchange')}, {figures.learnable} to learn from"
    print(f"{known}, {counted(figures.feedback, 'rating')}, {counted(figures.runs, 'run')}")
    for tier, (n, ms, usd) in figures.per_tier.items():
        latency = "" if ms is None else f"  median {ms:.0f} ms"
        print(f"  {printable(tier):<10} {n:>7}  {n / figures.exchanges:5.1%}{latency}" + (f"  ${usd:.4f}" if usd else ""))
    if figures.spooled:
        print(f"{figures.spooled} more {'waits' if figures.spooled == 1 else 'wait'} in the spool for the database to be free")
    if figures.forgotten:
        print(f"{figures.forgotten} forgotten")


@app.command()
def rate(
    exchange: OneId,
    rating: Annotated[Rating, typer.Argument(help="good or bad.")],
    weight: Annotated[int, typer.Option("--weight", help="How much it counts in training: 1, 3 or 10.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Say whether an answer was right; a bad one is never trained on."""
    if weight not in WEIGHTS:
        raise InputError(f"weight {weight}: it must be one of {', '.join(map(str, WEIGHTS))}")
    _, log = open_log()
    row, _ = log.find(exchange)
    if not (row["correction"] or row["answer"]).strip():
        raise InputError(f"{exchange}: nobody answered this; `shammah-log fix {exchange} TEXT` tells the right answer")
    stored = log.rate(Feedback(str(row["id"]), rating, float(weight)))
    _done("rated " + rating, {"id": str(row["id"]), "rating": rating, "weight": weight, "spooled": not stored}, as_json)


@app.command()
def fix(
    exchange: OneId,
    answer: Annotated[str, typer.Argument(help="The answer that should have been given.")],
    as_json: AsJson = False,
) -> None:
    """Correct an answer; the correction is trained on instead."""
    if not answer.strip():
        raise InputError("the correction is empty")
    _, log = open_log()
    row, _ = log.find(exchange)
    stored = log.rate(Feedback(str(row["id"]), "bad", correction=answer))
    _done("corrected", {"id": str(row["id"]), "correction": log.clean(answer), "spooled": not stored}, as_json)


@app.command()
def trainable(
    answer: Annotated[str, typer.Argument(metavar="yes|no", help="Whether they may be trained on.")],
    ids: Ids = None,
    search: Search = None,
    since: Since = None,
    before: Before = None,
    source: Source = None,
    teacher_model: TeacherModel = None,
    as_json: AsJson = False,
) -> None:
    """Say of exchanges whether they may be trained on."""
    if answer not in ("yes", "no"):
        raise InputError(f"{answer!r}: say yes or no, then which exchanges")
    _, log = open_log()
    count = log.set_trainable(chosen(log, ids, search, since, before, source, teacher_model), answer == "yes")
    if as_json:
        print_json({"changed": count, "trainable": answer == "yes"})
    else:
        print(f"{counted(count, 'exchange')} changed: {'may' if answer == 'yes' else 'must not'} be trained on")


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The file to write: .parquet, .md (Markdown), else JSON lines.")],
    as_json: AsJson = False,
) -> None:
    """Write every exchange to a file; JSON lines can be imported again.

    An import leaves the ratings out, which `shammah-log restore` of a backup does not.
    """
    from shammah_data.copies import export as write

    if path.exists():
        raise InputError(f"{path}: is there already; name a new file")
    count = write(open_log()[1], path)
    if as_json:
        print_json({"file": str(path), "exchanges": count})
    else:
        print(f"{counted(count, 'exchange')} in {printable(str(path))}")


def _done(told: str, figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(figures)
    else:
        print(f"{told}: {figures['id']}")


upkeep.register(app)


def main() -> None:
    """Entry point of `shammah-log`."""
    command.leave_threads_behind(app, "shammah-log")


if __name__ == "__main__":
    main()
