"""The sentence embedder: texts in, vectors out. Knows ids and one graph, no log and no cache.

Nothing is read before the first text comes. B: texts of one run, S: tokens, H: dimensions.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from shammah_data.embedder import GRAPH, TOKENIZER, EmbedderCard
from shammah_data.errors import ArtifactError
from shammah_runtime.engine.session import import_onnxruntime

Floats = npt.NDArray[np.float32]

# Tokens of one run, padding included: bounds its memory to a few dozen MB.
_TOKENS_AT_ONCE = 2048
_TEXTS_AT_ONCE = 64
# What is read of a text at most, for each token that the embedder takes: words are much shorter.
_CHARACTERS_A_TOKEN = 64


class Embedder:
    """The embedder of a folder that `shammah-train embedder` made."""

    def __init__(self, folder: Path, threads: int = 2, verified: bool = False) -> None:
        """`verified`: its bytes were checked with those of the version that it belongs to."""
        self._folder = folder
        self._verified = verified
        self._threads = threads
        self._loading = threading.Lock()
        self._loaded: tuple[EmbedderCard, Tokenizer, Any] | None = None

    @property
    def card(self) -> EmbedderCard:
        """What the embedder says of itself; every byte of it was checked. Raises ArtifactError."""
        return self._load()[0]

    def embed(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Floats:
        """Vectors of length one, float32 [len(texts), H]; what is beyond the embedder's tokens, or 64 times as many characters,
        is not read.

        A mark such as [SEP] in a text is read as text. `progress` is told how many texts are done. Raises ArtifactError
        when the embedder is missing or damaged, or ONNX Runtime is missing or refuses it.
        """
        card, tokenizer, session = self._load()
        most = _CHARACTERS_A_TOKEN * card.max_tokens
        vectors_NH = np.zeros((len(texts), card.dimensions), np.float32)
        ids = [encoding.ids for encoding in tokenizer.encode_batch([text[:most] for text in texts])]
        done = 0
        for rows in _batches([len(text) for text in ids]):
            vectors_NH[rows] = self._run(session, [ids[row] for row in rows])
            done += len(rows)
            if progress:
                progress(done)
        return vectors_NH

    def _run(self, session: Any, ids: Sequence[Sequence[int]]) -> Floats:
        ids_BS = np.zeros((len(ids), max(map(len, ids))), np.int64)
        mask_BS = np.zeros_like(ids_BS)
        for row, text in enumerate(ids):
            ids_BS[row, : len(text)] = text
            mask_BS[row, : len(text)] = 1
        try:
            vectors_BH: Floats = session.run(None, {"ids": ids_BS, "mask": mask_BS})[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{self._folder / GRAPH}: cannot be run: {_first_line(error)}") from error
        return vectors_BH

    def _load(self) -> tuple[EmbedderCard, Tokenizer, Any]:
        with self._loading:
            if self._loaded is None:
                card = EmbedderCard.load(self._folder) if self._verified else EmbedderCard.verify(self._folder)
                self._loaded = card, self._open_tokenizer(), self._open_session(card)
            return self._loaded

    def _open_tokenizer(self) -> Tokenizer:
        path = self._folder / TOKENIZER
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for any unreadable file
            raise ArtifactError(f"{path}: not a tokenizer: {_first_line(error)}") from error
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _open_session(self, card: EmbedderCard) -> Any:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # What it would print comes as an exception too.
        options.log_severity_level = 4
        path = self._folder / GRAPH
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{path}: ONNX Runtime refuses it: {_first_line(error)}") from error
        signature = [item.name for item in session.get_inputs()], [item.shape[-1] for item in session.get_outputs()]
        if signature != (["ids", "mask"], [card.dimensions]):
            raise ArtifactError(f"{path}: its inputs and outputs are not those of an embedder: run `shammah-train embedder`")
        return session


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of texts of nearly the same length, so that there is little padding; the longest come first.

    What does not fit into memory is then known at once.
    """
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not room:
            batches.append([])
            room = min(_TEXTS_AT_ONCE, max(1, _TOKENS_AT_ONCE // lengths[row]))
        batches[-1].append(row)
        room -= 1
    return batches


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
