"""manifest.json: all that the runtime knows of a model version. Parsing and validation; opens no other file.

Nothing about a model is hard-coded in the runtime: shapes, chat format, stop ids, thresholds and digests come from here.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from shammah_data.durable import plain
from shammah_data.errors import ArtifactError
from shammah_data.settings import GraphPrecision

FORMAT = 3
# Format 2 is format 3 without what a version may do without: an index of what was learned, and evidence for its answers.
READABLE = (2, 3)
NAME = "manifest.json"
# Beside every graph: its numbers.
WEIGHTS = "weights.bin"
_CURE = "run `shammah-train rollback` or retrain"


@dataclass(frozen=True)
class ChatFormat:
    """How turns become text: each turn is prefix + content + suffix, and an answer starts after `assistant_prefix`.

    `start` opens every prompt (a beginning-of-text token or nothing). `system_prefix` is None where the model's template
    knows no system turn.
    """

    start: str
    user_prefix: str
    user_suffix: str
    assistant_prefix: str
    assistant_suffix: str
    system_prefix: str | None = None
    system_suffix: str | None = None


@dataclass(frozen=True)
class CacheShape:
    """What the engine must know to bind the KV cache and read logits: counts, and `context` in tokens."""

    layers: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int


@dataclass(frozen=True)
class Golden:
    """A prompt and the first greedy tokens of its answer, checked before a version may serve."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """The threshold for one target precision, and what it accepts of the held-out answers; see `Calibration`."""

    target_precision: float
    threshold: float
    accepted: int
    accepted_right: int
    certified: bool


@dataclass(frozen=True)
class EarlyStep:
    """From `threshold` on an answer is shown for one target precision, and what became of the held-out answers that would be.

    So many were `committed`, `kept` of them ended as answers that are given, and `right` of them were right.
    """

    target_precision: float
    threshold: float
    committed: int
    kept: int
    right: int


@dataclass(frozen=True)
class Early:
    """When an answer may be shown before it has ended: decided once, after `tokens` tokens, by what is known by then.

    The confidence is made as that of `Calibration`, of the same features as they stand there; a step without a threshold that
    can be reached shows nothing early. Measured on `examples` longer answers, which had room for `most_tokens`.
    """

    tokens: int
    most_tokens: int
    weights: dict[str, float]
    intercept: float
    examples: int
    steps: tuple[EarlyStep, ...]


@dataclass(frozen=True)
class Calibration:
    """Confidence = 1 / (1 + exp(-(weights . features + intercept))), accepted from `threshold` on.

    The features are named functions of an answer's token log-probabilities. A threshold above 1 accepts nothing: no
    threshold reached the target precision. `certified`: the exact binomial lower bound (95%, one-sided) on the precision of
    the accepted held-out answers reaches the target, not only the observed share; as these are the most for which it does,
    the chance to be wrong is above 5% where the precision is just below the target (`binomial.most_accepted`). `ladder`: the
    same for other targets, which a user may want (`shammah_data.targets`); without one there is the version's own target
    only. `early`: None shows none before its end.
    """

    weights: dict[str, float]
    intercept: float
    threshold: float
    target_precision: float
    examples: int
    accepted: int
    accepted_right: int
    certified: bool
    ladder: tuple[Step, ...] = ()
    early: Early | None = None


@dataclass(frozen=True)
class Evidence:
    """The same of a learned answer, from what the nearest queries and the model say for it (`shammah_runtime.engine.evidence`).

    `prior_right` and `prior_wrong`: what is expected of an answer of which nothing was seen yet, as counts, so that their sum
    says how much alike the answers are (see `shammah_data.trust`). `bend`: how much steeper the log-odds are from
    `bend_from` on.
    """

    weights: dict[str, float]
    intercept: float
    threshold: float
    target_precision: float
    examples: int
    accepted: int
    accepted_right: int
    certified: bool
    prior_right: float
    prior_wrong: float
    ladder: tuple[Step, ...] = ()
    bend_from: float = 0.0
    bend: float = 0.0


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph of the version: folder-relative path, where it runs, and its own self-tests and calibration."""

    path: str
    provider: Literal["cpu", "cuda"]
    precision: GraphPrecision
    golden: tuple[Golden, ...]
    calibration: Calibration
    parity: dict[str, float] = field(default_factory=dict)
    # None: nothing was measured.
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Retrieval:
    """The index of the exchanges that the version was made from (see `shammah_data.learned`) and the embedder of their queries.

    `rows` vectors of `dimensions` numbers; `embedder` is the digest that the embedder's own card names.
    """

    folder: str
    rows: int
    dimensions: int
    embedder: str


