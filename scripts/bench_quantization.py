"""scripts/bench quantization: what int8 and int4 cost, beside a separate run that nothing was quantized in.

Two runs learn the first events of a simulated user from the same examples, in the same order and number of steps: one plain,
one through int4's quantizer, from the base that was fitted to it, as a night begins. The plain one is exported as fp32 and as
int8, the other as int4. Each graph answers the same held-out phrasings of clusters that were logged, through the engine that
serves; an answer is right when it ended and holds the facts that the data name. Targets have one wording per cluster. A
reference answer is offered as a draft, which by docs/decisions/0005 changes how long an answer takes and nothing else. With
more --questions than there are held-out phrasings, phrasings that might have been logged and were not follow them.

The loss of accuracy is paired, query by query, against the fp32 graph of the plain run; its upper bound is the 95% quantile of
a bootstrap of whole clusters. The perplexity ratio is that of the held-out answers, against the same graph.

The data are no part of the project: a folder with make_stream.py (SEED EVENTS OUT SOURCES), faq_answers.jsonl and
faq_queries.jsonl. With --work, finished stages and answers are kept there, and a run that was stopped goes on.
"""

import argparse
import json
import math
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arguments
import numpy as np
import streams

from shammah_data.errors import InputError, ShammahError
from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.settings import Precision, TrainSettings

FILES = ("make_stream.py", "faq_answers.jsonl", "faq_queries.jsonl")
# A graph and the run whose weights it has.
GRAPHS: tuple[tuple[Precision, str], ...] = (("fp32", "plain"), ("int8", "plain"), ("int4", "through"))
DRAWS = 10_000
# Loss of accuracy (upper bound, in points) and perplexity ratio that are allowed.
LIMITS = {"int8": (0.3, 1.01), "int4": (1.0, 1.05)}
SPARE_TOKENS = 16


@dataclass(frozen=True)
class Question:
    """A held-out phrasing, the answer that its cluster was trained on, and what a right answer holds."""

    query: str
    answer: str
    facts: tuple[str, ...]
    cluster: str


