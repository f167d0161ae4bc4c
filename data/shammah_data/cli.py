"""shammah-log: fill, read and count the exchange log."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shammah_data import command
from shammah_data.errors import InputError
from shammah_data.exchange import WEIGHTS, Feedback, Rating
from shammah_data.home import Home
from shammah_data.importing import BadLines, read_past
from shammah_data.log import ExchangeLog
from shammah_data.text import one_line, printable

app = typer.Typer(
    help="Fill, read and count the exchange log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _log() -> ExchangeLog:
    return ExchangeLog(Home.find().create())


def _print_json(value: Any) -> None:
    # Pure ASCII: no letter can drive the terminal or be lost in its encoding.
    print(json.dumps(value, default=str, indent=1))


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of Claude Code transcripts.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would happen, and write nothing.")] = False,
) -> None:
    """Add past exchanges; those that are there already are left alone.

    Reads JSON lines of {"query", "response"} or {"messages"}, the conversations.json of a claude.ai export or its zip,
    transcripts of Claude Code, and the logs.db of llm.
    """
    log = _log()
    unusable = 0
    for path in files:
        bad = BadLines()
        name = path.name or str(path)  # "." and "/" have no name

        def progress(seen: int, name: str = name) -> None:
            if sys.stderr.isatty():
                print(f"\r{name}: {seen} exchanges", end="", file=sys.stderr, flush=True)

        past = read_past(path, bad)
        new, duplicates = log.count_new(past, progress) if dry_run else log.add_many(past, progress)
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
        would = " (nothing was written)" if dry_run else ""
        print(f"{name}: {new} new, {duplicates} already there, {bad.count} unusable{would}")
        for line in bad.named:
            print(f"  {name} {line}", file=sys.stderr)
        unusable += bad.count
    if unusable:
        raise InputError(
            f"{unusable} lines could not be used{'' if dry_run else ' (the rest are imported)'}: correct them and import again"
        )


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest exchanges."""
    _print_rows(
        _log().recent(limit), as_json, "the log is empty: ask something with shammah-serve, or run `shammah-log import FILE`"
    )


@app.command()
def search(
    words: Annotated[
        list[str], typer.Argument(help="Words that must all occur in the question, the answer or its correction.")
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find exchanges by their words."""
    _print_rows(_log().search(words, limit), as_json, "no exchange holds all of these words")


def _print_rows(rows: list[dict[str, Any]], as_json: bool, none: str) -> None:
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        mark = {"good": "+", "bad": "-"}.get(row["rating"], " ")
        when = row["created_at"].strftime("%Y-%m-%d %H:%M")
        asked, answered = one_line(row["query"], 40), one_line(row["answer"], 50)
        print(f"{str(row['id'])[:8]} {when} {row['tier']:<8} {mark} {asked:<40} {answered}")
    if not rows:
        print(none)


@app.command()
def show(exchange: Annotated[str, typer.Argument(help="An id, or its beginning.")], as_json: AsJson = False) -> None:
    """Show one exchange with every tier that was tried."""
    row, attempts = _log().find(exchange)
    if as_json:
        _print_json({**row, "context": json.loads(row["context"]), "attempts": attempts})
        return
    for name, value in row.items():
        if value is not None and value != "" and name != "context":
            print(f"{name:<20} {printable(str(value))}")
    for turn in json.loads(row["context"]):
        print(f"{'before':<20} {turn['role']}: {one_line(turn['content'], 80)}")
    for attempt in attempts:
        print(f"{'tried':<20} {attempt['tier']}: {attempt['outcome']}, {one_line(attempt['reason'], 120)}")


@app.command()
def stats(as_json: AsJson = False) -> None:
    """Count exchanges by who answered."""
    figures = _log().stats()
    if as_json:
        _print_json(
            {
                "exchanges": figures.exchanges,
                "learnable": figures.learnable,
                "feedback": figures.feedback,
                "runs": figures.runs,
                "tiers": {
                    tier: {"exchanges": n, "median_latency_ms": ms, "cost_usd": usd}
                    for tier, (n, ms, usd) in figures.per_tier.items()
                },
            }
        )
        return
    print(f"{figures.exchanges} exchanges, {figures.learnable} to learn from, {figures.feedback} ratings, {figures.runs} runs")
    for tier, (n, ms, usd) in figures.per_tier.items():
        latency = "" if ms is None else f"  median {ms:.0f} ms"
        print(f"  {tier:<9} {n:>7}  {n / figures.exchanges:5.1%}{latency}" + (f"  ${usd:.4f}" if usd else ""))


@app.command()
def rate(
    exchange: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    rating: Annotated[Rating, typer.Argument(help="good or bad.")],
    weight: Annotated[int, typer.Option("--weight", help="How much it counts in training: 1, 3 or 10.")] = 1,
) -> None:
    """Say whether an answer was right; a bad one is never trained on."""
    if weight not in WEIGHTS:
        raise InputError(f"weight {weight}: it must be one of {', '.join(map(str, WEIGHTS))}")
    log = _log()
    row, _ = log.find(exchange)
    log.rate(Feedback(str(row["id"]), rating, float(weight)))
    print(f"rated {rating}: {row['id']}")


@app.command()
def fix(
    exchange: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    answer: Annotated[str, typer.Argument(help="The answer that should have been given.")],
) -> None:
    """Correct an answer; the correction is trained on instead."""
    if not answer.strip():
        raise InputError("the correction is empty")
    log = _log()
    row, _ = log.find(exchange)
    log.rate(Feedback(str(row["id"]), "bad", correction=answer))
    print(f"corrected: {row['id']}")


@app.command()
def export(path: Annotated[Path, typer.Argument(help="The file to write: .parquet for Parquet, else JSON lines.")]) -> None:
    """Write the whole log to a file; JSON lines can be imported again."""
    if path.exists():
        raise InputError(f"{path}: is there already; name a new file")
    print(f"{_log().export(path)} exchanges in {path}")


@app.command()
def forget(exchange: Annotated[str, typer.Argument(help="An id, or its beginning.")]) -> None:
    """Delete one exchange with its ratings; the next training run goes without it."""
    log = _log()
    row, _ = log.find(exchange)
    log.forget(str(row["id"]))
    print(f"forgotten: {row['id']}")


def main() -> None:
    """Entry point of `shammah-log`."""
    command.run(app, "shammah-log")


if __name__ == "__main__":
    main()
