"""scripts/bench night: what one night learns from the first exchanges of a simulated user, measured on new questions.

For every seed and milestone a fresh home gets the first events of a stream as its log, one forced run trains, evaluates and
publishes as any night does, and the published version is asked, through the engine that serves it, other phrasings of what was
logged (drawn by how often it was asked), questions that were never logged, and questions out of scope. An answer is right when
it holds the facts that the data name. `coverage at` is in hindsight: the best threshold on these very answers; `deployed` is at
the threshold that the night published.

The data are no part of the project: a folder with make_stream.py (SEED EVENTS OUT SOURCES), faq_answers.jsonl,
faq_queries.jsonl and out_of_scope.jsonl. Base and embedder come from the home that SHAMMAH_HOME names, if they are there.
"""

import argparse
import dataclasses
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from night_figures import MEASURES, Asked, Kind, figures, rows

from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.conversation import fill
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.confidence import confidence, features
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import open_model
from shammah_runtime.learned import LearnedIndex

FILES = ("make_stream.py", "faq_answers.jsonl", "faq_queries.jsonl", "out_of_scope.jsonl")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER_TOKENS = 160
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Question:
    """What will be asked."""

    kind: Kind
    cluster: str
    query: str
    facts: tuple[str, ...] = ()
    logged: int = 0


def main() -> int:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench night", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2], metavar="0,1,2")
    parser.add_argument("--milestones", type=_numbers, default=[50, 200, 500], metavar="50,200,500", help="events logged")
    parser.add_argument("--sources", default="b77,clinc", help="which clusters of the data")
    parser.add_argument("--precision", choices=("int8", "int4", "fp32"), default="int8")
    parser.add_argument("--heldout", type=int, default=200, help="other phrasings that are asked")
    parser.add_argument("--reserved", type=int, default=60, help="questions never logged that are asked")
    parser.add_argument("--outside", type=int, default=60, help="questions out of scope that are asked")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of [train] for all nights")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and every answer there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the home of each night there")
    given = parser.parse_args()
    for name in FILES:
        if not (given.data / name).is_file():
            parser.error(f"{given.data / name}: no such file; scripts/bench night --help tells what the folder must hold")
    try:
        changed = _changed(given)
    except ValueError as error:
        parser.error(str(error))
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads")
    nights = []
    for seed in given.seeds:
        for events in given.milestones:
            found = night(given, seed, events, changed)
            nights.append(found)
            tell(found)
            if given.json:
                given.json.write_text(json.dumps({"command": sys.argv[1:], "nights": nights}, ensure_ascii=False) + "\n")
    for events in given.milestones:
        over_seeds(events, [found for found in nights if found["events"] == events])
    return 0


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _changed(given: argparse.Namespace) -> Settings:
    """The default settings with what was given; raises ValueError for a setting that is not there."""
    train = Settings().train
    values: dict[str, Any] = {"precision": given.precision, "threads": given.threads}
    for change in given.set:
        key, _, value = change.partition("=")
        if not hasattr(train, key):
            raise ValueError(f"--set {change}: [train] has no {key!r}")
        values[key] = value if isinstance(getattr(train, key), str) else json.loads(value)
    return dataclasses.replace(Settings(), train=dataclasses.replace(train, **values))


def night(given: argparse.Namespace, seed: int, events: int, settings: Settings) -> dict[str, Any]:
    """One night after so many events, and what its version answers."""
    # Torch takes seconds to import, and refuses to be imported before it is needed elsewhere.
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    with tempfile.TemporaryDirectory(prefix="shammah-night-") as folder:
        home = _home(Path(folder) / "home")
        stream = _stream(given.data, seed, events, given.sources, Path(folder) / "stream.jsonl")
        ExchangeLog(home).add_many(_exchanges(stream, seed))
        questions = _questions(given, stream, seed)
        began = time.monotonic()
        result = train_once(home, settings, Reporter(), force=True)
        seconds = time.monotonic() - began
        found: dict[str, Any] = {
            "seed": seed,
            "events": events,
            "exchanges": sum(event["answer"] is not None for event in stream),
            "status": result.status,
            "reason": result.reason,
            "night_seconds": round(seconds, 1),
            "train_seconds": result.figures.get("train_seconds"),
            "run": result.figures,
        }
        if result.status == "published":
            asked = _ask(home, questions, given.threads)
            found |= figures(asked, DRAWS, seed) | {"answers": rows(asked)}
        if given.keep:
            shutil.copytree(home.root, given.keep / f"seed-{seed}-events-{events}", dirs_exist_ok=True)
    return found


def _home(root: Path) -> Home:
    """A fresh home that need not make its base and its embedder again."""
    home, ready = Home(root).create(), Home.find()
    for name in ("bases", "embedder"):
        if (ready.root / name).is_dir():
            shutil.copytree(ready.root / name, root / name)
    return home


def _stream(data: Path, seed: int, events: int, sources: str, out: Path) -> list[dict[str, Any]]:
    made = [sys.executable, str(data / "make_stream.py"), str(seed), str(events), str(out), sources]
    subprocess.run(made, check=True)
    return _rows(out)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _exchanges(stream: Sequence[dict[str, Any]], seed: int) -> list[Exchange]:
    return [
        Exchange(
            event["query"],
            event["answer"],
            "teacher",
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"night-{seed}-{event['n']}")),
            created_at=BEGAN + timedelta(days=event["day"]),
            source="bench",
        )
        for event in stream
        if event["answer"] is not None
    ]


