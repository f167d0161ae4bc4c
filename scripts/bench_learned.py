"""Earlier answers: how fast they are found, which pairs of queries are told apart, and how long the model takes to verify one.

- look-up: at --rows exchanges, of a vector that is near a known one; `found` is the share of the three nearest that an exact
  search finds too.
- pairs (--data, a folder with hard_negatives.jsonl, faq_answers.jsonl and faq_queries.jsonl): the log holds the second query of
  each pair, and with --stream other phrasings of the same questions; the first query is asked. "same" must get the twin's
  answer, "other" must never. Given by
    nearest   the nearest query's answer from --similarity on: a cache of embeddings
    guarded   the same, where nothing speaks against it
    version   the learned tier of the version that serves in --home, trained or not on what the log holds
    cascade   that, and else the version's own answer
  With --night DIR that log is trained on first, in a home of its own there, and the version that this gives is asked.
- latency (--home): the held-out phrasings of the last run, whose answers were logged before: retrieve, compare, prefill,
  verify and decide, beside the model's answer decoded without a draft, and the same words found again.

Run by `scripts/bench learned`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import arguments
import numpy as np
import streams

from shammah_data.errors import ShammahError
from shammah_data.exchange import Exchange
from shammah_data.guards import conflict
from shammah_data.home import Home
from shammah_data.judge import same_facts
from shammah_data.log import ExchangeLog
from shammah_data.nearest import Nearest
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.engine.backing import Backing, Neighbour, backing
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.engine.evidence import NEIGHBOURS, answer_ids, candidates
from shammah_runtime.engine.model import Memory, Model
from shammah_runtime.learned import Known, LearnedIndex
from shammah_runtime.models import ModelKeeper
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import Query
from shammah_runtime.retrieval import Retrieval
from shammah_runtime.verified import VerifiedTier

FILES = ("hard_negatives.jsonl", "faq_answers.jsonl", "faq_queries.jsonl")
_MOST_TOKENS = 256
# So many of the nearest that are looked up are compared with those of an exact search.
_COMPARED = 3


def main() -> int:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(prog="scripts/bench learned", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=arguments.count, default=100_000)
    parser.add_argument("--lookups", type=arguments.count, default=2000)
    parser.add_argument("--data", type=Path, help="folder with hard_negatives.jsonl")
    parser.add_argument("--split", choices=("dev", "test", "all"), default="all")
    parser.add_argument("--stream", type=arguments.at_least_none, default=0, help="other phrasings of each question in the log")
    parser.add_argument("--similarity", type=float, default=0.8)
    parser.add_argument("--home", type=Path, help="home whose version is measured; its embedder serves without one, too")
    parser.add_argument(
        "--night", type=Path, metavar="DIR", help="train on the log of the pairs there, unless that was done before"
    )
    parser.add_argument("--questions", type=arguments.count, default=60)
    parser.add_argument("--threads", type=arguments.count, default=2)
    parser.add_argument("--json", type=arguments.output)
    given = parser.parse_args()
    if given.data and (lacking := streams.missing(given.data, FILES)):
        parser.error(lacking)
    if given.home and not given.home.is_dir():
        parser.error(f"{given.home}: no such home")
    if given.night and (given.home or not given.data):
        parser.error("--night goes with --data, and makes a home of its own: not with --home")
    if given.rows < _COMPARED:
        parser.error(f"--rows: at least {_COMPARED}")
    if given.night and given.night.exists() and ModelStore(Home(given.night).models).pointer().champion is None:
        parser.error(f"{given.night} is there, and nothing was published in it: name another folder, or delete it")
    try:
        return _measure(given)
    except ShammahError as error:
        print(f"scripts/bench learned: {error}", file=sys.stderr)
        return error.exit_code


def _measure(given: argparse.Namespace) -> int:
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ("shammah", "numpy", "onnxruntime")},
    }
    print(figures["machine"], figures["versions"])
    figures["look-up"] = look_up(given.rows, given.lookups)
    if given.night:
        home = night(given.night, read_pairs(given.data, given.split, given.stream)[1], given.threads)
    else:
        home = Home(given.home) if given.home else Home.find()
    keeper = ModelKeeper(ModelStore(home.models), Wanted(threads=given.threads))
    keeper.look()
    model = keeper.serving()
    if model is None or model.memory is None:
        print(f"{'version':<12} none with a learned index in {home.root}: {keeper.reason}")
    embedder = model.memory.embedder if model and model.memory else Embedder(home.embedder, threads=1)
    if given.data:
        figures["pairs"] = pairs(given.data, given.split, given.stream, given.similarity, embedder, keeper)
    if model is not None and model.memory is not None:
        figures["latency"] = latency(home, keeper, model, given.questions)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def show(name: str, text: str) -> None:
    """A line of the table."""
    print(f"{name:<12} {text}", flush=True)


def look_up(rows: int, count: int) -> dict[str, float]:
    """Vectors in clusters, as questions come, and queries near them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, rows // 50), 384)).astype(np.float32)

    def drawn(number: int) -> Any:
        found = centres[rng.integers(len(centres), size=number)] + 0.7 * rng.standard_normal((number, 384)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    vectors_NH = drawn(rows)
    index = Nearest(384)
    for start in range(0, rows, 4096):
        part = vectors_NH[start : start + 4096]
        index.add([str(n) for n in range(start, start + len(part))], part)
    wall, cpu, found = [], [], 0
    for query in drawn(count):
        began, used = time.perf_counter(), time.thread_time()
        listed = index.nearest(query, NEIGHBOURS)
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.thread_time() - used))
        exact = np.argpartition(-(vectors_NH @ query), _COMPARED - 1)[:_COMPARED]
        found += len({str(n) for n in exact} & {identity for identity, _ in listed[:_COMPARED]})
    figures = {
        "rows": float(rows),
        "median_ms": float(np.median(wall)),
        "p99_ms": float(np.percentile(wall, 99)),
        "p99_cpu_ms": float(np.percentile(cpu, 99)),
        "found": found / (_COMPARED * count),
        "megabytes": index.bytes / 1e6,
    }
    show(
        "look-up",
        f"{rows} exchanges: median {figures['median_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms (of one core "
        f"{figures['p99_cpu_ms']:.2f}), found {figures['found']:.1%}, {figures['megabytes']:.0f} MB",
    )
    return figures


