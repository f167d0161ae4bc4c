"""embedder.json: what the runtime knows of the sentence embedder. Parsing and digests; knows no graph and no tokenizer."""

import dataclasses
import hashlib
import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shammah_data.durable import plain, sha256
from shammah_data.errors import ArtifactError
from shammah_data.manifest import FileEntry, build

FORMAT = 1
NAME = "embedder.json"
GRAPH = "embedder.onnx"
TOKENIZER = "tokenizer.json"
_CURE = "run `shammah-train embedder`"


@dataclass(frozen=True)
class EmbedderCard:
    """One embedder: vectors of `dimensions` numbers from up to `max_tokens` tokens of a text.

    `digest` is over graph and tokenizer: vectors of two embedders with the same digest can be compared. `source_sha256`
    is that of the weights it was made from, `parity` how near it is to them.
    """

    name: str
    dimensions: int
    max_tokens: int
    pooling: Literal["mean", "weighted mean"]
    precision: Literal["int8", "int4", "fp32"]
    digest: str
    source_sha256: str
    files: tuple[FileEntry, ...]
    parity: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def load(cls, folder: Path) -> "EmbedderCard":
        """Read and validate `folder`/embedder.json. Raises ArtifactError with the cure."""
        path = folder / NAME
        try:
            raw = json.loads(plain(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ArtifactError(f"{folder}: there is no embedder: {_CURE}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}): {_CURE}") from error
        if isinstance(raw, dict) and type(found := raw.get("format")) is int and found > FORMAT:
            raise ArtifactError(f"{path}: format {found} is newer than {FORMAT}, which this Shammah reads: upgrade it")
        try:
            card: EmbedderCard = build(cls, raw)
            card._check()
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: {error}: {_CURE}") from error
        return card

    def _check(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format}, expected {FORMAT}")
        # Exactly these names: none can point outside the folder.
        if sorted(entry.path for entry in self.files) != sorted((GRAPH, TOKENIZER)):
            raise ValueError(f"the files must be {GRAPH} and {TOKENIZER}")
        if self.dimensions < 1 or self.max_tokens < 1:
            raise ValueError("sizes must be positive")
        if self.digest != digest_of(self.files):
            raise ValueError("the digest is not that of the files")

    @classmethod
    def verify(cls, folder: Path) -> "EmbedderCard":
        """Check every byte and return the card.

        Raises ArtifactError naming the first file that is missing, not a plain file, or not what was made.
        """
        card = cls.load(folder)
        for entry in card.files:
            path = folder / entry.path
            try:
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    raise ArtifactError(f"{path}: not a plain file: {_CURE}")
                if status.st_size != entry.bytes or sha256(path) != entry.sha256:
                    raise ArtifactError(f"{path}: not the bytes that were made: {_CURE}")
            except OSError as error:
                raise ArtifactError(f"{path}: cannot be read ({error.strerror}): {_CURE}") from error
        return card

    def dump(self) -> bytes:
        """The JSON text of the card."""
        raw: dict[str, Any] = dataclasses.asdict(self)
        return json.dumps(raw, ensure_ascii=False, indent=1).encode("utf-8")


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """Graph and tokenizer of a folder, with sizes and digests."""
    paths = [folder / name for name in (GRAPH, TOKENIZER)]
    return tuple(FileEntry(path.name, path.stat().st_size, sha256(path)) for path in paths)


def digest_of(files: Iterable[FileEntry]) -> str:
    """One digest over names and digests of files."""
    digest = hashlib.sha256()
    for entry in sorted(files, key=lambda entry: entry.path):
        digest.update(f"{entry.path} {entry.sha256}\n".encode())
    return digest.hexdigest()
