"""The vectors of past queries, kept so that a search embeds only new ones. Knows ids and vectors, no text and no model.

One file: a header that names the embedder, then one record per exchange: its id, and its vector in float16. Records are
appended; what goes (a forgotten exchange, a doublet, a torn tail) goes by writing the rest to a new file. A vector says much
about its query: the file is as private as the log, and holds nothing that the log does not hold.

Legend: N exchanges, H dimensions.
"""

import contextlib
import os
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, atomic_write, fsync_folder, private_folder
from shammah_data.errors import LogError
from shammah_data.home import Home

NAME = "embeddings.bin"
_MAGIC = "shammah-embeddings-1"
_HEADER_BYTES = 128
_LOCK_SECONDS = 10.0
_MOST_DIMENSIONS = 1 << 16
# Half precision keeps a vector's length to about a thousandth; what is further off was torn or damaged.
_LENGTH_TOLERANCE = 0.01

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """Vectors of exchanges: `ids` and `vectors`, float16 [N, H], in the same order."""

    ids: list[str]
    vectors: Halves


class EmbeddingCache:
    """The vectors that one embedder, named by its digest, made of the log of a home."""

    def __init__(self, home: Home, digest: str, dimensions: int) -> None:
        self._path = home.cache / NAME
        self._header = f"{_MAGIC} {digest} {dimensions}\n".encode().ljust(_HEADER_BYTES)
        self._record = _record(dimensions)
        self._dimensions = dimensions

    def keep(self, ids: Collection[str]) -> Kept:
        """The vectors of those exchanges among `ids` that have one; all others are removed from the disk.

        Raises LogError when the file cannot be read or written, or another process holds it too long.
        """
        wanted = {_bytes(identity): identity for identity in ids}
        with _lock(self._path):
            if not self._path.exists():
                return Kept([], np.empty((0, self._dimensions), np.float16))
            content = self._path.read_bytes()
            good = self._good(content, wanted)
            if _HEADER_BYTES + good.nbytes != len(content):
                atomic_write(self._path, self._header + good.tobytes())
        return Kept([wanted[identity] for identity in _ids(good)], good["vector"])

    def add(self, ids: Sequence[str], vectors: Floats) -> None:
        """Append the vectors, float32 [N, H], of new exchanges; on disk when this returns. Raises LogError."""
        records = np.empty(len(ids), self._record)
        records["id"] = np.frombuffer(b"".join(map(_bytes, ids)), "V16")
        records["vector"] = vectors
        with _lock(self._path):
            self._begin()
            with open(self._path, "ab") as file:
                # A torn tail would shift every record after it.
                if torn := (file.tell() - _HEADER_BYTES) % self._record.itemsize:
                    file.truncate(file.tell() - torn)
                file.write(records.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def _begin(self) -> None:
        """Make sure that the file is one of this embedder."""
        if self._path.exists():
            with open(self._path, "rb") as file:
                if file.read(_HEADER_BYTES) == self._header:
                    return
        atomic_write(self._path, self._header)

    def _good(self, content: bytes, wanted: Container[bytes]) -> npt.NDArray[np.void]:
        """The whole records of wanted exchanges with a vector of length one, each exchange once."""
        if content[:_HEADER_BYTES] != self._header:
            return np.empty(0, self._record)
        count = (len(content) - _HEADER_BYTES) // self._record.itemsize
        records: npt.NDArray[np.void] = np.frombuffer(content, self._record, count, _HEADER_BYTES)
        newest = {identity: row for row, identity in enumerate(_ids(records))}
        rows = [row for identity, row in newest.items() if identity in wanted]
        if len(rows) < count:  # else it would copy what may be a hundred megabytes
            records = records[np.array(rows, np.int64)]
        squares = np.empty(len(records), np.float32)
        for part in _parts(len(records)):
            vectors_NH = records["vector"][part].astype(np.float32)
            with np.errstate(invalid="ignore", over="ignore"):
                squares[part] = np.einsum("nh,nh->n", vectors_NH, vectors_NH)
        good = np.abs(squares - 1.0) < _LENGTH_TOLERANCE
        return records if good.all() else records[good]


def forget(home: Home, ids: Iterable[str]) -> int:
    """Remove the vectors of these exchanges, whichever embedder made them; returns how many were there.

    A file that cannot be understood is deleted whole: it can be made again, and must not keep what is to be forgotten.
    Raises LogError.
    """
    path = home.cache / NAME
    if not path.exists():
        return 0
    gone = set(map(_bytes, ids))
    with _lock(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        header = content[:_HEADER_BYTES]
        dimensions = _dimensions_of(header)
        if dimensions is None:
            path.unlink()
            fsync_folder(path.parent)
            return 0
        record = _record(dimensions)
        records = np.frombuffer(content, record, (len(content) - _HEADER_BYTES) // record.itemsize, _HEADER_BYTES)
        left = records[np.array([identity not in gone for identity in _ids(records)], np.bool_)]
        # The tail of a torn record may be of one that is to be forgotten.
        if _HEADER_BYTES + left.nbytes != len(content):
            atomic_write(path, header + left.tobytes())
        return len(records) - len(left)


def _record(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([("id", "V16"), ("vector", "<f2", (dimensions,))])


def _bytes(identity: str) -> bytes:
    """The sixteen bytes of an id; uuid.UUID takes four times as long."""
    return bytes.fromhex(identity.replace("-", ""))


def _ids(records: npt.NDArray[np.void]) -> list[bytes]:
    joined = records["id"].tobytes()
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def _dimensions_of(header: bytes) -> int | None:
    words = header.split()
    if len(header) != _HEADER_BYTES or len(words) != 3 or words[0] != _MAGIC.encode() or not words[2].isdigit():
        return None
    dimensions = int(words[2])
    return dimensions if 1 <= dimensions <= _MOST_DIMENSIONS else None


def _parts(count: int, size: int = 8192) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def similarities(kept: Kept, vector_H: Floats) -> Floats:
    """The cosine of every kept vector with one of length one, float32 [N]; the memory of a few thousand rows is enough."""
    found = np.empty(len(kept.ids), np.float32)
    for part in _parts(len(kept.ids)):
        found[part] = kept.vectors[part].astype(np.float32) @ vector_H
    return found


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        lock = FileLock(private_folder(path.parent) / f".{path.name}.lock", timeout=_LOCK_SECONDS, mode=PRIVATE_FILE)
        lock.acquire()
    except Timeout as error:
        raise LogError(f"{path}: in use by another process; try again in a moment") from error
    except OSError as error:
        raise LogError(f"{path}: the vectors of questions cannot be kept: {error.strerror or error}") from error
    try:
        yield
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}") from error
    finally:
        lock.release()
