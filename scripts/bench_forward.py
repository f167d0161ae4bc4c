"""scripts/bench forward: what is answered locally, how often rightly, and what a cache or a bare model would have done.

For every seed a version is trained on the first events of a simulated user's stream (or taken from a home that
`scripts/bench night --keep` left), and serves the rest of it in order: what its tiers do not answer goes to Claude, is learned
with Claude's answer, and may be repeated from the next question on; what they answer teaches nothing. Then other phrasings of
what was logged, questions never logged and questions out of scope are asked. The same is done with each peer: an exact cache,
the nearest earlier query by its words or by its embedding, the base model with its log-probability, always asking Claude, and
an oracle that knows what can be known. The thresholds of words and embedding come from the same held-out questions of the night
and from as many questions as if never logged (shammah_trainer.unlogged), by the same rule; the exact cache needs none, and the
base model has none: hindsight only.

`in hindsight`: the best threshold on these very answers. `deployed`: at the threshold that was chosen before. A question counts
as answered by the surer of the model's own answer and the earlier one. Precision counts every local answer, those to questions
never logged and out of scope included; coverage is of other phrasings of what was logged. Intervals: 95%, by whole clusters.

The data are no part of the project; scripts/streams.py tells what the folder holds. Base and embedder come from the home that
SHAMMAH_HOME names, if they are there.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import arguments
import streams
from forward_caches import Cache, caches
from forward_figures import calibration_error, risk_coverage
from forward_plots import page
from night_figures import MEASURES, Asked, figures, plain, spread, told
from serving import Serving

from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_runtime.learned import Known
from shammah_runtime.prices import PRICES, cost_usd
from shammah_trainer.calibrate import NOTHING

DRAWS = 1000
# The base answers at length, and nearly always wrongly: a part of the questions tells enough.
_UNTUNED_ASKED = 150
_UNTUNED_TOKENS = 48
_OURS, _ALONE, _UNTUNED = "cascade", "the model alone", "untuned model"


def main() -> int:
    """Measure, print, and write figures and plots where asked to."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench forward", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=arguments.seeds, default=[0, 1, 2], metavar="0,1,2")
    parser.add_argument("--events", type=arguments.count, default=1000, help="of the stream")
    parser.add_argument("--trained", type=arguments.count, default=500, help="the first events, on which it was trained")
    parser.add_argument("--homes", type=Path, metavar="DIR", help="homes of `scripts/bench night --keep DIR`")
    parser.add_argument("--sources", default="b77,clinc", help="which clusters of the data")
    parser.add_argument("--heldout", type=arguments.count, default=450, help="other phrasings that are asked")
    parser.add_argument("--reserved", type=arguments.at_least_none, default=125, help="questions never logged that are asked")
    parser.add_argument("--outside", type=arguments.at_least_none, default=125, help="questions out of scope that are asked")
    parser.add_argument("--threads", type=arguments.count, default=2)
    parser.add_argument("--json", type=arguments.output, metavar="FILE", help="write every figure and every answer there")
    parser.add_argument("--html", type=arguments.output, metavar="FILE", help="draw the curves there")
    given = parser.parse_args()
    if lacking := streams.missing(given.data, (*streams.FILES, streams.OUTSIDE)):
        parser.error(lacking)
    if not given.trained < given.events:
        parser.error("--trained is below --events")
    if unknown := streams.unknown(given.data, given.sources):
        parser.error(unknown)
    nights = [(seed, given.trained) for seed in given.seeds]
    if given.homes and (lacking := arguments.lacking(given.homes, nights)):
        parser.error(lacking)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads")
    runs = []
    for seed in given.seeds:
        runs.append(run(given, seed))
        tell(runs[-1])
        if given.json:
            written = {"command": sys.argv[1:], "seeds": runs}
            given.json.write_text(json.dumps(plain(written), ensure_ascii=False, default=dataclasses.asdict) + "\n")
    together(runs)
    if given.html:
        pooled = {name: [one for found in runs for one in found["asked"][name]] for name in runs[0]["asked"]}
        given.html.write_text(page(pooled), encoding="utf-8")
    return 0