@dataclass(frozen=True)
class Pair:
    """A query that is asked and one that was logged, with the answer that it got."""

    kind: str
    same: bool
    asked: str
    logged: str
    answer: str


def pairs(
    data: Path, split: str, stream: int, similarity: float, embedder: Embedder, keeper: ModelKeeper
) -> dict[str, dict[str, Any]]:
    """Per way of answering and kind of pair: how many of it got the twin's answer."""
    listed, logged = read_pairs(data, split, stream)
    index = LearnedIndex()
    retrieval = Retrieval(index)
    for query, answer in logged.items():
        index.add(Known(_identity(query), query, answer))
    known = index.all()
    near = Nearest(384)
    near.add([one.id for one in known], embedder.embed([one.query for one in known]))
    asked = list(dict.fromkeys(pair.asked for pair in listed))
    vector_of = dict(zip(asked, embedder.embed(asked), strict=True))

    def neighbours(query: str) -> list[Neighbour]:
        found = [(index.get(identity), cosine) for identity, cosine in near.nearest(vector_of[query], NEIGHBOURS)]
        return [Neighbour(one.id, one.query, one.answer, cosine) for one, cosine in found if one is not None]

    def nearest(query: str) -> str | None:
        first = neighbours(query)[0]
        return first.answer if first.similarity >= similarity else None

    def guarded(query: str) -> str | None:
        for one in candidates(query, neighbours(query)):
            if one.agreeing is not None and one.agreeing.similarity >= similarity:
                return one.answer
        return None

    ways: dict[str, Callable[[str], str | None]] = {"nearest": nearest, "guarded": guarded}
    model = keeper.serving()
    if model is not None and model.memory is not None and model.graph.evidence is not None:
        verified = VerifiedTier(keeper, index, retrieval, lambda: _MOST_TOKENS)
        retrieval.attach(model.memory)
        index.logged(one.id for one in known)
        ours = {one.id for one in known}
        for one in index.all():
            if one.id not in ours:
                index.remove(one.id)
        retrieval.catch_up(model.memory)

        def backed(query: str, answer: str) -> Backing:
            return backing(query, answer, verified.neighbours(query), index.support(query, answer))

        neural = NeuralTier(keeper, Decoding(max_tokens=_MOST_TOKENS), backed, verified.found, verified.against)

        def version(query: str) -> str | None:
            proposal = verified.propose(Query(query))
            return proposal.text if proposal is not None and proposal.accepted else None

        def cascade(query: str) -> str | None:
            verified.look(Query(query))
            own = neural.propose(Query(query))
            return own.text if own.accepted else version(query)

        ways |= {"version": version, "cascade": cascade}
    blocked = Counter((pair.kind, pair.same) for pair in listed if conflict(pair.asked, pair.logged) is not None)
    totals = Counter((pair.kind, pair.same) for pair in listed)
    show("pairs", f"{len(listed)} pairs, {len(logged)} exchanges in the log")
    figures: dict[str, dict[str, Any]] = {"guards": {}}
    for kind, total in sorted(totals.items()):
        figures["guards"][_name(*kind)] = {"pairs": total, "contradict": blocked[kind]}
        show("guards", f"{_name(*kind):<32} {blocked[kind]:4} of {total:4} contradict each other")
    for way, answer in ways.items():
        given = {query: answer(query) for query in asked}
        figures[way] = _counted(listed, given, totals)
        for kind, counts in figures[way].items():
            show(way, f"{kind:<32} {counts['twin']:4} of {counts['pairs']:4} got the twin's answer, {counts['answered']:4} any")
    return figures


