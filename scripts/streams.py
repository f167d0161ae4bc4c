"""What the benchmarks that train share: streams of a simulated user, a home that holds one, and when an answer is right.

The data are no part of the project: a folder with make_stream.py (SEED EVENTS OUT SOURCES), faq_answers.jsonl,
faq_queries.jsonl and, where questions out of scope are asked, out_of_scope.jsonl.
"""

import json
import random
import shutil
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from night_figures import Kind

from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.judge import normalize

FILES = ("make_stream.py", "faq_answers.jsonl", "faq_queries.jsonl")
OUTSIDE = "out_of_scope.jsonl"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER_TOKENS = 160

Event = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What will be asked. `logged`: how many phrasings of its cluster are in the log."""

    kind: Kind
    cluster: str
    query: str
    facts: tuple[str, ...] = ()
    logged: int = 0


def missing(data: Path, names: Iterable[str]) -> str | None:
    """What to say of a folder that lacks a file, or None."""
    lacking = [name for name in names if not (data / name).is_file()]
    return f"{data / lacking[0]}: no such file; scripts/streams.py tells what the folder must hold" if lacking else None


def unknown(data: Path, sources: str) -> str | None:
    """What to say of sources that cannot be asked of: there are no such clusters, or no facts to tell right answers by."""
    clusters = rows(data / "faq_answers.jsonl")
    for source in sources.split(","):
        facts = [row.get("facts") for row in clusters if row["cluster_id"].split(":")[0] == source]
        if not facts:
            return f"--sources {source}: no such clusters in {data / 'faq_answers.jsonl'}"
        if not all(facts):
            return f"--sources {source}: its answers name no facts to tell right ones by"
    return None


def home_with_base(root: Path) -> Home:
    """A fresh home that need not make its base and its embedder again: they come from the home that SHAMMAH_HOME names."""
    home, ready = Home(root).create(), Home.find()
    for name in ("bases", "embedder"):
        if (ready.root / name).is_dir():
            shutil.copytree(ready.root / name, root / name)
    return home


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def stream(data: Path, seed: int, events: int, sources: str, out: Path) -> list[Event]:
    """The first events of a user's stream; the file stays at `out`."""
    subprocess.run([sys.executable, str(data / "make_stream.py"), str(seed), str(events), str(out), sources], check=True)
    return rows(out)


def exchanges(events: Iterable[Event], name: str) -> list[Exchange]:
    """The events that have an answer, as Claude's; `name` is part of their ids."""
    return [
        Exchange(
            event["query"],
            event["answer"],
            "teacher",
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}-{event['n']}")),
            created_at=BEGAN + timedelta(days=event["day"]),
            source="bench",
        )
        for event in events
        if event["answer"] is not None
    ]


def questions(
    data: Path, sources: str, logged: Sequence[Event], heldout: int, reserved: int, outside: int, seed: int
) -> list[Question]:
    """Held-out phrasings by how often their cluster was logged, none twice; reserved and out-of-scope ones at random."""
    rng = random.Random(seed)
    answers = {row["cluster_id"]: row for row in rows(data / "faq_answers.jsonl")}
    often = Counter(event["cluster_id"] for event in logged if event["cluster_id"])
    phrasings: dict[str, set[str]] = defaultdict(set)
    for event in logged:
        if event["cluster_id"]:
            phrasings[event["cluster_id"]].add(normalize(event["query"]))
    seen = {normalize(event["query"]) for event in logged}
    pool: dict[str, list[str]] = defaultdict(list)
    never: list[Question] = []
    for row in rows(data / "faq_queries.jsonl"):
        cluster = row["cluster_id"]
        if row["split"] != "heldout" or cluster.split(":")[0] not in sources.split(",") or normalize(row["query"]) in seen:
            continue
        if cluster in often:
            pool[cluster].append(row["query"])
        elif answers[cluster].get("reserved"):
            never.append(Question("reserved", cluster, row["query"]))
    for queries in pool.values():
        rng.shuffle(queries)
    asked: list[Question] = []
    while len(asked) < heldout and any(pool.values()):
        names = [name for name in often if pool[name]]
        (cluster,) = rng.choices(names, [often[name] for name in names])
        query = pool[cluster].pop()
        asked.append(Question("heldout", cluster, query, tuple(answers[cluster]["facts"]), len(phrasings[cluster])))
    beyond = [
        Question("outside", f"outside-{n}", row["query"])
        for n, row in enumerate(rows(data / OUTSIDE))
        if normalize(row["query"]) not in seen
    ]
    for some, wanted in ((never, reserved), (beyond, outside)):
        rng.shuffle(some)
        asked += some[:wanted]
    return asked


def holds(answer: str, facts: Sequence[str]) -> bool:
    """Whether every fact, and there is one, is in the answer, whatever its case; `a|b` is a fact in two spellings."""
    text = " ".join(answer.lower().replace("’", "'").split())
    return bool(facts) and all(any(one.lower() in text for one in fact.split("|")) for fact in facts)