def run(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One user: the rest of the stream in order, then the questions."""
    with tempfile.TemporaryDirectory(prefix="shammah-forward-") as folder:
        events = streams.stream(given.data, seed, given.events, given.sources, Path(folder) / "stream.jsonl")
        home = _home(given, seed, events[: given.trained], Path(folder) / "home")
        serving = Serving(home, given.threads, streams.ANSWER_TOKENS)
        facts = {row["cluster_id"]: tuple(row.get("facts", ())) for row in streams.rows(given.data / "faq_answers.jsonl")}
        peers = caches(serving, home)
        began = time.monotonic()
        served = _serve(serving, peers, events[given.trained :], facts, seed)
        logged = events[: given.trained] + [event for event in events[given.trained :] if event["answer"] is not None]
        counts = given.heldout, given.reserved, given.outside
        questions = streams.questions(given.data, given.sources, logged, *counts, seed)
        asked = _ask(serving, peers, questions)
        asked[_UNTUNED] = _untuned(home, given.threads, questions)
        asked["oracle"] = [_asked(one, "", one.kind == "heldout", float(one.kind == "heldout"), 1.0) for one in questions]
        asked["always Claude"] = [_asked(one, "", False, 0.0, 1.0) for one in questions]
        measures = {name: in_hindsight(figures(said, DRAWS, seed), name) for name, said in asked.items()}
        return {
            "seed": seed,
            "version": serving.model.manifest.version,
            "seconds": round(time.monotonic() - began, 1),
            "served": served,
            "asked": asked,
            "figures": measures,
            "risk_coverage_area": {name: risk_coverage(said)[1] for name, said in asked.items()},
            "calibration": calibration_error([(one.confidence, one.right) for one in asked[_OURS]]),
        }


def _home(given: argparse.Namespace, seed: int, events: Sequence[streams.Event], root: Path) -> Home:
    """A home whose champion was trained on these events."""
    if given.homes:
        shutil.copytree(arguments.kept(given.homes, seed, given.trained), root)
        arguments.same_user(Home(root), [event["query"] for event in events])
        return Home(root)
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    home = streams.home_with_base(root)
    ExchangeLog(home).add_many(streams.exchanges(events, f"night-{seed}"))
    train = dataclasses.replace(Settings().train, threads=given.threads)
    result = train_once(home, dataclasses.replace(Settings(), train=train), Reporter(), force=True)
    if result.status != "published":
        raise SystemExit(f"seed {seed}: nothing was published: {result.reason}")
    return home


def _serve(
    serving: Serving, caches: dict[str, Cache], events: Sequence[streams.Event], facts: dict[str, tuple[str, ...]], seed: int
) -> dict[str, dict[str, float]]:
    """The rest of the stream in order; every contestant learns what it had to ask Claude for."""
    counted: dict[str, dict[str, float]] = {
        name: {"asked": 0, "local": 0, "wrong": 0, "saved_usd": 0.0} for name in (_OURS, *caches, "always Claude")
    }
    for number, event in enumerate(events, 1):
        query, answer, cluster = event["query"], event["answer"], event["cluster_id"]
        cost = _cost(serving, query, answer or "")
        known = Known(f"stream-{seed}-{event['n']}", query, answer) if answer is not None else None
        said = {name: cache.find(query) for name, cache in caches.items()}
        best = serving.ask(query).best
        given = {name: one.text if one.sure >= caches[name].threshold else None for name, one in said.items()}
        given |= {_OURS: best.text if best.given else None, "always Claude": None}
        for name, text in given.items():
            counts = counted[name]
            counts["asked"] += 1
            if text is None:
                if known is not None and name != "always Claude":
                    (serving.index.add if name == _OURS else caches[name].learn)(known)
                continue
            # A question asked but once, or by nobody to be answered, has no facts to hold: repeating its own answer is right.
            right = streams.holds(text, facts[cluster]) if cluster else normalize(text) == normalize(answer or "")
            counts["local"] += 1
            counts["wrong"] += not right
            counts["saved_usd"] += cost if right else 0.0
        if number % 50 == 0:
            print(f"served {number} of {len(events)}", file=sys.stderr, flush=True)
    return counted


def _cost(serving: Serving, query: str, answer: str) -> float:
    """What Claude's answer costs by the price table."""
    count = serving.model.decoder.tokenizer
    tokens = len(count.prompt(query)), len(count.answer(answer, serving.model.decoder.stop_ids))
    return cost_usd(PRICES, Settings().teacher.model, *tokens) or 0.0


def _ask(serving: Serving, caches: dict[str, Cache], questions: Sequence[streams.Question]) -> dict[str, list[Asked]]:
    """What every contestant that learned from the stream says to each question."""
    asked: dict[str, list[Asked]] = {name: [] for name in (_OURS, _ALONE, *caches)}
    for number, question in enumerate(questions, 1):
        answered = serving.ask(question.query)
        for name, said in ((_OURS, answered.best), (_ALONE, answered.own)):
            asked[name].append(_asked(question, said.text, _right(question, said.text), said.sure, given=said.given))
        for name, cache in caches.items():
            found = cache.find(question.query)
            asked[name].append(_asked(question, found.text, _right(question, found.text), found.sure, cache.threshold))
        if number % 50 == 0:
            print(f"asked {number} of {len(questions)}", file=sys.stderr, flush=True)
    return asked


def _right(question: streams.Question, text: str) -> bool:
    return question.kind == "heldout" and streams.holds(text, question.facts)


def _asked(
    question: streams.Question, text: str, right: bool, sure: float, threshold: float = NOTHING, given: bool | None = None
) -> Asked:
    accepted = sure >= threshold if given is None else given
    return Asked(question.kind, question.cluster, question.query, text, right, sure, accepted, question.logged)


def _untuned(home: Home, threads: int, questions: Sequence[streams.Question]) -> list[Asked]:
    """The base model with its mean log-probability, on some of the questions; it has no threshold that anybody chose."""
    from shammah_data.manifest import CacheShape
    from shammah_export.export import export_model
    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_runtime.engine.decoder import Decoder
    from shammah_runtime.engine.decoding import Decoding
    from shammah_runtime.engine.session import GraphSession
    from shammah_trainer.base import make_base

    base = make_base(None, home.bases, lambda _: None)
    folder = home.root / "untuned"
    sizes = export_model(base.folder, folder, "int8", context=1024).shape
    shape = CacheShape(sizes.layers, sizes.kv_heads, sizes.head_dim, sizes.vocab, sizes.context)
    tokenizer = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    decoder = Decoder(GraphSession(folder / "model.onnx", shape, "cpu", threads), tokenizer, base.stop_ids)
    asked = []
    for question in questions[:: max(1, len(questions) // _UNTUNED_ASKED)]:
        answer = decoder.generate(tokenizer.prompt(question.query), Decoding(max_tokens=_UNTUNED_TOKENS))
        sure = sum(answer.logprobs) / len(answer.logprobs) if answer.logprobs else -20.0
        asked.append(_asked(question, answer.text, _right(question, answer.text), sure))
    return asked


def in_hindsight(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The figures without those of a threshold where nobody chose one, as for the base model."""
    if name != _UNTUNED:
        return found
    return found | {"measures": {one: each for one, each in found["measures"].items() if not one.startswith("deployed")}}


def tell(found: dict[str, Any]) -> None:
    """One user on the terminal."""
    print(f"\nseed {found['seed']}, {found['version']}, {found['seconds']:.0f} s")
    print("  the rest of the stream     asked  local  wrong  saved")
    for name, counts in found["served"].items():
        print(f"  {name:<24}{counts['asked']:8}{counts['local']:7}{counts['wrong']:7}  ${counts['saved_usd']:.4f}")
    for name, one in found["figures"].items():
        print(f"  {name}: area below risk and coverage {found['risk_coverage_area'][name]:.3f}")
        for measure, figure in one["measures"].items():
            print(f"    {measure:<20} {told(figure)}")
        if name == _UNTUNED:
            print(f"    asked: {sum(counts['asked'] for counts in one['kinds'].values())}, no threshold was chosen")
            continue
        answered = (f"{kind} {counts['accepted']} of {counts['asked']}" for kind, counts in one["kinds"].items())
        print(f"    answered: {', '.join(answered)}")
    error = found["calibration"]
    print(f"  {_calibrated(error)}")
    sys.stdout.flush()


def together(runs: Sequence[dict[str, Any]]) -> None:
    """Mean, least and most of each measure over the seeds, and the calibration of all questions together."""
    print(f"\n{len(runs)} seeds: mean (least to most)")
    for name in runs[0]["figures"]:
        for measure in (one for one in MEASURES if one in runs[0]["figures"][name]["measures"]):
            values = [found["figures"][name]["measures"][measure]["value"] for found in runs]
            print(f"  {name:<18} {measure:<20} {spread(values, 'seeds')}")
    pooled = [(one.confidence, one.right) for found in runs for one in found["asked"][_OURS]]
    print(_calibrated(calibration_error(pooled)))


def _calibrated(error: dict[str, float]) -> str:
    return (
        f"calibration error {error['plain']:.3f}, debiased {error['debiased']:.3f}, root mean square {error['rms']:.3f} "
        f"({error['questions']} questions)"
    )


if __name__ == "__main__":
    sys.exit(main())