def night(folder: Path, logged: dict[str, str], threads: int) -> Home:
    """A home whose log is that of the pairs, and a version trained on it; what is there already is kept."""
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    if ModelStore(Home(folder).models).pointer().champion is not None:
        return Home(folder)
    home = streams.home_with_base(folder)
    ExchangeLog(home).add_many(
        [Exchange(query, answer, "teacher", id=_identity(query), source="bench") for query, answer in logged.items()]
    )
    train = replace(Settings().train, threads=threads)
    result = train_once(home, replace(Settings(), train=train), Reporter(), force=True)
    show("night", f"{result.status}: {result.reason}")
    return home


def _identity(query: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, query))


def _counted(listed: Sequence[Pair], given: dict[str, str | None], totals: Counter[tuple[str, bool]]) -> dict[str, Any]:
    twin: Counter[tuple[str, bool]] = Counter()
    answered: Counter[tuple[str, bool]] = Counter()
    for pair in listed:
        found = given[pair.asked]
        answered[pair.kind, pair.same] += found is not None
        twin[pair.kind, pair.same] += found is not None and (found == pair.answer or same_facts(found, pair.answer))
    return {
        _name(*kind): {"pairs": total, "twin": twin[kind], "answered": answered[kind]} for kind, total in sorted(totals.items())
    }


def _name(kind: str, same: bool) -> str:
    return f"{'same' if same else 'other'} {kind}"


