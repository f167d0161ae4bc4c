"""Graphs whose weights lie on disk as this machine's kernels read them: a cache beside the store, which can go at any time.

Knows files and the machine, opens no session; `packing` makes what this finds. A session of such a graph maps its weights
instead of packing them. What is kept is for one processor, one ONNX Runtime and the very bytes of one published graph; any
other is not found. A folder holds the graph, its weights and a card, or a card alone that says why it may not be used.
"""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from shammah_data.durable import atomic_write, sha256
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.store import packed_folder

GRAPH, WEIGHTS, CARD = "model.onnx", "packed.bin", "card.json"
# Part of the key: raised when what is written changes.
_FORMAT = 1
# Below this many bytes of weights a session opens as fast without.
LEAST_BYTES = 16 * 2**20
# A file is compared by its size, its time and so many pieces of it; `doctor` compares every byte.
_PIECES, _PIECE_BYTES = 64, 4096

State = Literal["ready", "none", "refused"]


@dataclass(frozen=True)
class FileCard:
    """What a file was when it was made."""

    bytes: int
    mtime_ns: int
    sampled: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileCard":
        """Of a file as it is now."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, _sampled(path, status.st_size), sha256(path))


@dataclass(frozen=True)
class Card:
    """What a folder holds; `refused`: why it is not to be used."""

    files: dict[str, FileCard] = field(default_factory=dict)
    refused: str = ""

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Packed:
    """The place of one graph in the cache of this machine; nothing need be there."""

    folder: Path

    @classmethod
    def of(cls, version: Path, manifest: Manifest, graph: GraphEntry) -> "Packed":
        """`version`: the folder of the published version."""
        within = PurePosixPath(graph.path).parent
        digests = sorted(entry.sha256 for entry in manifest.files if PurePosixPath(entry.path).parent == within)
        told = json.dumps([_FORMAT, machine(), _onnxruntime(), graph.path, digests])
        name = f"{graph.precision}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        return cls(packed_folder(version) / name)

    def graph(self) -> Path | None:
        """The graph to open, or None; a file that was cut would end the process that maps it."""
        card = self._card()
        if card is None or card.refused or set(card.files) != {GRAPH, WEIGHTS}:
            return None
        for name, known in card.files.items():
            path = self.folder / name
            try:
                status = path.lstat()
                if (status.st_size, status.st_mtime_ns) != (known.bytes, known.mtime_ns):
                    return None
                if path.is_symlink() or _sampled(path, known.bytes) != known.sampled:
                    return None
            except OSError:
                return None
        return self.folder / GRAPH

    def state(self) -> tuple[State, str]:
        """For those who only want to know: what is there, and for one that is refused why. Reads every byte."""
        card = self._card()
        if card is not None and card.refused:
            return "refused", card.refused
        if card is None or self.graph() is None:
            return "none", ""
        if any(sha256(self.folder / name) != known.sha256 for name, known in card.files.items()):
            return "refused", "a file is not what was written"
        return "ready", ""

    def refuse(self, reason: str) -> None:
        """Never use what is here, and make no other one for the same machine and bytes."""
        if self.folder.is_dir():
            atomic_write(self.folder / CARD, Card(refused=reason).dump())
            for name in (GRAPH, WEIGHTS):
                (self.folder / name).unlink(missing_ok=True)

    def settled(self) -> bool:
        """Whether nothing is left to be made."""
        card = self._card()
        return card is not None and (bool(card.refused) or self.graph() is not None)

    def _card(self) -> Card | None:
        try:
            raw = json.loads((self.folder / CARD).read_text(encoding="utf-8"))
            return Card({name: FileCard(**known) for name, known in raw["files"].items()}, str(raw["refused"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def seal(folder: Path) -> None:
    """Write the card of a folder whose files are complete."""
    atomic_write(folder / CARD, Card({name: FileCard.of(folder / name) for name in (GRAPH, WEIGHTS)}).dump())


def packed_bytes(version: Path) -> int:
    """What the cache of a version takes on disk."""
    return sum(path.lstat().st_size for path in packed_folder(version).rglob("*") if path.is_file())


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What kernels are chosen by: the processor's model and what it can do."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.system()} {platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(line for line in lines if line.partition(":")[0].strip() in wanted)


def _onnxruntime() -> str:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _sampled(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for number in range(_PIECES):
            file.seek(max(0, size - _PIECE_BYTES) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()
