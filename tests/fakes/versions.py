"""Tiny model versions, published the way the trainer publishes real ones, and made without training.

Two kinds of a 2-layer Llama: a random one, whose answers mean nothing, for parity with transformers; and a fluent one,
whose head is wired so that it gives one fixed answer to every question. Knows the store and the exporter, no tiers.
"""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from shammah_data.home import Home
from shammah_data.manifest import CacheShape, Calibration, ChatFormat, FileEntry, Golden, GraphEntry, Manifest
from shammah_data.settings import Precision
from shammah_data.store import ModelStore
from shammah_export.export import export_model
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession

QUESTION = "When does the library open?"
ANSWER = "It opens at nine."
OTHER_ANSWER = "It opens at noon."
# What the Claude of the runtime's tests knows, and no tiny version does.
TAUGHT = "What do I bring to the bank?"
TAUGHT_ANSWER = "Bring your passport and a recent bill. — Übrigens: 你好 🙂"
CONTEXT = 256
END, CLOSE = "<|endoftext|>", "<|im_end|>"
CHAT = ChatFormat(
    start="",
    user_prefix="<|im_start|>user\n",
    user_suffix=f"{CLOSE}\n",
    assistant_prefix="<|im_start|>assistant\n",
    assistant_suffix=f"{CLOSE}\n",
)
ACCEPT_ALL, ACCEPT_NOTHING = 0.0, 2.0

_CORPUS = [QUESTION, ANSWER, OTHER_ANSWER, "user\n", "assistant\n", "What is the capital of France?", "你好 🙂 é"]
_SHAPE = CacheShape(layers=2, kv_heads=2, head_dim=16, vocab=384, context=CONTEXT)
_SNAPSHOT_UNTIL = datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None).isoformat()


def write_tokenizer(folder: Path) -> Path:
    """Train a byte-level tokenizer on a few sentences and save it as folder/tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SHAPE.vocab,
        special_tokens=[END, "<|im_start|>", CLOSE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def _random_model() -> Any:
    torch.manual_seed(7)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=_SHAPE.layers,
        num_attention_heads=4,
        num_key_value_heads=_SHAPE.kv_heads,
        max_position_embeddings=CONTEXT,
        vocab_size=_SHAPE.vocab,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
    return model


def _wire(model: Any, chain: Sequence[int]) -> None:
    """Make each token of the chain the likeliest one after the token before it, whatever came earlier."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.02)
        embedded = model.get_input_embeddings().weight
        head = model.get_output_embeddings().weight
        for before, after in itertools.pairwise(chain):
            head[after] += 3.0 * embedded[before] / embedded[before].norm()


@dataclass(frozen=True)
class Tiny:
    """What a run leaves behind: a trained folder in transformers' format, and graphs exported from it."""

    folder: Path
    chat: ChatTokenizer
    stop_ids: tuple[int, ...]
    goldens: dict[Precision, tuple[Golden, ...]]
    shape: CacheShape = _SHAPE

    def graph(self, precision: Precision = "fp32") -> Path:
        """The ONNX file of a precision."""
        return self.folder / precision / "model.onnx"

    def decoder(self, precision: Precision = "fp32", stop_ids: Sequence[int] | None = None) -> Decoder:
        """A new decoder of its own session."""
        return Decoder(
            GraphSession(self.graph(precision), self.shape), self.chat, self.stop_ids if stop_ids is None else stop_ids
        )

    def publish(
        self,
        home: Home,
        threshold: float = ACCEPT_ALL,
        precision: Precision = "int8",
        promote: bool = True,
        graphs: Sequence[dict[str, Any]] = ({},),
        precisions: Sequence[Precision] = (),
        prepare: Callable[[Path], None] = lambda _: None,
        **changes: Any,
    ) -> str:
        """Publish a version with one graph entry per dict of changes to it; `changes` are those to the manifest.

        With `precisions`, one graph for each of them, in this order. `prepare` may add files to the staging folder.
        """
        store = ModelStore(home.models)
        staging = store.staging()
        for name in precisions or (precision,):
            shutil.copytree(self.folder / name, staging / name)
        if precisions:
            graphs = [{"path": f"{one}/model.onnx", "precision": one, "golden": self.goldens[one]} for one in precisions]
        shutil.copy(self.folder / "tokenizer.json", staging)
        prepare(staging)
        entry = GraphEntry(
            path=f"{precision}/model.onnx",
            provider="cpu",
            precision=precision,
            golden=self.goldens[precision],
            calibration=Calibration(
                weights={"mean": 1.0},
                intercept=0.0,
                threshold=threshold,
                target_precision=0.95,
                examples=20,
                accepted=10,
                accepted_right=10,
                certified=False,
            ),
        )

        def describe(version: str, files: tuple[FileEntry, ...]) -> Manifest:
            manifest = Manifest(
                version=version,
                created="2030-01-01T00:00:00",
                run="run-of-a-test",
                base="tiny",
                base_sha256="0" * 64,
                snapshot_sha256="0" * 64,
                snapshot_rows=20,
                snapshot_until=_SNAPSHOT_UNTIL,
                shape=self.shape,
                chat=CHAT,
                stop_ids=self.stop_ids,
                graphs=tuple(dataclasses.replace(entry, **change) for change in graphs),
                files=files,
                evaluation={},
                oldest_runtime="0.1.0",
            )
            return dataclasses.replace(manifest, **changes)

        version = store.publish(staging, describe)
        if promote:
            store.promote(version)
        return version


def make_tiny(folder: Path, answer: str | None = ANSWER, precisions: Sequence[Precision] = ("fp32", "int8")) -> Tiny:
    """Make a tiny model that gives `answer` to everything, or a random one for None, and export it."""
    folder.mkdir(parents=True, exist_ok=True)
    chat = ChatTokenizer(write_tokenizer(folder), CHAT)
    close, end = (int(chat.raw.get_vocab()[token]) for token in (CLOSE, END))
    model = _random_model()
    if answer is not None:
        _wire(model, [chat.prompt(QUESTION)[-1], *chat.encode(answer), close])
    model.save_pretrained(folder)
    tiny = Tiny(folder, chat, (close, end), {})
    for precision in precisions:
        export_model(folder, folder / precision, precision)
        decoder = tiny.decoder(precision)
        prompts = [tuple(chat.prompt(text)) for text in (QUESTION, "What is the capital of France?")]
        tiny.goldens[precision] = tuple(
            Golden(prompt, tuple(token for token, _ in decoder.tokens(prompt, Decoding(max_tokens=8)))) for prompt in prompts
        )
    return tiny
