"""From trained weights to a measured graph: export, parity, likelihoods, answers, calibration. Publishes nothing."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from shammah_data.embedder import NAME
from shammah_data.exchange import Message
from shammah_data.learned import FOLDER
from shammah_data.manifest import CacheShape, GraphEntry, Retrieval
from shammah_data.settings import TrainSettings
from shammah_export.export import ExportReport, export_model
from shammah_export.parity import LIMITS, measure_parity, within_limits
from shammah_export.precision import BITS, LARGEST_BLOCK, Precision
from shammah_export.shape import ModelShape
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.answering import Asked, answered
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.duplicates import near_duplicates
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Backs, Kind, Outcome, heldout_losses, match_answers, mean_of
from shammah_trainer.footprint import measure_footprint
from shammah_trainer.lookups import Tried
from shammah_trainer.matching import Matching
from shammah_trainer.outside import QUERIES
from shammah_trainer.progress import Reporter
from shammah_trainer.record import counts, given, intervals
from shammah_trainer.retrieved import Weigher, build_index
from shammah_trainer.second import second_graph
from shammah_trainer.unlogged import unlogged
from shammah_trainer.weighing import weigh

# Longer than nearly every answer; a model that rambles on is cut here, and its answer counts as wrong.
_ANSWER_TOKENS = 160
_PARITY_EXAMPLES = 8
_FEWEST_PHRASINGS = 8
# Earlier turns of held-out questions come from so few exchanges that they rarely change from night to night.
_CONTEXTS = 8


@dataclass(frozen=True)
class Assessment:
    """All that was measured of a version's graphs; but for their entries it is of the first, which runs on the processor.

    `losses`: (nats, tokens) of the held-out phrasings, then of the held-out groups; None for what does not fit. `backing`
    knows what was trained on, `most_tokens` is the longest answer that was allowed. `repeated`: beside each of the `outcomes`
    the earlier answer that is given to its question, or None; empty without an index.
    """

    graphs: tuple[GraphEntry, ...]
    shape: CacheShape
    outcomes: tuple[Outcome, ...]
    losses: tuple[tuple[float, int] | None, ...]
    backing: Backs
    most_tokens: int
    matching: Matching
    parity_reasons: tuple[str, ...]
    figures: dict[str, Any]
    retrieval: Retrieval | None = None
    repeated: tuple[Tried | None, ...] = ()


def assess(
    base: Base,
    dataset: Dataset,
    merged: Path,
    staging: Path,
    train: TrainSettings,
    through: Precision | None,
    reporter: Reporter,
    embedder: Path,
    export: Callable[..., ExportReport] = export_model,
) -> Assessment:
    """Export the weights in `merged` into `staging` and measure the graph with the engine that will serve it.

    `through`: the precision whose rounding the weights were trained through, so that exporting them rounds nothing more.
    `embedder`: folder of the embedder that finds earlier answers; without one in it nothing is retrieved.
    Raises ExportError and ArtifactError.
    """
    config = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    context = min(train.context, ModelShape.from_config(config).context)
    folder = staging / train.precision
    exported = export(merged, folder, train.precision, context=context)
    reporter.say(f"exported {train.precision}: {exported.bytes / 1e6:.0f} MB in {exported.seconds:.0f} s")
    stored = {"bits": BITS.get(train.precision, 32), "largest_block": LARGEST_BLOCK.get(train.precision)}
    figures: dict[str, Any] = {
        "export": {"precision": train.precision, **stored, "bytes": exported.bytes, "nodes": exported.nodes}
    }
    sizes = exported.shape
    shape = CacheShape(sizes.layers, sizes.kv_heads, sizes.head_dim, sizes.vocab, sizes.context)
    tokenizer = ChatTokenizer(merged / "tokenizer.json", base.chat)
    encoder = Encoder(tokenizer, base.stop_ids, train.max_length)
    heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)

    encoded = [item for example in heldout[:_PARITY_EXAMPLES] if (item := encoder.encode(example)) is not None]
    parity_ids = [item.prompt + item.response for item in encoded] or [tuple(tokenizer.prompt("Hello"))]
    parity = measure_parity(merged, folder, parity_ids, train.precision)
    figures["parity"] = parity.agreement
    # What is left is the rounding of activations, as for int8.
    reasons = within_limits(parity, LIMITS["int8"] if through == train.precision else None)
    reporter.say(f"parity with torch: top-1 agreement {parity.top1_agreement:.1%}, KL {parity.mean_kl:.4f} nats")

    session = GraphSession(folder / "model.onnx", shape, "cpu", train.threads or 2)
    decoder = Decoder(session, tokenizer, base.stop_ids)
    losses = heldout_losses(decoder, encoder, heldout, reporter.counter("score"))
    figures["loss_after"] = mean_of(losses)
    # Groups that were never trained on say little about which answer belongs to which question; they are the judge only
    # where no group has phrasings to spare.
    phrasings = dataset.heldout_phrasings
    judged = phrasings if len(phrasings) >= _FEWEST_PHRASINGS else heldout
    matching = match_answers(decoder, encoder, judged, train.seed, reporter.counter("match"))
    figures["matching"] = asdict(matching)

    most = min(_ANSWER_TOKENS, context // 2)
    questions = questions_of(dataset, train.seed)
    earlier = Earlier(dataset, _embedder(embedder, dataset, staging))
    earlier.look_up([example for _, example in questions])
    imagined = unlogged(earlier, train.seed)
    asked = Asked(dataset, tuple(questions), earlier, tuple(imagined), most, train)
    own = answered(decoder, asked, reporter)
    calibration = own.calibration
    figures["calibration"] = {
        "threshold": calibration.threshold,
        "target_precision": calibration.target_precision,
        "certified": calibration.certified,
        "ladder": [asdict(step) for step in calibration.ladder],
        "early": asdict(calibration.early) if calibration.early else None,
    }
    figures["milliseconds_median"] = round(median(outcome.milliseconds for outcome in own.outcomes), 1)
    path = f"{train.precision}/model.onnx"
    graphs = [GraphEntry(path, "cpu", train.precision, own.golden, calibration, parity.agreement)]
    weighers = [Weigher(path, decoder, given(own.outcomes, calibration))]
    if train.cuda == "auto" and (other := second_graph(merged, staging, shape, parity_ids, decoder, asked, reporter)):
        figures["cuda"] = other.figures
        graphs.append(other.graph)
        weighers.append(other.weigher)
    counter = reporter.counter("retrieve")
    indexed = build_index(weighers, dataset, questions, earlier, staging, train.target_precision, counter, imagined, train.seed)
    repeated = indexed.given if indexed is not None else ()
    figures["heldout"] = counts(own.outcomes, calibration, repeated)
    if indexed is not None:
        reporter.end()
        figures["retrieved"] = indexed.figures
        graphs = [replace(one, evidence=evidence) for one, evidence in zip(graphs, indexed.evidence, strict=True)]
    figures["intervals"] = intervals(figures["heldout"])
    retrieval = indexed.retrieval if indexed is not None else None
    prompts = [one.prompt_ids for one in own.golden]
    figures["footprint"] = measure_footprint(folder / "model.onnx", shape, prompts, train.threads or 2)
    return Assessment(
        tuple(graphs),
        shape,
        own.outcomes,
        tuple(losses),
        earlier.backing,
        most,
        matching,
        tuple(reasons),
        figures,
        retrieval,
        repeated,
    )


def _embedder(embedder: Path, dataset: Dataset, staging: Path) -> Path:
    """The folder of the version's own embedder, weighed by what was trained on; without one where the home has none."""
    folder = staging / FOLDER
    queries = dict.fromkeys(example.query for example in dataset.train if not example.context)
    if queries and (embedder / NAME).exists():
        folder.mkdir()
        weigh(embedder, queries, folder)
    return folder


