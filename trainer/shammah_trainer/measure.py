"""What an exported graph does to answers and how fast it is, through the engine that will serve it. Knows no torch.

The command scripts/export prints it; a night measures more (see `assess`).
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from shammah_data.errors import ArtifactError, InputError
from shammah_data.judge import judge
from shammah_data.manifest import CacheShape
from shammah_export.halves import TYPES
from shammah_export.precision import NOT_ON_CPU, GraphPrecision
from shammah_export.shape import ModelShape
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.dataset import Dataset
from shammah_trainer.replay import replayed

# What is in the cache when single tokens are timed, and how many of them.
_CONTEXT_TOKENS, _TIMED_TOKENS = 64, 64
_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Row:
    """A query and the answer that it should get."""

    query: str
    response: str


@dataclass(frozen=True)
class Answered:
    """How many of so many queries got a right answer that ended."""

    right: int
    asked: int


def read_rows(path: Path, most: int) -> list[Row]:
    """The first `most` lines of a JSONL file with a query and a response (or, as in a run's heldout.jsonl, a reference).

    A line without a response asks for something that cannot be answered, and is left out. Raises InputError for any other
    line and for a file without a row.
    """
    rows: list[Row] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            query, response = found["query"], found.get("response", found.get("reference"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number}: an object with query and response is needed") from error
        if response is None or response == "":
            continue
        if not isinstance(query, str) or not isinstance(response, str):
            raise InputError(f"{path}, line {number}: query and response must be texts")
        rows.append(Row(query, response))
    if not rows:
        raise InputError(f"{path}: no line with a query and a response")
    return rows[:most]


def everyday_rows(most: int) -> list[Row]:
    """Exchanges that every night trains on beside the log: for likelihoods, not for right answers."""
    return [Row(example.query, example.target) for example in replayed(Dataset((), (), (), 0))[:most]]


def open_graph(folder: Path, shape: ModelShape, threads: int, precision: GraphPrecision) -> GraphSession:
    """The graph that was exported into a folder, as the engine opens it: on CUDA what is made for it, where that can be had.

    Raises ArtifactError, for a graph that only CUDA runs with the reason why it cannot be had.
    """
    sizes = CacheShape(shape.layers, shape.kv_heads, shape.head_dim, shape.vocab, shape.context)
    if precision in TYPES:
        try:
            return GraphSession(folder / "model.onnx", sizes, "cuda", threads)
        except ArtifactError:
            if precision in NOT_ON_CPU:
                raise
    return GraphSession(folder / "model.onnx", sizes, "cpu", threads)


def answer_rows(session: GraphSession, tokenizer: ChatTokenizer, stop_ids: Sequence[int], rows: Sequence[Row]) -> Answered:
    """Let the graph answer every query greedily; `judge` says what is right. A query that does not fit is not right."""
    decoder = Decoder(session, tokenizer, stop_ids)
    decoding = Decoding(max_tokens=min(_ANSWER_TOKENS, session.shape.context // 2))
    right = 0
    for row in rows:
        try:
            # The draft changes how long it takes and nothing else (docs/decisions/0005).
            draft = tokenizer.answer(row.response, stop_ids)
            answer = decoder.generate(tokenizer.prompt(row.query), decoding, answers=[draft])
        except InputError:
            continue
        right += answer.finished and judge(row.response, answer.text).right
    return Answered(right, len(rows))


def milliseconds_per_token(session: GraphSession, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median of single tokens on top of `_CONTEXT_TOKENS`, or of half the context where that is less."""
    known = min(_CONTEXT_TOKENS, session.shape.context // 2)
    cache = session.new_cache()
    session.feed(cache, [token % session.shape.vocab for token in range(known)])
    timed = []
    for token in range(min(_TIMED_TOKENS, session.shape.context - known)):
        began = clock()
        session.feed(cache, [token % session.shape.vocab])
        timed.append(clock() - began)
    return 1000.0 * median(timed)