def main() -> int:
    """Train, export, ask, and print; 1 when a limit is not kept."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench quantization", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--events", type=arguments.count, default=300)
    parser.add_argument("--questions", type=arguments.count, default=1000, help="the most that are asked")
    parser.add_argument("--epochs", type=float, default=TrainSettings().epochs)
    parser.add_argument("--seed", type=arguments.at_least_none, default=0)
    parser.add_argument("--threads", type=arguments.count, default=2)
    parser.add_argument("--base", help="a base as shammah-train knows it (default: its default)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep weights, graphs and answers there, and go on from them")
    parser.add_argument("--only", choices=("plain", "through"), help="train this run only; needs --work")
    parser.add_argument("--precision", choices=tuple(LIMITS), help="measure this one only (default: both)")
    parser.add_argument("--json", type=arguments.output, metavar="FILE", help="write every figure there")
    given = parser.parse_args()
    if lacking := streams.missing(given.data, streams.FILES):
        parser.error(lacking)
    if given.only and not given.work:
        parser.error("--only without --work leaves nothing behind")
    with tempfile.TemporaryDirectory(prefix="shammah-quantization-") as folder:
        try:
            # What other settings left there must not be taken for this run's.
            return _measure(
                given, (given.work or Path(folder)) / f"seed{given.seed}-events{given.events}-epochs{given.epochs:g}"
            )
        except ShammahError as error:
            print(f"scripts/bench quantization: {error}", file=sys.stderr)
            return error.exit_code


def _measure(given: argparse.Namespace, work: Path) -> int:
    work.mkdir(parents=True, exist_ok=True)
    base, made_from = given.base or "", work / "base.txt"
    if made_from.exists() and made_from.read_text(encoding="utf-8") != base:
        raise InputError(f"{work}: what is there was made from another base: name another folder")
    made_from.write_text(base, encoding="utf-8")
    answers = {row["cluster_id"]: row for row in streams.rows(given.data / "faq_answers.jsonl")}
    stream = streams.stream(given.data, given.seed, given.events, "b77,clinc", work / "stream.jsonl")
    graphs = tuple(graph for graph in GRAPHS if graph[0] in ("fp32", given.precision or graph[0]))
    for run in dict.fromkeys(run for _, run in graphs):
        if given.only in (None, run) and not (work / run / "config.json").exists():
            _train(given, stream, answers, run, work / run)
    if given.only:
        return 0
    questions = _questions(given, stream, answers)
    if not questions:
        raise InputError(f"{given.events} events log no question of which there are other phrasings: more --events")
    found: dict[str, list[dict[str, Any]]] = {}
    for precision, run in graphs:
        found[precision] = _ask(given, questions, work / run, work / precision, precision, work / f"{precision}.jsonl")
    clusters = [question.cluster for question in questions]
    figures = {precision: compare(found["fp32"], found[precision], clusters, given.seed) for precision in found}
    print(f"{platform.machine()}, {os.cpu_count()} cores; {given.events} events, {len(questions)} questions, seed {given.seed}")
    print(f"{'':6}{'right':>8}{'loss, points':>14}{'95% bound':>11}{'differ':>8}{'perplexity ratio':>18}{'MB':>7}")
    for precision in found:
        of = figures[precision]
        size = sum(path.stat().st_size for path in (work / precision).iterdir()) / 1e6
        print(
            f"{precision:6}{of['right']:8.1%}{of['loss']:14.2f}{of['bound']:11.2f}{of['differ']:8.1%}"
            f"{of['perplexity_ratio']:18.4f}{size:7.0f}"
        )
    verdicts = [_verdict(precision, figures[precision]) for precision in found if precision in LIMITS]
    print("\n".join(line for _, line in verdicts))
    if given.json:
        given.json.write_text(json.dumps({"command": sys.argv[1:], "figures": figures}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(kept for kept, _ in verdicts) else 1


def compare(
    reference: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], clusters: Sequence[str], seed: int
) -> dict[str, float]:
    """The loss in points of `rows` against `reference`, query by query, and its upper bound: the 95% quantile of a bootstrap.

    `clusters`: of each query; they are drawn whole, as phrasings of one question are lost together. The bound is never below
    the exact one for no loss among so many queries, which no bootstrap shows. Positive: fewer right.
    `differ` is the share of queries that only one of both answered right. Raises nothing.
    """
    right_Q = np.array([row["right"] for row in rows], float)
    lost_Q = np.array([row["right"] for row in reference], float) - right_Q
    rng = np.random.default_rng(seed)
    _, place_Q = np.unique(clusters, return_inverse=True)
    asked_C = np.bincount(place_Q)
    lost_C = np.bincount(place_Q, weights=lost_Q)
    drawn = []
    for _ in range(DRAWS):
        of = rng.integers(0, len(asked_C), len(asked_C))
        drawn.append(lost_C[of].sum() / asked_C[of].sum())
    unseen = 1 - 0.05 ** (1 / len(lost_Q))
    tokens = sum(row["tokens"] for row in rows)
    nats = sum(row["nll"] for row in rows) - sum(row["nll"] for row in reference)
    return {
        "right": float(right_Q.mean()),
        "loss": 100 * float(lost_Q.mean()),
        "bound": 100 * max(float(np.quantile(drawn, 0.95)), unseen),
        "differ": float(np.abs(lost_Q).mean()),
        "perplexity_ratio": math.exp(nats / tokens),
    }


def _verdict(precision: str, figures: dict[str, float]) -> tuple[bool, str]:
    bound, ratio = LIMITS[precision]
    kept = figures["bound"] <= bound and figures["perplexity_ratio"] <= ratio
    return kept, (
        f"{precision}: {'kept' if kept else 'NOT kept'}: bound {figures['bound']:.2f} of at most {bound}, "
        f"perplexity ratio {figures['perplexity_ratio']:.4f} of at most {ratio}"
    )


def _questions(
    given: argparse.Namespace, stream: Sequence[dict[str, Any]], answers: dict[str, dict[str, Any]]
) -> list[Question]:
    """Phrasings of logged clusters that were not logged: the held-out ones, then the others, each kind in random order."""
    logged = {event["cluster_id"] for event in stream if event["cluster_id"]}
    taught = {normalize(event["query"]) for event in stream}
    rows = [
        row
        for row in streams.rows(given.data / "faq_queries.jsonl")
        if row["cluster_id"] in logged and normalize(row["query"]) not in taught
    ]
    found: list[Question] = []
    for heldout in (True, False):
        kind = [
            Question(
                row["query"],
                answers[row["cluster_id"]]["answer"],
                tuple(answers[row["cluster_id"]]["facts"]),
                row["cluster_id"],
            )
            for row in rows
            if (row["split"] == "heldout") == heldout
        ]
        random.Random(given.seed).shuffle(kind)
        found += kind
    return found[: given.questions]


def _train(
    given: argparse.Namespace, stream: Sequence[dict[str, Any]], answers: dict[str, dict[str, Any]], run: str, out: Path
) -> None:
    import torch
    import transformers

    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_trainer.base import make_base
    from shammah_trainer.batches import Encoder
    from shammah_trainer.dataset import Dataset, Example
    from shammah_trainer.finetune import finetune, load_model
    from shammah_trainer.fitting import begin_with
    from shammah_trainer.loop import Recipe
    from shammah_trainer.progress import Reporter
    from shammah_trainer.replay import replayed

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    reporter = Reporter()
    base = make_base(given.base, Home.find().bases, reporter.say)
    groups: dict[str, int] = {}
    logged = {}
    for event in stream:
        if event["answer"]:
            cluster = event["cluster_id"]
            target = answers[cluster]["answer"] if cluster else event["answer"]
            group = groups.setdefault(cluster or event["query"], len(groups))
            logged[normalize(event["query"])] = Example(str(event["n"]), event["query"], target, group=group)
    examples = tuple(logged.values())
    examples += replayed(Dataset(examples, (), (), 0))
    train = TrainSettings(epochs=given.epochs, seed=given.seed)
    recipe = Recipe(
        train.method,
        train.lora_rank,
        train.epochs,
        train.learning_rate,
        train.batch_size,
        train.context_share,
        train.reworded_share,
        train.seed,
        "int4" if run == "through" else None,
        opening=train.opening,
    )
    tokenizer = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    encoder = Encoder(tokenizer, base.stop_ids, train.max_length)
    fitted = begin_with(base, recipe.through, reporter.say) if recipe.through else None
    began = time.monotonic()
    trained = finetune(
        load_model(fitted.folder if fitted else base.folder), encoder, examples, recipe, base.stop_ids[0], reporter.training
    )
    reporter.end()
    spent = f"in {time.monotonic() - began:.0f} s"
    reporter.say(f"{run}: {len(examples)} examples {spent}, losses {', '.join(f'{loss:.3f}' for loss in trained.epoch_losses)}")
    for name in ("tokenizer.json", "base.json"):
        out.mkdir(exist_ok=True)
        (out / name).write_bytes((base.folder / name).read_bytes())
    # config.json is written last and says that the folder is complete.
    trained.model.save_pretrained(out)


def _answered(kept: Path, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """The rows that are there, without one that was torn when a run was killed. Raises InputError."""
    text = kept.read_text(encoding="utf-8") if kept.exists() else ""
    *lines, torn = text.split("\n")
    if torn:
        kept.write_text(text[: -len(torn)], encoding="utf-8")
    rows = [json.loads(line) for line in lines]
    if any(row["query"] != question.query for row, question in zip(rows, questions, strict=False)):
        raise InputError(f"{kept}: answers to other questions: name another folder")
    return rows


def _ask(
    given: argparse.Namespace, questions: Sequence[Question], merged: Path, graph: Path, precision: Precision, kept: Path
) -> list[dict[str, Any]]:
    """What the graph answers to each question, and the likelihood of the answer that it should have given."""
    from shammah_data.manifest import CacheShape
    from shammah_export.checkpoint import read_json
    from shammah_export.export import export_model
    from shammah_export.shape import ModelShape
    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_runtime.engine.decoder import Decoder
    from shammah_runtime.engine.decoding import Decoding
    from shammah_runtime.engine.session import GraphSession
    from shammah_trainer.base import Base

    rows = _answered(kept, questions)
    context = min(TrainSettings().context, ModelShape.from_config(read_json(merged / "config.json")).context)
    sizes = export_model(merged, graph, precision, context=context).shape
    shape = CacheShape(sizes.layers, sizes.kv_heads, sizes.head_dim, sizes.vocab, sizes.context)
    base = Base.open(merged)
    tokenizer = ChatTokenizer(merged / "tokenizer.json", base.chat)
    decoder = Decoder(GraphSession(graph / "model.onnx", shape, "cpu", given.threads), tokenizer, base.stop_ids)
    wanted = [tokenizer.answer(question.answer, base.stop_ids) for question in questions]
    most = Decoding(max_tokens=max(len(ids) for ids in wanted) + SPARE_TOKENS)
    with kept.open("a", encoding="utf-8") as sink:
        for question, ids in list(zip(questions, wanted, strict=True))[len(rows) :]:
            prompt = tokenizer.prompt(question.query)
            answer = decoder.generate(prompt, most, answers=[ids])
            (scores,) = decoder.score(prompt, [ids])
            row = {
                "query": question.query,
                "answer": answer.text,
                "right": answer.finished and streams.holds(answer.text, question.facts),
                "nll": -sum(scores),
                "tokens": len(ids),
            }
            rows.append(row)
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
            sink.flush()
            if len(rows) % 100 == 0:
                print(f"{precision}: {len(rows)} of {len(questions)}", file=sys.stderr, flush=True)
    return rows[: len(questions)]


if __name__ == "__main__":
    sys.exit(main())
