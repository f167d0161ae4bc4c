"""A model version ready to answer: graph session, tokenizer, manifest, learned index. Knows ids and text, no tiers, no log."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shammah_data.errors import ArtifactError, InputError, ShammahError
from shammah_data.exchange import Message
from shammah_data.learned import Learned
from shammah_data.manifest import GraphEntry, Manifest
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.choice import Choice, Wanted, choices
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.engine.session import GraphSession, import_onnxruntime


@dataclass(frozen=True)
class Prompt:
    """Ids up to where the answer begins, and how many earlier exchanges had to be left out of them."""

    ids: list[int]
    left_out: int = 0


@dataclass(frozen=True)
class Memory:
    """What a version brings along of the exchanges it was made from, and the embedder of their queries."""

    embedder: Embedder
    learned: Learned
    digest: str


class Model:
    """A published version, loaded and self-tested."""

    def __init__(self, manifest: Manifest, choice: Choice, decoder: Decoder, memory: Memory | None = None) -> None:
        self.manifest = manifest
        self.graph = choice.graph
        self.why = choice.why
        self.decoder = decoder
        self.memory = memory

    @property
    def description(self) -> str:
        """Version, precision and the provider really in use."""
        return f"{self.manifest.version} ({self.graph.precision}, {self.decoder.session.device})"

    def prompt(self, query: str, context: Sequence[Message], room: int) -> Prompt:
        """Prompt ids that leave `room` tokens for the answer; the oldest exchanges are left out where they do not fit.

        Raises InputError, with both figures, if even the bare query does not fit.
        """
        most = self.manifest.shape.context - room
        turns = list(context)
        while True:
            ids = self.decoder.tokenizer.prompt(query, turns)
            if len(ids) <= most:
                return Prompt(ids, (len(context) - len(turns) + 1) // 2)
            if not turns:
                raise InputError(
                    f"the question takes {len(ids)} tokens; the context of {self.manifest.version} has room for {most}, "
                    f"and {room} for the answer"
                )
            turns = turns[2:]


def open_model(folder: Path, manifest: Manifest, wanted: Wanted = Wanted(), available: int | None = None) -> Model:
    """Load a verified version: tokenizer, graph and index side by side, best usable graph first, every golden prompt answered.

    `available`: bytes of memory for it, None where nobody knows. Raises ArtifactError when no graph of the version can be
    used, or its greedy answer to a golden prompt is not, token for token, the one it was published with.
    """
    if _numbers(_runtime_version()) < _numbers(manifest.oldest_runtime):
        raise ArtifactError(f"{manifest.version} needs Shammah {manifest.oldest_runtime} or newer: upgrade this one")
    with ThreadPoolExecutor(2) as pool:
        reading = threading.Event()
        opening_graph = pool.submit(_open_graph, folder, manifest, wanted, available, reading.set)
        opening_graph.add_done_callback(lambda _: reading.set())
        opening_memory = pool.submit(_open_memory, folder, manifest)
        # No other thread runs Python while tokenizers parses, and ONNX Runtime needs none while it reads the graph.
        reading.wait()
        chat = ChatTokenizer(folder / "tokenizer.json", manifest.chat)
        choice, session = opening_graph.result()
        memory = opening_memory.result()
    if chat.vocab > manifest.shape.vocab:
        raise ArtifactError(f"{manifest.version}: its tokenizer has {chat.vocab} tokens, its graph {manifest.shape.vocab}")
    decoder = Decoder(session, chat, manifest.stop_ids)
    try:
        _self_test(decoder, manifest, choice)
    except ArtifactError:
        if not session.own_kernels:
            raise
        # By ONNX Runtime's kernels, which the answers may be from.
        decoder = Decoder(_open_session(folder, manifest, choice, wanted, own_kernels=False), chat, manifest.stop_ids)
        _self_test(decoder, manifest, choice)
    return Model(manifest, choice, decoder, memory)


def _self_test(decoder: Decoder, manifest: Manifest, choice: Choice) -> None:
    for number, golden in enumerate(choice.graph.golden, start=1):
        if not decoder.says(golden.prompt_ids, golden.answer_ids):
            raise ArtifactError(
                f"{manifest.version}: its answer to golden prompt {number} of {len(choice.graph.golden)} "
                "is not the one it was published with"
            )


def _open_memory(folder: Path, manifest: Manifest) -> Memory | None:
    found = manifest.retrieval
    if found is None:
        return None
    # One thread reads a short question fast enough, and none spins beside those of the graph afterwards.
    embedder = Embedder(folder / found.folder, threads=1, verified=True)
    if embedder.card.digest != found.embedder or embedder.card.dimensions != found.dimensions:
        raise ArtifactError(f"{manifest.version}: its embedder is not the one that its learned index was made with")
    return Memory(embedder, Learned.load(folder / found.folder, found), found.embedder)


def cuda_usable() -> bool:
    """Whether ONNX Runtime has CUDA at all; a session must show whether it really gets it."""
    return "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()


def graph_here(manifest: Manifest, wanted: Wanted) -> GraphEntry:
    """The graph of a version that answers on this machine where memory allows; its first where none can."""
    try:
        return choices(manifest, wanted, cuda_usable())[0].graph
    except ArtifactError:
        return manifest.graphs[0]


def _open_graph(
    folder: Path, manifest: Manifest, wanted: Wanted, available: int | None, reading: Callable[[], None]
) -> tuple[Choice, GraphSession]:
    reason: ShammahError | None = None
    for choice in choices(manifest, wanted, cuda_usable(), available):
        graph = choice.graph
        if reason is not None and graph.provider == "cpu":
            choice = Choice(graph, f"{choice.why}; {reason}")
        try:
            return choice, _open_session(folder, manifest, choice, wanted, reading=reading)
        except ArtifactError as error:
            if graph.provider == "cpu":
                # A damaged graph is no reason to serve with another one of the same version.
                raise
            reason = error
    assert reason is not None
    raise reason


def _open_session(
    folder: Path,
    manifest: Manifest,
    choice: Choice,
    wanted: Wanted,
    own_kernels: bool = True,
    reading: Callable[[], None] = lambda: None,
) -> GraphSession:
    path, provider = folder / choice.graph.path, choice.graph.provider
    return GraphSession(path, manifest.shape, provider, wanted.threads, own_kernels=own_kernels, reading=reading)


def _runtime_version() -> str:
    from importlib.metadata import version

    return version("shammah")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
