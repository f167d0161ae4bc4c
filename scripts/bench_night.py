"""scripts/bench night: what one night learns from the first exchanges of a simulated user, measured on new questions.

For every seed and milestone a fresh home gets the first events of a stream as its log, one forced run trains, evaluates and
publishes as any night does, and the published version is asked, through the engine that serves it, other phrasings of what was
logged (drawn by how often it was asked), questions that were never logged, and questions out of scope. An answer is right when
it holds the facts that the data name. `coverage at` is in hindsight: the best threshold on these very answers; `deployed` is at
the threshold that the night published. The model is measured alone, and with the earlier answers that its version repeats where
its own is not given.

The data are no part of the project; scripts/streams.py tells what the folder holds. Base and embedder come from the home that
SHAMMAH_HOME names, if they are there.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import arguments
import streams
from night_figures import MEASURES, UNKNOWN, Asked, figures, plain, rows, spread, told
from serving import Serving, Shown

from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_data.store import ModelStore

DRAWS = 1000
# What is measured, and where its figures are in those of a night.
PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "the model alone": lambda found: found,
    "and earlier answers": lambda found: found.get("cascade", {}),
}


def main() -> int:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench night", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=arguments.seeds, default=[0, 1, 2], metavar="0,1,2")
    parser.add_argument(
        "--milestones", type=arguments.counts, default=[50, 200, 500], metavar="50,200,500", help="events logged"
    )
    parser.add_argument("--sources", default="b77,clinc", help="which clusters of the data")
    parser.add_argument("--precision", choices=("int8", "int4", "fp32"), default="int8")
    parser.add_argument("--heldout", type=arguments.count, default=200, help="other phrasings that are asked")
    parser.add_argument("--reserved", type=arguments.at_least_none, default=60, help="questions never logged that are asked")
    parser.add_argument("--outside", type=arguments.at_least_none, default=60, help="questions out of scope that are asked")
    parser.add_argument("--threads", type=arguments.count, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of [train] for all nights")
    parser.add_argument("--early", action="store_true", help="also let every answer stream, and tell what is shown early")
    parser.add_argument("--json", type=arguments.output, metavar="FILE", help="write every figure and every answer there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the home of each night there")
    parser.add_argument("--homes", type=Path, metavar="DIR", help="ask the versions that --keep left there, and train none")
    given = parser.parse_args()
    if lacking := streams.missing(given.data, (*streams.FILES, streams.OUTSIDE)):
        parser.error(lacking)
    try:
        changed = _changed(given)
    except ValueError as error:
        parser.error(str(error))
    if unknown := streams.unknown(given.data, given.sources):
        parser.error(unknown)
    asked = [(seed, events) for seed in given.seeds for events in given.milestones]
    if given.homes and (lacking := arguments.lacking(given.homes, asked)):
        parser.error(lacking)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} threads")
    nights = []
    for seed in given.seeds:
        for events in given.milestones:
            found = ask_again(given, seed, events) if given.homes else night(given, seed, events, changed)
            nights.append(found)
            tell(found)
            if given.json:
                given.json.write_text(json.dumps(plain({"command": sys.argv[1:], "nights": nights}), ensure_ascii=False) + "\n")
    for events in given.milestones:
        over_seeds(events, [found for found in nights if found["events"] == events])
    return 0


def _changed(given: argparse.Namespace) -> Settings:
    """The default settings with what was given; raises ValueError for a setting that is not there."""
    train = Settings().train
    values: dict[str, Any] = {"precision": given.precision, "threads": given.threads}
    for change in given.set:
        key, _, value = change.partition("=")
        if not hasattr(train, key):
            raise ValueError(f"--set {change}: [train] has no {key!r}")
        try:
            values[key] = value if isinstance(getattr(train, key), str) else json.loads(value)
        except ValueError:
            raise ValueError(f"--set {change}: {value!r} is no value of [train] {key}") from None
    return dataclasses.replace(Settings(), train=dataclasses.replace(train, **values))


def night(given: argparse.Namespace, seed: int, events: int, settings: Settings) -> dict[str, Any]:
    """One night after so many events, and what its version answers."""
    # Torch takes seconds to import, and refuses to be imported before it is needed elsewhere.
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    with tempfile.TemporaryDirectory(prefix="shammah-night-") as folder:
        home = streams.home_with_base(Path(folder) / "home")
        stream = streams.stream(given.data, seed, events, given.sources, Path(folder) / "stream.jsonl")
        ExchangeLog(home).add_many(streams.exchanges(stream, f"night-{seed}"))
        asked_of = given.heldout, given.reserved, given.outside
        questions = streams.questions(given.data, given.sources, stream, *asked_of, seed)
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
            found |= _figures(home, questions, given, seed)
        if given.keep:
            shutil.copytree(home.root, arguments.kept(given.keep, seed, events), dirs_exist_ok=True)
    return found


def ask_again(given: argparse.Namespace, seed: int, events: int) -> dict[str, Any]:
    """What the version in a home that was kept answers today."""
    home = Home(arguments.kept(given.homes, seed, events))
    with tempfile.TemporaryDirectory(prefix="shammah-night-") as folder:
        stream = streams.stream(given.data, seed, events, given.sources, Path(folder) / "stream.jsonl")
    arguments.same_user(home, [event["query"] for event in stream])
    questions = streams.questions(given.data, given.sources, stream, given.heldout, given.reserved, given.outside, seed)
    found: dict[str, Any] = {
        "seed": seed,
        "events": events,
        "exchanges": sum(event["answer"] is not None for event in stream),
        "status": "asked again",
        "reason": f"{ModelStore(home.models).pointer().champion} of {home.root.name}",
    }
    return found | _figures(home, questions, given, seed)


def _figures(home: Home, questions: Sequence[streams.Question], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    alone, whole, shown = _ask(home, questions, given.threads, given.early)
    found = {"early": early_figures(shown), "cascade": figures(whole, DRAWS, seed) | {"answers": rows(whole)}}
    return found | figures(alone, DRAWS, seed) | {"answers": rows(alone)}


def _ask(
    home: Home, questions: Sequence[streams.Question], threads: int, early: bool
) -> tuple[list[Asked], list[Asked], list[tuple[Shown, bool]]]:
    """What the champion answers by itself, and what with earlier answers beside its own; each question stands alone.

    With `early` also how its own answers stream, and whether they are right.
    """
    serving = Serving(home, threads, streams.ANSWER_TOKENS)
    alone, whole, shown = [], [], []
    for number, question in enumerate(questions, 1):
        answered = serving.ask(question.query)
        for said, sink in ((answered.own, alone), (answered.best, whole)):
            right = question.kind == "heldout" and streams.holds(said.text, question.facts)
            sink.append(
                Asked(question.kind, question.cluster, question.query, said.text, right, said.sure, said.given, question.logged)
            )
        if early:
            seen = serving.watch(question.query)
            shown.append((seen, question.kind == "heldout" and streams.holds(seen.text, question.facts)))
        if number % 50 == 0:
            print(f"asked {number} of {len(questions)}", file=sys.stderr, flush=True)
    return alone, whole, shown


def early_figures(shown: Sequence[tuple[Shown, bool]]) -> dict[str, float]:
    """Of the answers that were given, the share that was shown early and after how many tokens and milliseconds text is there,
    with the policy and without; of those shown early, the share that was cut, and the share that was right as far as it came.
    """
    given = [one for one, _ in shown if one.given]
    committed = [(one, right) for one, right in shown if one.committed is not None]
    if not given:
        return {}
    cut = sum(not one.given for one, _ in committed)
    return {
        "given": len(given),
        "given_shown_early": sum(one.committed is not None for one in given) / len(given),
        "tokens_to_first": median(one.tokens if one.committed is None else one.committed for one in given),
        "tokens_to_end": median(one.tokens for one in given),
        "ms_to_first": median(one.first_ms for one in given),
        "ms_to_end": median(one.whole_ms for one in given),
        "committed": len(committed),
        "cut": cut,
        "committed_right": sum(right for _, right in committed),
    }


def tell(found: dict[str, Any]) -> None:
    """One night on the terminal."""
    took = (
        f" after {found['night_seconds']:.0f} s (training {found['train_seconds'] or 0:.0f} s)"
        if "night_seconds" in found
        else ""
    )
    print(f"\nseed {found['seed']}, {found['events']} events, {found['exchanges']} exchanges: {found['status']}{took}")
    print(f"  {found['reason']}")
    for what, part in PARTS.items():
        for name, figure in part(found).get("measures", {}).items():
            print(f"  {what:<20} {name:<20} {told(figure)}")
    for name, band in found.get("by_logged", {}).items():
        print(f"  logged {name:<5} asked {band['asked']:4}   right {band['right']:.0%}   accepted {band['accepted']:.0%}")
    for name, kind in found.get("kinds", {}).items():
        print(f"  {name:<9} asked {kind['asked']:4}   accepted {kind['accepted']:4}   right {kind['accepted_right']:4}")
    if early := found.get("early"):
        print(
            f"  shown early {early['given_shown_early']:.0%} of {early['given']} given answers; text after a median of "
            f"{early['tokens_to_first']:.0f} tokens ({early['ms_to_first']:.0f} ms) instead of {early['tokens_to_end']:.0f} "
            f"({early['ms_to_end']:.0f} ms); {early['cut']} of {early['committed']} cut, {early['committed_right']} right"
        )
    sys.stdout.flush()


def over_seeds(events: int, nights: Sequence[dict[str, Any]]) -> None:
    """Mean, least and most of each measure over the seeds; a night that published nothing covers nothing, with no precision."""
    print(f"\nafter {events} events, {len(nights)} seeds: mean (least to most)")
    for what, part in PARTS.items():
        for name in MEASURES:
            of = [part(found).get("measures") for found in nights]
            nothing = math.nan if name in UNKNOWN else 0.0
            values = [measures[name]["value"] if measures else nothing for measures in of]
            print(f"  {what:<20} {name:<20} {spread(values, 'nights')}")


if __name__ == "__main__":
    sys.exit(main())
