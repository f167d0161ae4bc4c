"""The tokenizer of a BERT folder, ready to be saved as tokenizer.json. Knows files and the tokenizers library, no graph."""

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from shammah_data.errors import ExportError
from shammah_export.checkpoint import read_json

VOCABULARY = "vocab.txt"
_UNKNOWN, _FIRST, _LAST = "[UNK]", "[CLS]", "[SEP]"


def load_tokenizer(folder: Path, vocab: int, tokens: int) -> Tokenizer:
    """Read tokenizer.json, or make one of vocab.txt; it cuts texts after `tokens` tokens and pads nothing.

    Raises ExportError for what cannot be read, has more than `vocab` tokens, or puts no mark at both ends of a text.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        path = folder / VOCABULARY
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.name != VOCABULARY else _from_vocabulary(folder)
    except FileNotFoundError as error:
        raise ExportError(f"{folder} holds neither tokenizer.json nor {VOCABULARY}") from error
    except ExportError:
        raise
    except Exception as error:  # tokenizers raises bare Exception for any unreadable file
        raise ExportError(f"{path}: not a tokenizer: {str(error).splitlines()[0]}") from error
    if (found := tokenizer.get_vocab_size(with_added_tokens=True)) > vocab:
        raise ExportError(f"{path}: {found} tokens do not fit the model's vocabulary of {vocab}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if (marks := len(tokenizer.encode("").ids)) != 2:
        raise ExportError(f"{path}: puts {marks} marks around a text; a BERT tokenizer puts 2")
    tokenizer.enable_truncation(tokens)
    return tokenizer


def _from_vocabulary(folder: Path) -> Tokenizer:
    """A tokenizer as BERT's own: cleaned, lower-cased where the settings say so, split at spaces and marks, word pieces."""
    path = folder / VOCABULARY
    vocabulary = {word: number for number, word in enumerate(path.read_text(encoding="utf-8").splitlines())}
    if missing := [mark for mark in (_UNKNOWN, _FIRST, _LAST) if mark not in vocabulary]:
        raise ExportError(f"{path}: holds no {missing[0]}")
    settings_path = folder / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.exists() else {}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([mark for mark in ("[PAD]", _UNKNOWN, _FIRST, _LAST, "[MASK]") if mark in vocabulary])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_FIRST} $A {_LAST}", special_tokens=[(mark, vocabulary[mark]) for mark in (_FIRST, _LAST)]
    )
    return tokenizer