def _questions(given: argparse.Namespace, stream: Sequence[dict[str, Any]], seed: int) -> list[Question]:
    """Held-out queries by how often their cluster was logged, none twice; reserved and out-of-scope ones at random."""
    rng = random.Random(seed)
    answers = {row["cluster_id"]: row for row in _rows(given.data / "faq_answers.jsonl")}
    sources = given.sources.split(",")
    logged = Counter(event["cluster_id"] for event in stream if event["cluster_id"])
    phrasings: dict[str, set[str]] = defaultdict(set)
    for event in stream:
        if event["cluster_id"]:
            phrasings[event["cluster_id"]].add(normalize(event["query"]))
    seen = {normalize(event["query"]) for event in stream}
    pool: dict[str, list[str]] = defaultdict(list)
    reserved: list[Question] = []
    for row in _rows(given.data / "faq_queries.jsonl"):
        cluster = row["cluster_id"]
        if row["split"] != "heldout" or cluster.split(":")[0] not in sources or normalize(row["query"]) in seen:
            continue
        if cluster in logged:
            pool[cluster].append(row["query"])
        elif answers[cluster].get("reserved"):
            reserved.append(Question("reserved", cluster, row["query"]))
    for queries in pool.values():
        rng.shuffle(queries)
    asked: list[Question] = []
    while len(asked) < given.heldout and any(pool.values()):
        names = [name for name in logged if pool[name]]
        (cluster,) = rng.choices(names, [logged[name] for name in names])
        query = pool[cluster].pop()
        facts = tuple(answers[cluster]["facts"])
        asked.append(Question("heldout", cluster, query, facts, len(phrasings[cluster])))
    outside = [
        Question("outside", f"outside-{n}", row["query"])
        for n, row in enumerate(_rows(given.data / "out_of_scope.jsonl"))
        if normalize(row["query"]) not in seen
    ]
    for questions, wanted in ((reserved, given.reserved), (outside, given.outside)):
        rng.shuffle(questions)
        asked += questions[:wanted]
    return asked


def _ask(home: Home, questions: Sequence[Question], threads: int) -> list[Asked]:
    """What the champion answers, each question by itself."""
    store = ModelStore(home.models)
    champion = store.pointer().champion
    assert champion is not None
    model = open_model(store.folder(champion), store.verify(champion), Wanted(threads=threads))
    index = LearnedIndex()
    fill(index, ExchangeLog(home))
    calibration = model.graph.calibration
    asked = []
    for number, question in enumerate(questions, 1):
        prompt = model.prompt(question.query, (), ANSWER_TOKENS)
        match = index.nearest(question.query)
        # A draft changes how long it takes and nothing else.
        drafts = [model.decoder.tokenizer.answer(match.known.answer, model.decoder.stop_ids)] if match else []
        answer = model.decoder.generate(prompt.ids, Decoding(max_tokens=ANSWER_TOKENS), answers=drafts)
        sure = confidence(calibration, features(answer.logprobs, index.support(question.query, answer.text)))
        ended = answer.finished and bool(answer.text)
        asked.append(
            Asked(
                question.kind,
                question.cluster,
                question.query,
                answer.text,
                ended and question.kind == "heldout" and holds(answer.text, question.facts),
                sure if ended else 0.0,
                ended and sure >= calibration.threshold,
                question.logged,
            )
        )
        if number % 50 == 0:
            print(f"asked {number} of {len(questions)}", file=sys.stderr, flush=True)
    return asked


def holds(answer: str, facts: Sequence[str]) -> bool:
    """Whether every fact is in the answer, whatever its case; `a|b` is a fact in two spellings."""
    text = " ".join(answer.lower().replace("’", "'").split())
    return all(any(one.lower() in text for one in fact.split("|")) for fact in facts)


def tell(found: dict[str, Any]) -> None:
    """One night on the terminal."""
    print(
        f"\nseed {found['seed']}, {found['events']} events, {found['exchanges']} exchanges: {found['status']} after "
        f"{found['night_seconds']:.0f} s (training {found['train_seconds'] or 0:.0f} s)"
    )
    print(f"  {found['reason']}")
    for name, figure in found.get("measures", {}).items():
        print(f"  {name:<20} {figure['value']:6.3f}  ({figure['low']:.3f} to {figure['high']:.3f})")
    for name, band in found.get("by_logged", {}).items():
        print(f"  logged {name:<5} asked {band['asked']:4}   right {band['right']:.0%}   accepted {band['accepted']:.0%}")
    for name, kind in found.get("kinds", {}).items():
        print(f"  {name:<9} asked {kind['asked']:4}   accepted {kind['accepted']:4}   right {kind['accepted_right']:4}")
    sys.stdout.flush()


def over_seeds(events: int, nights: Sequence[dict[str, Any]]) -> None:
    """Mean, least and most of each measure over the seeds; a night that published nothing covers nothing."""
    print(f"\nafter {events} events, {len(nights)} seeds: mean (least to most)")
    for name in MEASURES:
        values = [found["measures"][name]["value"] if "measures" in found else 0.0 for found in nights]
        told = [value for value in values if value == value]
        if told:
            print(f"  {name:<20} {sum(told) / len(told):6.3f}  ({min(told):.3f} to {max(told):.3f})")


if __name__ == "__main__":
    sys.exit(main())
