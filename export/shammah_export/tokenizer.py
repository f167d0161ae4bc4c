"""A tokenizer.json as it is parsed soonest. Knows the file's format and the tokenizers library, no model."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from shammah_data.errors import ExportError
from shammah_export.checkpoint import read_json


def write_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of `source` without blanks, and each merge as one text instead of two.

    That is half of the time in which tokenizers parses SmolLM2's, and no other thread runs Python meanwhile. Raises ExportError
    for what cannot be read, or would not be the same tokenizer afterwards.
    """
    told, document = _told(source), read_json(source)
    model = document["model"]
    if model.get("merges") and all(_splits(merge) for merge in model["merges"]):
        model["merges"] = [" ".join(merge) for merge in model["merges"]]
    target.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    if _told(target) != told:
        raise ExportError(f"{source}: written without blanks it is another tokenizer")


def _splits(merge: object) -> bool:
    """Whether a merge is two texts that one text with a blank between them gives again."""
    return isinstance(merge, list) and len(merge) == 2 and not any(" " in part for part in merge)


def _told(path: Path) -> str:
    try:
        return str(Tokenizer.from_file(str(path)).to_str())
    except Exception as error:  # tokenizers raises bare Exception for any unreadable file
        raise ExportError(f"{path}: not a tokenizer: {str(error).splitlines()[0]}") from error
