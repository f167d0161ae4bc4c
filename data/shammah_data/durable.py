"""Durable writes: after these return, a power cut leaves the old content or the new, never a mix. And what may be read."""

import contextlib
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename inside it survives a power cut. No-op where folders cannot be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Flush one file's content."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def atomic_write(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: temporary file beside it, fsync, rename, fsync the parent."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and flush it to the disk; the file is private to its owner.

    What an earlier, cut write left without a line end gets one, so that it cannot swallow this line.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    try:
        content = line + b"\n"
        if os.fstat(descriptor).st_size:
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                content = b"\n" + content
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        fsync_folder(path.parent)


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner can enter; an existing one is left as it is."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    return path


def plain(path: Path) -> Path:
    """The same path, where it is that of a plain file; a pipe or a device may never end. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a plain file")
    return path


def blocks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """The content of a file in pieces of `size` bytes."""
    with open(path, "rb") as file:
        while block := file.read(size):
            yield block


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    # Large pieces, and the same memory for all: between two, a thread waits for its turn with Python.
    piece = memoryview(bytearray(4 << 20))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
    return digest.hexdigest()