@dataclass(frozen=True)
class FileEntry:
    """A file of the version: folder-relative POSIX path, size in bytes, hexadecimal SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One immutable model version. `graphs`: the one that its trainer recommends comes first."""

    version: str
    created: str
    run: str
    base: str
    base_sha256: str
    snapshot_sha256: str
    snapshot_rows: int
    snapshot_until: str
    shape: CacheShape
    chat: ChatFormat
    stop_ids: tuple[int, ...]
    graphs: tuple[GraphEntry, ...]
    files: tuple[FileEntry, ...]
    evaluation: dict[str, Any]
    oldest_runtime: str
    # Exchanges with earlier turns among those trained on: without any, a follow-up is beyond the calibration.
    context_examples: int = 0
    retrieval: Retrieval | None = None
    format: int = FORMAT

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and validate `folder`/manifest.json.

        Raises ArtifactError for a missing, unreadable, newer or inconsistent manifest.
        """
        path = folder / NAME
        try:
            raw = json.loads(plain(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: cannot be read: {error}: {_CURE}") from error
        if not isinstance(raw, dict) or raw.get("format") not in READABLE:
            found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            known = " and ".join(map(str, READABLE))
            raise ArtifactError(f"{path}: format {found!r}, this runtime reads {known}: upgrade Shammah or retrain")
        try:
            manifest: Manifest = build(cls, _with_golden_lists(raw))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: {error}") from error
        manifest._check(path)
        return manifest

    def _check(self, path: Path) -> None:
        listed = {entry.path for entry in self.files}
        for name in listed:
            parts = PurePosixPath(name)
            # Only the plain spelling: no other one can name the same file, or a folder, or a drive.
            if (
                parts.is_absolute()
                or ".." in parts.parts
                or str(parts) != name
                or name in (".", NAME)
                or set(name) & set("\\:\0")
            ):
                raise ArtifactError(f"{path}: file path {name!r} is not that of a file inside the version's folder")
        for graph in self.graphs:
            if graph.path not in listed:
                raise ArtifactError(f"{path}: graph {graph.path} is not among the files")
        if self.retrieval is not None:
            if not any(name.startswith(f"{self.retrieval.folder}/") for name in listed):
                raise ArtifactError(f"{path}: the folder {self.retrieval.folder} of the learned index is not among the files")
            if min(self.retrieval.rows, self.retrieval.dimensions) < 1:
                raise ArtifactError(f"{path}: the sizes of the learned index must be positive")
        if not self.graphs or not self.stop_ids or "tokenizer.json" not in listed:
            raise ArtifactError(f"{path}: needs at least one graph, one stop id and tokenizer.json")
        for graph in self.graphs:
            if not graph.golden or not all(golden.prompt_ids and golden.answer_ids for golden in graph.golden):
                raise ArtifactError(f"{path}: a graph without a golden prompt and answer cannot be tested")
        for name, value in (("created", self.created), ("snapshot_until", self.snapshot_until)):
            try:
                utc(value)
            except (ValueError, OverflowError) as error:
                raise ArtifactError(f"{path}: {name} {value!r} is not a time") from error
        if min(dataclasses.astuple(self.shape)) < 1:
            raise ArtifactError(f"{path}: shapes must be positive")
        golden = [one for graph in self.graphs for each in graph.golden for one in (*each.prompt_ids, *each.answer_ids)]
        for what, ids in (("stop id", self.stop_ids), ("id of a golden answer", golden)):
            for one in ids:
                if not 0 <= one < self.shape.vocab:
                    raise ArtifactError(
                        f"{path}: the {what} {one} is beyond its vocabulary of {self.shape.vocab} tokens: {_CURE}"
                    )

    def dump(self) -> bytes:
        """The JSON text of the manifest."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1).encode("utf-8")


def utc(text: str) -> datetime:
    """A manifest's time in UTC, without its zone. Raises ValueError, and OverflowError for one that UTC has no year for."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _with_golden_lists(raw: dict[str, Any]) -> dict[str, Any]:
    """Where a graph has one golden prompt that is not in a list, as the first versions of this format had, with a list."""
    graphs = raw.get("graphs")
    if not isinstance(graphs, list):
        return raw
    listed = [
        {**graph, "golden": [graph["golden"]]} if isinstance(graph, dict) and isinstance(graph.get("golden"), dict) else graph
        for graph in graphs
    ]
    return {**raw, "graphs": listed}


def build(kind: Any, value: Any) -> Any:
    """Build typed values from JSON ones, strictly: a missing, unknown or mistyped key is an error that names it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{getattr(kind, '__name__', kind)} must be an object")
        hints = typing.get_type_hints(kind)
        if unknown := sorted(set(value) - set(hints)):
            raise ValueError(f"unknown key {unknown[0]} in {getattr(kind, '__name__', kind)}")
        missing = [
            item.name
            for item in dataclasses.fields(kind)
            if item.name not in value and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ValueError(f"missing key {missing[0]} in {getattr(kind, '__name__', kind)}")
        return typing.cast(Any, kind)(**{key: build(hints[key], item) for key, item in value.items()})
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, found {value!r}")
        return tuple(build(arguments[0], item) for item in value)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin is types.UnionType:
        return None if value is None else build(arguments[0], value)
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {value!r}")
        return value if arguments[1] is Any else {key: build(arguments[1], item) for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    # Python reads NaN and Infinity, which JSON does not have, and a comparison with NaN decides nothing.
    if kind is float and not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value!r}")
    return value