def read_pairs(data: Path, split: str, stream: int) -> tuple[list[Pair], dict[str, str]]:
    """The pairs, and the log: queries with their answers. A query without a known answer gets one of its own."""
    answers = {row["cluster_id"]: row["answer"] for row in _lines(data / "faq_answers.jsonl")}
    listed, logged = [], {}
    clusters = set()
    for row in _lines(data / "hard_negatives.jsonl"):
        if split not in ("all", row["split"]):
            continue
        cluster = row.get("b_cluster")
        clusters.add(cluster)
        answer = logged.get(row["b"]) or answers.get(cluster) or f"What there is to say about this: {row['b']}"
        logged[row["b"]] = answer
        listed.append(Pair(row["kind"], row["same"], row["a"], row["b"], answer))
    counts: dict[str, int] = defaultdict(int)
    asked = {pair.asked for pair in listed}
    for row in _lines(data / "faq_queries.jsonl") if stream else ():
        cluster = row["cluster_id"]
        if row["split"] == "stream" and cluster in clusters and row["query"] not in asked and counts[cluster] < stream:
            counts[cluster] += 1
            logged.setdefault(row["query"], answers[cluster])
    return listed, logged


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def latency(home: Home, keeper: ModelKeeper, model: Model, most: int) -> dict[str, dict[str, float]]:
    """What each part of an answer takes, in milliseconds."""
    runs = sorted(home.runs.glob("*/heldout.jsonl"))
    rows = [row for row in _lines(runs[-1]) if row["kind"] == "phrasing"][:most] if runs else []
    if not rows or model.memory is None:
        show("latency", f"no held-out phrasings in {home.runs}")
        return {}
    index = LearnedIndex()
    retrieval = Retrieval(index)
    retrieval.attach(model.memory)
    for row in rows:
        # The version knows them by now; they are to be other words for something that it knows.
        for one in index.all():
            if one.query == row["query"]:
                index.remove(one.id)
    verified = VerifiedTier(keeper, index, retrieval, lambda: _MOST_TOKENS)
    taken: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, milliseconds in measured(row["query"], model, model.memory, index, retrieval, verified).items():
            taken[name].append(milliseconds)
    answered = len(taken["whole, answered"])
    show("latency", f"{len(rows)} held-out phrasings of logged answers, {answered} answered; {model.description}")
    figures = {}
    for name, values in taken.items():
        if not values:
            continue
        figures[name] = {"median": statistics.median(values), "p90": float(np.percentile(values, 90)), "count": len(values)}
        show("", f"{name:<16} median {figures[name]['median']:7.1f} ms, p90 {figures[name]['p90']:7.1f} ms ({len(values)})")
    return figures


def measured(
    query: str, model: Model, memory: Memory, index: LearnedIndex, retrieval: Retrieval, verified: VerifiedTier
) -> dict[str, float]:
    """Milliseconds of each part of one answer."""
    decoder = model.decoder
    found, retrieve = timed(lambda: retrieval.neighbours(memory, query))
    listed, compare = timed(lambda: candidates(query, found))
    prompt = decoder.tokenizer.prompt(query)
    ids = answer_ids(decoder.tokenizer.answer(listed[0].answer, decoder.stop_ids))
    _, prefill = timed(lambda: decoder.score(prompt, [ids[:1]]))
    _, verify = timed(lambda: decoder.score(prompt, [ids]))
    forget_prompt(model)
    proposal, whole = timed(lambda: verified.propose(Query(query)))
    forget_prompt(model)
    _, decode = timed(lambda: decoder.generate(prompt, Decoding(max_tokens=_MOST_TOKENS)))
    _, again = timed(lambda: index.nearest(listed[0].nearest.query))
    return {
        "retrieve": retrieve,
        "compare": compare,
        "prefill": prefill,
        "verify": verify,
        "whole, answered" if proposal is not None and proposal.accepted else "whole, declined": whole,
        "plain decode": decode,
        "same words": again,
    }


def forget_prompt(model: Model) -> None:
    """Read other prompts, so that what is measured next begins as a new question does."""
    for text in ("Good morning.", "What is this?", "Tell me more.", "Who is it?"):
        model.decoder.score(model.decoder.tokenizer.prompt(text), [[model.decoder.stop_ids[0]]])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the milliseconds it took."""
    began = time.perf_counter()
    found = work()
    return found, 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main())