def questions_of(dataset: Dataset, seed: int) -> list[tuple[Kind, Example]]:
    """What the model is asked: both held-out sets, and queries that it cannot answer unless somebody taught it."""
    taught = [example.query for example in dataset.train]
    twins = near_duplicates([*taught, *QUERIES])
    known = {twins.root(n) for n in range(len(taught))}
    unanswerable = [query for n, query in enumerate(QUERIES, len(taught)) if twins.root(n) not in known]
    questions: list[tuple[Kind, Example]] = [("phrasing", example) for example in dataset.heldout_phrasings]
    questions += [("group", example) for example in dataset.heldout_groups]
    questions += [("outside", Example(f"outside-{n}", query, "")) for n, query in enumerate(unanswerable)]
    # A session is more often under way than at its beginning: half of the questions come after an unrelated exchange.
    # Which ones, and after which, does not change from night to night where it need not: answers are remembered.
    before = sorted(dataset.train, key=lambda other: _draw(seed, other.query))[:_CONTEXTS]
    asked: list[tuple[Kind, Example]] = []
    for kind, example in questions:
        if _draw(seed, example.query) % 2 and before and not example.context:
            # One of its own group would have the answer in it.
            others = [other for other in before if kind == "outside" or other.group != example.group]
            if not others:
                asked.append((kind, example))
                continue
            other = min(others, key=lambda other: _draw(seed, f"{example.query}\n{other.query}"))
            example = replace(example, context=(Message("user", other.query), Message("assistant", other.target)))
        asked.append((kind, example))
    return asked


def _draw(seed: int, text: str) -> int:
    """A number that the text alone decides, as good as drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "replace")).digest()[:8], "big")
