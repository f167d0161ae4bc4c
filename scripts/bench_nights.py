"""scripts/bench nights: what many nights upon one another do to what the first ones taught, and how long each takes.

A simulated user logs so many exchanges a day; after each day one night trains, evaluates and publishes as any does. The
version that then serves is asked, through the engine that serves it, other phrasings of what the first nights logged: the same
questions after every night. Told are the wall-clock time of each night, the share answered rightly (the facts that the data
name are in the answer), and how it differs from the night after which all of these were known: paired, with a 95% bootstrap
interval over groups. `--start base` measures the other policy.

The data are no part of the project: a folder with make_stream.py (SEED EVENTS OUT SOURCES), faq_answers.jsonl and
faq_queries.jsonl. The base comes from the home that SHAMMAH_HOME names, if it is there. With --work, what was stopped goes on
behind its last finished night; the same command is needed. What a night costs is told in seconds on the clock and in seconds of
the processors, which other work on the machine does not add to.
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import arguments
import streams

from shammah_data.durable import atomic_write
from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import open_model

DRAWS = 2000


def main() -> int:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench nights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--nights", type=arguments.count, default=10)
    parser.add_argument("--exchanges", type=arguments.count, default=100, help="logged before each night")
    parser.add_argument("--first", type=arguments.count, default=2, help="what so many first nights taught is asked")
    parser.add_argument("--asked", type=arguments.count, default=200, help="questions asked after every night")
    parser.add_argument("--seed", type=arguments.at_least_none, default=0)
    parser.add_argument("--sources", default="b77,clinc", help="which clusters of the data")
    parser.add_argument("--precision", choices=("int8", "int4", "fp32"), default="int8")
    parser.add_argument("--start", choices=("auto", "base", "champion"), default="auto")
    parser.add_argument("--epochs", type=float, default=Settings().train.epochs)
    parser.add_argument("--threads", type=arguments.count, default=2)
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep home and figures there, and go on from the last night")
    parser.add_argument("--json", type=arguments.output, metavar="FILE", help="write every figure and every answer there")
    given = parser.parse_args()
    if lacking := streams.missing(given.data, streams.FILES):
        parser.error(lacking)
    if given.first > given.nights:
        parser.error("--first is at most --nights")
    if unknown := streams.unknown(given.data, given.sources):
        parser.error(unknown)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads")
    train = replace(
        Settings().train,
        precision=given.precision,
        start=given.start,
        epochs=given.epochs,
        threads=given.threads,
        seed=given.seed,
    )
    settings = replace(Settings(), train=train)
    with tempfile.TemporaryDirectory(prefix="shammah-nights-") as folder:
        scratch = Path(folder)
        work = Work(given.work or scratch, _task(given), stays=given.work is not None)
        told: list[dict[str, Any]] = []
        for night in work.told:
            told.append(night)
            _tell(told, given.first)
        days = _days(given, scratch / "stream.jsonl")
        questions = _questions(given, days)
        work.asks([question.query for question in questions])
        for number, day in enumerate(days[len(told) :], len(told) + 1):
            home = work.begin(number)
            told.append(_night(home, settings, number, day, questions, given))
            _tell(told, given.first)
            work.keep(told)
            if given.json:
                given.json.write_text(json.dumps({"command": sys.argv[1:], "nights": told}, ensure_ascii=False) + "\n")
    return 0


def _task(given: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for nights to stand upon one another; how many there are, and with how many threads, need not."""
    names = ("exchanges", "first", "asked", "seed", "sources", "precision", "start", "epochs")
    return {name: getattr(given, name) for name in names}


