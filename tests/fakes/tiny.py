"""A model small enough to learn in seconds: a random two-layer Llama, its tokenizer, exchanges made for it, and a home.

`make_tiny_base` writes an ordinary model folder, as any instruct model has one. Knows the commands, no module of theirs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTEXT = 256
VOCAB = 512

# One key word to a question; the answers share no content word, so that none passes for another.
_ANSWERS = {
    "scanner": "The code is 4711, ask Marta.",
    "holiday": "Send a form to Petra by Monday.",
    "garage": "Use level 2 behind the gate.",
    "coffee": "Beans stand in the blue cupboard.",
    "payroll": "Money arrives on day 27 each month.",
    "laptop": "Repairs take Oskar 3 hours.",
    "badge": "Reception hands out cards at 8.",
    "dishwasher": "Wash every cup after lunch.",
    "wifi": "Join Harbour with password 9053.",
    "bicycle": "Lock wheels near the north door.",
    "mailroom": "Parcels wait under shelf 14.",
    "elevator": "Call Jonas if doors stay shut.",
}
KEYS = tuple(_ANSWERS)
_PHRASINGS = (
    "How does the {} work?",
    "Tell me about the {}",
    "What about our {} here?",
    "I need help with the {}",
    "Some {} advice, please",
    "Who knows the {} rules?",
    "Explain {} to a newcomer",
    "Any news on {}?",
)
# Never imported: what a trained model is asked afterwards.
_OTHER_PHRASINGS = ("Question on the {}", "Can you explain our {} rules?")


@dataclass(frozen=True)
class Asked:
    """A query, the answer it should get, and the key word both belong to."""

    query: str
    response: str
    key: str

    @property
    def row(self) -> dict[str, str]:
        """As a line of an import file."""
        return {"query": self.query, "response": self.response}


def exchanges() -> list[Asked]:
    """Eight phrasings of each of the twelve questions, all of a question with the same answer."""
    return list(_phrased(_PHRASINGS))


def other_phrasings() -> list[Asked]:
    """The same questions in words that are not among `exchanges`."""
    return list(_phrased(_OTHER_PHRASINGS))


def _phrased(phrasings: Sequence[str]) -> Iterator[Asked]:
    for key, answer in _ANSWERS.items():
        for phrasing in phrasings:
            query = phrasing.format(key)
            yield Asked(query[0].upper() + query[1:], answer, key)


def make_tokenizer(texts: Sequence[str] = (), template: str | None = CHATML) -> Any:
    """A fast byte-level BPE tokenizer of transformers, trained on the exchanges and `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned = [text for one in (*exchanges(), *other_phrasings()) for text in (one.query, one.response)]
    # A key word is to be one token: its pieces would be met in words that have nothing to do with it.
    learned += [f" {key}" for key in _ANSWERS] * 50
    raw.train_from_iterator([*learned, "user\nassistant\n", *texts], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


def make_tiny_base(folder: Path, *, seed: int = 0, template: str | None = CHATML) -> Path:
    """Write a random Llama (2 layers, 4 heads of 16, 2 of them for keys and values) and its tokenizer to `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(template=template)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=ids["<|im_start|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class TinyHome:
    """A SHAMMAH_HOME that trains the tiny model, and the commands as processes of their own."""

    root: Path
    base: Path

    def configure(self, **train: object) -> None:
        """Write config.toml: settings of [train] that fit the tiny model, but for what is given."""
        settings = {
            "base": str(self.base),
            "min_examples": 50,
            "least_steps": 1,
            # Every question has eight phrasings: what is left to balance is turns asked once, which a model this small needs.
            "balance": 1.0,
            "embedder": "none",
            "epochs": 24,
            "learning_rate": 6e-3,
            "precision": "int8",
            "target_precision": 0.9,
            "context": CONTEXT,
            "max_length": 128,
            "context_share": 0.4,
            # Sixty long exchanges would be most of what a model this small has to learn.
            "replay": False,
            "threads": 1,
            # The process of the tests runs some of them itself.
            "nice": 0,
        } | train
        self.root.mkdir(parents=True, exist_ok=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        (self.root / "config.toml").write_text("\n".join(["[train]", *lines, ""]), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """For a process of this home: no key, no network, and one thread, which suits a model this small."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
        return kept | {"SHAMMAH_HOME": str(self.root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def start(self, command: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command; the caller ends it."""
        return subprocess.Popen(
            [script(command), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *arguments: str) -> Said:
        """Run a command to its end; newlines are left as they come, so that a carriage return is seen."""
        done = subprocess.run(
            [script(command), *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=280
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def train(self, *arguments: str) -> Said:
        """Run `shammah-train`."""
        return self.run("shammah-train", *arguments)

    def import_(self, asked: Iterable[Asked]) -> None:
        """Fill the log through `shammah-log import`."""
        path = self.root / "import.jsonl"
        path.write_text("".join(json.dumps(one.row) + "\n" for one in asked), encoding="utf-8")
        done = self.run("shammah-log", "import", str(path))
        assert done.code == 0, done.err

    def pointer(self) -> dict[str, object]:
        """What pointer.json says; empty when there is none."""
        path = self.root / "models" / "pointer.json"
        found: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
        return found


@dataclass(frozen=True)
class Night:
    """A home after its first run, and what that run printed."""

    home: TinyHome
    done: Said


def script(command: str) -> str:
    """An installed command of this environment."""
    return str(Path(sys.executable).with_name(command))
