"""A model version ready to answer: graph session, tokenizer, manifest. Knows ids and text, no tiers, no log."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shammah_data.errors import ArtifactError, ShammahError
from shammah_data.exchange import Message
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.settings import Provider
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.sampling import Decoding, Floats, log_softmax, sample
from shammah_runtime.engine.session import GraphSession, import_onnxruntime

_SCORED_ROWS = 64


@dataclass(frozen=True)
class Generated:
    """One answer of the model. `finished`: it ended by itself, not at `max_tokens`, the context or a stop request."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finished: bool


class Decoder:
    """Greedy or sampled decoding and scoring over one session; one request at a time."""

    def __init__(self, session: GraphSession, tokenizer: ChatTokenizer, stop_ids: Sequence[int]) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids)
        self._stops = frozenset(stop_ids)
        self._busy = threading.Lock()

    def tokens(self, prompt_ids: Sequence[int], decoding: Decoding) -> Iterator[tuple[int, float]]:
        """Token ids and their log-probabilities under the model (untempered), the end token included.

        Ends after an end token, at `max_tokens`, or when the context is full. Raises InputError for a prompt that leaves
        no room for an answer.
        """
        with self._busy:
            rng = np.random.default_rng(decoding.seed)
            self.session.rewind()
            logits_V = self.session.feed(prompt_ids)[-1]
            for count in range(1, decoding.max_tokens + 1):
                token = sample(logits_V, decoding, rng)
                yield token, float(log_softmax(logits_V)[token])
                if token in self._stops or count == decoding.max_tokens or self.session.length == self.session.shape.context:
                    return
                logits_V = self.session.feed([token])[-1]

    def generate(
        self,
        prompt_ids: Sequence[int],
        decoding: Decoding,
        on_text: Callable[[str], None] | None = None,
        on_logprob: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Generated:
        """One whole answer, whose prompt is never part of it.

        `on_text` gets pieces that never split a character, `on_logprob` each token's log-probability; `cancelled` is asked
        between tokens.
        """
        stream = self.tokenizer.stream()
        ids: list[int] = []
        logprobs: list[float] = []
        pieces: list[str] = []
        finished = False

        def emit(piece: str) -> None:
            if piece:
                pieces.append(piece)
                if on_text:
                    on_text(piece)

        steps = self.tokens(prompt_ids, decoding)
        try:
            for token, logprob in steps:
                ids.append(token)
                logprobs.append(logprob)
                if on_logprob:
                    on_logprob(logprob)
                if token in self._stops:
                    finished = True
                    break
                emit(stream.push(token))
                if cancelled and cancelled():
                    break
        finally:
            steps.close()  # type: ignore[attr-defined]  # it is a generator; closing it frees the session
        emit(stream.close())
        return Generated("".join(pieces).strip(), tuple(ids), tuple(logprobs), len(prompt_ids), finished)

    def score(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        """Log-probabilities of the tokens of each given response after one prompt, which is read only once.

        Raises InputError for what does not fit into the context.
        """
        with self._busy:
            self.session.rewind()
            first_V = log_softmax(self.session.feed(prompt_ids)[-1])
            return [self._score_one(first_V, response) for response in responses]

    def _score_one(self, first_V: Floats, response: Sequence[int]) -> tuple[float, ...]:
        prompt = self.session.length
        scores = [float(first_V[response[0]])]
        # In pieces: the logits of a long answer at once would take hundreds of megabytes.
        for at in range(0, len(response) - 1, _SCORED_ROWS):
            fed = response[at : min(at + _SCORED_ROWS, len(response) - 1)]
            rows = log_softmax(self.session.feed(fed, range(len(fed))))
            scores += [float(rows[row, response[at + row + 1]]) for row in range(len(fed))]
        self.session.rewind(prompt)
        return tuple(scores)


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
