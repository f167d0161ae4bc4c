"""What the benchmarks that train are given: numbers in lists, files to write, homes that were kept.

Says in one line what is wrong with it. Knows argparse and where a night's home lies, no figures.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.store import ModelStore


def count(text: str) -> int:
    """A whole number from 1 on."""
    found = at_least_none(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return found


def at_least_none(text: str) -> int:
    """A whole number from 0 on."""
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def seeds(text: str) -> list[int]:
    """Whole numbers with commas between, each once: the same user twice is not one more."""
    found = [at_least_none(part) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: each of them once")
    return found


def counts(text: str) -> list[int]:
    """Whole numbers from 1 on, with commas between, each once."""
    found = seeds(text)
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text}: each at least 1")
    return found


def precisions(text: str) -> list[float]:
    """Shares above 0 and below 1, with commas between."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0.0 < one < 1.0 for one in found):
        raise argparse.ArgumentTypeError(f"{text!r}: shares above 0 and below 1, such as 0.95")
    return found


def output(text: str) -> Path:
    """A file that can be written once the work of hours is done: its folder is there."""
    path = Path(text)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: {'a folder' if path.is_dir() else 'its folder is not there'}")
    return path


def kept(homes: Path, seed: int, events: int) -> Path:
    """Where `scripts/bench night --keep` leaves the home of a night."""
    return homes / f"seed-{seed}-events-{events}"


def lacking(homes: Path, nights: Iterable[tuple[int, int]]) -> str | None:
    """What to say where the home of one of the nights, (seed, events), is not there or serves no version, or None."""
    for seed, events in nights:
        folder = kept(homes, seed, events)
        if not folder.is_dir():
            return f"{folder}: no such home; `scripts/bench night --keep {homes}` leaves it there"
        if ModelStore(Home(folder).models).pointer().champion is None:
            return f"{folder}: nothing was published there"
    return None


def refuse(told: str) -> NoReturn:
    """End with a line and code 2."""
    print(told, file=sys.stderr)
    raise SystemExit(2)


def same_user(home: Home, queries: Iterable[str]) -> None:
    """Ends with a line and code 2 where most of what is logged in a home is not of these queries, but another stream's."""
    logged = [row["query"] for row in ExchangeLog(home).learnable()]
    known = set(queries)
    if 2 * sum(query in known for query in logged) < len(logged):
        refuse(f"{home.root}: most of its log is of another stream: seeds, events or sources are not those of --keep")
