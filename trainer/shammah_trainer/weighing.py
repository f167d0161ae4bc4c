"""The embedder of a version: that of the home, with what the log's own questions say of its words. Knows texts and files.

What stands in every other question tells one from another the least, and which words these are only the log knows.

Legend: V token ids.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from shammah_data.embedder import TOKENIZER, EmbedderCard

# A token that makes up this share of all tokens counts half. Measured: docs/decisions/0019-words-that-tell.md.
_HALF = 1e-2
# Marks at both ends of a text say nothing of it, but a text without words has nothing else.
_MARK = 1e-6


def token_weights(tokenizer: Tokenizer, texts: Iterable[str]) -> npt.NDArray[np.float32]:
    """How much each token counts in the mean over a text, float32 [V]: a / (a + its share of the tokens of all `texts`).

    Smooth inverse frequency (Arora, Liang, Ma, "A simple but tough-to-beat baseline for sentence embeddings", 2017).
    """
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.ids)
    weights_V = np.ones(tokenizer.get_vocab_size(), np.float32)
    total = counts.total()
    for token, count in counts.items():
        weights_V[token] = _HALF / (_HALF + count / total)
    weights_V[tokenizer.encode("").ids] = _MARK
    return weights_V


def weigh(embedder: Path, texts: Iterable[str], folder: Path) -> EmbedderCard:
    """Write the embedder of a home to `folder`, its tokens weighed by `texts`. Raises ArtifactError and ExportError."""
    from shammah_export.token_weights import weigh_tokens

    EmbedderCard.verify(embedder)
    tokenizer = Tokenizer.from_file(str(embedder / TOKENIZER))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return weigh_tokens(embedder, folder, token_weights(tokenizer, texts))
