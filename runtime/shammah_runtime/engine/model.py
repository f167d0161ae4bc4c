"""A model version ready to answer: graph session, tokenizer, manifest. Knows ids and text, no tiers, no log."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shammah_data.errors import ArtifactError, ShammahError
from shammah_data.exchange import Message
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.settings import Provider
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession, import_onnxruntime


class Model:
    """A published version, loaded and self-tested."""

    def __init__(self, manifest: Manifest, graph: GraphEntry, decoder: Decoder) -> None:
        self.manifest = manifest
        self.graph = graph
        self.decoder = decoder

    @property
    def description(self) -> str:
        """Version, precision and the provider really in use."""
        return f"{self.manifest.version} ({self.graph.precision}, {self.decoder.session.device})"

    def prompt(self, query: str, context: Sequence[Message], room: int) -> list[int]:
        """Prompt ids that leave `room` tokens for the answer; the oldest turns are dropped where they do not fit.

        Raises InputError, when the query is answered, if even the bare query does not fit.
        """
        turns = list(context)
        while True:
            ids = self.decoder.tokenizer.prompt(query, turns)
            if not turns or len(ids) + room <= self.manifest.shape.context:
                return ids
            turns = turns[2:]


def open_model(folder: Path, manifest: Manifest, provider: Provider = "auto", threads: int = 2) -> Model:
    """Load a verified version: tokenizer beside the graph, best usable graph first, golden prompt checked.

    Raises ArtifactError when no graph of the version can be used, or its answer to the golden prompt is another one.
    """
    if _numbers(_runtime_version()) < _numbers(manifest.oldest_runtime):
        raise ArtifactError(f"{manifest.version} needs Shammah {manifest.oldest_runtime} or newer: upgrade this one")
    with ThreadPoolExecutor(1) as pool:
        tokenizer = pool.submit(ChatTokenizer, folder / "tokenizer.json", manifest.chat)
        graph, session = _open_graph(folder, manifest, provider, threads)
        chat = tokenizer.result()
    if chat.vocab > manifest.shape.vocab:
        raise ArtifactError(f"{manifest.version}: its tokenizer has {chat.vocab} tokens, its graph {manifest.shape.vocab}")
    decoder = Decoder(session, chat, manifest.stop_ids)
    golden = graph.golden
    steps = decoder.tokens(golden.prompt_ids, Decoding(max_tokens=len(golden.answer_ids)))
    found = tuple(token for token, _ in steps)
    if found != golden.answer_ids:
        raise ArtifactError(f"{manifest.version}: its answer to the golden prompt is not the one it was published with")
    return Model(manifest, graph, decoder)


def _open_graph(folder: Path, manifest: Manifest, provider: Provider, threads: int) -> tuple[GraphEntry, GraphSession]:
    usable = import_onnxruntime().get_available_providers()
    wanted = [g for g in manifest.graphs if provider in ("auto", g.provider)]
    wanted.sort(key=lambda graph: graph.provider != "cuda")
    reason: ShammahError = ArtifactError(f"{manifest.version} holds no graph for {provider}: export one or use --provider cpu")
    for graph in wanted:
        if graph.provider == "cuda" and "CUDAExecutionProvider" not in usable:
            reason = ArtifactError("CUDA was asked for and cannot be used here: see `shammah-serve doctor`")
            continue
        try:
            return graph, GraphSession(folder / graph.path, manifest.shape, graph.provider, threads)
        except ArtifactError as error:
            reason = error
    raise reason


def _runtime_version() -> str:
    from importlib.metadata import version

    return version("shammah")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
