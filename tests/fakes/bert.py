"""A BERT small enough to be made in a test: random weights, letters and a few words, saved as transformers does."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from shammah_export.wordpieces import load_tokenizer

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ("the", "how", "do", "reset", "my", "password", "what", "is", "a", "##s", "##ing", "é", "你", "好")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-+[]"
VOCABULARY = (*MARKS, *_WORDS, *dict.fromkeys(_LETTERS), *(f"##{letter}" for letter in _LETTERS if letter.isalnum()))
# The sides divide by 32 and by 16 only, so that one model has blocks of both sizes.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    "vocab_size": len(dict.fromkeys(VOCABULARY)),
}


def make_bert(folder: Path, *, seed: int = 7, as_vocabulary: bool = False, **settings: Any) -> Path:
    """Save a random BertModel and its tokenizer, as tokenizer.json or as vocab.txt, to `folder`.

    Norms and biases are random too, or a graph without them would pass.
    """
    torch.manual_seed(seed)
    model = BertModel(BertConfig(**{**SIZES, **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.2)
    model.save_pretrained(folder)
    write_vocabulary(folder)
    if not as_vocabulary:
        tokenizer: Tokenizer = load_tokenizer(folder, SIZES["vocab_size"], SIZES["max_position_embeddings"])
        # As the tokenizers of sentence-transformers come: cut and padded to another length than the model's own.
        tokenizer.enable_truncation(8)
        tokenizer.enable_padding(length=8)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocab.txt").unlink()
    return folder


def write_vocabulary(folder: Path) -> Path:
    """Write vocab.txt."""
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in dict.fromkeys(VOCABULARY)), encoding="utf-8")
    return folder
