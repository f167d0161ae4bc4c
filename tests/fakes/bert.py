"""A BERT small enough to be made in a test: random weights, letters and a few words, saved as transformers does."""

from collections.abc import Sequence
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
# Of its dimensions so many are for what words mean.
_MEANT = 48


def make_bert(folder: Path, *, seed: int = 7, as_vocabulary: bool = False, words: Sequence[str] = (), **settings: Any) -> Path:
    """Save a random BertModel and its tokenizer, as tokenizer.json or as vocab.txt, to `folder`.

    Norms and biases are random too, or a graph without them would pass. With `words` it means something: two texts are alike
    where they hold the same one of these, whatever else they say.
    """
    torch.manual_seed(seed)
    vocabulary = list(dict.fromkeys((*VOCABULARY, *words)))
    model = BertModel(BertConfig(**{**SIZES, "vocab_size": len(vocabulary), **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not words:
                parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.2)
            elif name.endswith("LayerNorm.weight"):
                parameter[:_MEANT], parameter[_MEANT:] = 1.0, 0.2
            else:
                # Nothing is added to a token on its way, and nothing to one that means nothing.
                parameter.zero_()
        table = model.embeddings.word_embeddings.weight
        for word in words:
            table[vocabulary.index(word), :_MEANT] = _centred(_MEANT)
        if words:
            # What every text begins with weighs little beside a word, and keeps texts without one from being nothing.
            table[vocabulary.index("[CLS]"), _MEANT:] = _centred(table.shape[1] - _MEANT)
    model.save_pretrained(folder)
    write_vocabulary(folder, vocabulary)
    if not as_vocabulary:
        tokenizer: Tokenizer = load_tokenizer(folder, len(vocabulary), SIZES["max_position_embeddings"])
        # As the tokenizers of sentence-transformers come: cut and padded to another length than the model's own.
        tokenizer.enable_truncation(8)
        tokenizer.enable_padding(length=8)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocab.txt").unlink()
    return folder


def _centred(size: int) -> torch.Tensor:
    drawn = torch.randn(size)
    return drawn - drawn.mean()


def write_vocabulary(folder: Path, vocabulary: Sequence[str] = tuple(dict.fromkeys(VOCABULARY))) -> Path:
    """Write vocab.txt."""
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
    return folder