class Work:
    """The folder that nights are kept in: `home`, the figures of what is finished, and the home as it was before this night.

    A night that was killed is begun anew from that copy, so that its seconds are those of a whole night.
    """

    def __init__(self, folder: Path, task: dict[str, Any], stays: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._task = task
        self._stays = stays
        self._figures = folder / "nights.json"
        self.told: list[dict[str, Any]] = []
        if self._figures.is_file():
            kept = json.loads(self._figures.read_text(encoding="utf-8"))
            if kept["task"] != task:
                arguments.refuse(f"{folder} holds nights of another command ({kept['task']}): name another folder")
            self.told = kept["nights"]

    def asks(self, queries: Sequence[str]) -> None:
        """Ends where the nights that are finished were asked other questions: they could not be compared with the next ones."""
        for night in self.told:
            if night["asked"] and [one["query"] for one in night["asked"]] != list(queries):
                arguments.refuse(f"{self._folder} holds nights that were asked other questions: the data have changed")

    def begin(self, number: int) -> Home:
        """The home as the night before left it."""
        home, before = self._folder / "home", self._folder / f"before-{number}"
        if number == 1:
            shutil.rmtree(home, ignore_errors=True)
            return streams.home_with_base(home)
        if before.is_dir():
            shutil.rmtree(home, ignore_errors=True)
            os.replace(before, home)
        if self._stays:
            staging = self._folder / "copying"
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(home, staging)
            os.replace(staging, before)
        return Home(home)

    def keep(self, told: list[dict[str, Any]]) -> None:
        """Write down what is finished; the copy of the home before it is no longer needed."""
        atomic_write(self._figures, json.dumps({"task": self._task, "nights": told}, ensure_ascii=False).encode())
        self.told = told
        shutil.rmtree(self._folder / f"before-{len(told)}", ignore_errors=True)


def _days(given: argparse.Namespace, out: Path) -> list[list[dict[str, Any]]]:
    """The answered events of the stream, so many to a day."""
    wanted = given.nights * given.exchanges
    # Some events have no answer: a third more than wanted are enough.
    made = streams.stream(given.data, given.seed, wanted + wanted // 3 + 50, given.sources, out)
    answered = [event for event in made if event["answer"] is not None][:wanted]
    if len(answered) < wanted:
        arguments.refuse(f"the stream has {len(answered)} answered events, {wanted} are needed")
    return [answered[at : at + given.exchanges] for at in range(0, wanted, given.exchanges)]


def _questions(given: argparse.Namespace, days: Sequence[Sequence[dict[str, Any]]]) -> list[streams.Question]:
    """Held-out phrasings of what the first days logged, even over the groups; none was ever logged."""
    rng = random.Random(given.seed)
    facts = {row["cluster_id"]: tuple(row.get("facts", ())) for row in streams.rows(given.data / "faq_answers.jsonl")}
    first = sorted({event["cluster_id"] for day in days[: given.first] for event in day if event["cluster_id"]})
    logged = {normalize(event["query"]) for day in days for event in day}
    pool: dict[str, list[str]] = defaultdict(list)
    for row in streams.rows(given.data / "faq_queries.jsonl"):
        if row["split"] == "heldout" and row["cluster_id"] in first and normalize(row["query"]) not in logged:
            pool[row["cluster_id"]].append(row["query"])
    for queries in pool.values():
        rng.shuffle(queries)
    found: list[streams.Question] = []
    while len(found) < given.asked and any(pool.values()):
        for cluster in first:
            if pool[cluster] and len(found) < given.asked:
                found.append(streams.Question("heldout", cluster, pool[cluster].pop(), facts[cluster]))
    return found


def _night(
    home: Home,
    settings: Settings,
    number: int,
    day: Sequence[dict[str, Any]],
    questions: Sequence[streams.Question],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Log a day, train, ask."""
    # Torch takes seconds to import, and is not needed to say what is wrong with the arguments.
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    ExchangeLog(home).add_many(streams.exchanges(day, f"nights-{given.seed}"))
    began, worked = time.monotonic(), _worked()
    result = train_once(home, settings, Reporter(), force=True)
    found: dict[str, Any] = {
        "night": number,
        "status": result.status,
        "reason": result.reason,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(_worked() - worked, 1),
        "train_seconds": result.figures.get("train_seconds"),
        "start": result.figures.get("start"),
        "steps": result.figures.get("steps"),
        "asked": [],
    }
    champion = ModelStore(home.models).pointer().champion
    if champion is not None:
        found["asked"] = _ask(home, champion, questions, given.threads)
    return found


def _worked() -> float:
    """CPU seconds of this process and of those that it has waited for: what a night costs, whatever else the machine did."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _ask(home: Home, version: str, questions: Sequence[streams.Question], threads: int) -> list[dict[str, Any]]:
    """What a version answers by itself, each question without context."""
    store = ModelStore(home.models)
    model = open_model(store.folder(version), store.verify(version), Wanted(threads=threads))
    asked = []
    for question in questions:
        prompt = model.prompt(question.query, (), streams.ANSWER_TOKENS)
        answer = model.decoder.generate(prompt.ids, Decoding(max_tokens=streams.ANSWER_TOKENS))
        right = answer.finished and streams.holds(answer.text, question.facts)
        asked.append({"cluster": question.cluster, "query": question.query, "answer": answer.text, "right": right})
    return asked


def _share(asked: Sequence[dict[str, Any]]) -> str:
    if not asked:
        return ": none asked, for nothing serves"
    return f" {sum(one['right'] for one in asked) / len(asked):.1%} of {len(asked)}"


def difference(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], seed: int
) -> tuple[float, float, float] | None:
    """Mean of (right after - right before) over the same questions, and its 95% bootstrap interval, drawn by groups."""
    if not before or not after:
        return None
    groups: dict[str, list[int]] = defaultdict(list)
    for old, new in zip(before, after, strict=True):
        groups[old["cluster"]].append(int(new["right"]) - int(old["right"]))
    names, rng = sorted(groups), random.Random(seed)
    drawn = []
    for _ in range(DRAWS):
        chosen = [change for name in rng.choices(names, k=len(names)) for change in groups[name]]
        drawn.append(sum(chosen) / len(chosen))
    drawn.sort()
    every = [change for changes in groups.values() for change in changes]
    return sum(every) / len(every), drawn[int(0.025 * DRAWS)], drawn[int(0.975 * DRAWS)]


def _tell(told: list[dict[str, Any]], first: int) -> None:
    """The last night on the terminal."""
    now = told[-1]
    start = now["start"] or {"from": "-", "new": 0, "older": 0}
    base = "the base" if start["from"] == "base" else start["from"]
    line = (
        f"night {now['night']}: {now['status']}, {now['seconds']:.0f} s, of the processors {now['cpu_seconds']:.0f} s "
        f"(training {now['train_seconds'] or 0:.0f} s, {now['steps'] or 0} steps); from {base}, {start['new']} new and "
        f"{start['older']} older; first nights' groups right{_share(now['asked'])}"
    )
    if len(told) > first and (change := difference(told[first - 1]["asked"], now["asked"], seed=0)):
        now["difference"] = change
        line += f", {100 * change[0]:+.1f} points since night {first} ({100 * change[1]:+.1f} to {100 * change[2]:+.1f})"
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
