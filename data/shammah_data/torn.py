"""A database whose metadata block a kill tore: made readable again, with every row. Knows bytes and checksums, no log.

A checkpoint of DuckDB (1.5.5, MetadataManager::Flush) writes metadata into free parts of blocks that are in use, each 256 KiB
under one checksum. A kill or a power cut in the middle of that write leaves a block of which all that the file refers to is
as it was, and which its checksum refuses: the file cannot be opened at all. Its write-ahead log is still there then, for it is
only emptied after the header has been written. So the block gets the checksum of what it holds, in a copy, and the copy must
open, replay its write-ahead log and give every row. A block of rows is never written in place: one that its checksum refuses
is damaged, and no checksum makes it whole.
"""

import os
import re
import shutil
import struct
from pathlib import Path

from shammah_data.durable import PRIVATE_FILE, fsync_file, private_folder
from shammah_data.session import LocalSession, fetch, read_every_row

_TORN = re.compile(r"computed checksum (\d+) does not match stored checksum \d+ in block at location (\d+)")
# A checkpoint writes a few blocks of metadata, one after the other; more of them torn are damage of another kind.
_MOST_BLOCKS = 2
# Where the first block begins, behind three headers.
_FIRST = 3 * 4096


def is_torn(message: str) -> bool:
    """Whether DuckDB's message tells of a block and its checksum."""
    return _TORN.search(message) is not None


def mend(database: Path, wal: Path, target: Path) -> bool:
    """Write the mended database, its write-ahead log included, to `target`; False where that does not help.

    Without a write-ahead log no checkpoint was under way, and the damage is none of this kind; nor is it where another block
    than one of metadata is refused. Neither `database` nor `wal` is changed. Raises OSError.
    """
    import duckdb

    if not wal.exists():
        return False
    target_wal = target.with_name(target.name + ".wal")
    for leftover in (target, target_wal):
        leftover.unlink(missing_ok=True)
    shutil.copyfile(database, target)
    shutil.copyfile(wal, target_wal)
    for _ in range(_MOST_BLOCKS + 1):
        # Opening reads nothing else.
        metadata = None
        try:
            with duckdb.connect(str(target)) as connection:
                session = LocalSession(connection)
                metadata = _metadata(session)
                read_every_row(session)
        except duckdb.Error as error:
            found = _TORN.search(str(error))
            if found is None or (metadata is not None and int(found[2]) not in metadata):
                break
            with open(target, "rb+") as file:
                file.seek(int(found[2]))
                file.write(struct.pack("<Q", int(found[1])))
        else:
            target.chmod(PRIVATE_FILE)
            fsync_file(target)
            return True
    for leftover in (target, target_wal):
        leftover.unlink(missing_ok=True)
    return False


def _metadata(session: LocalSession) -> set[int]:
    """Where the blocks of metadata begin, in bytes."""
    (size,) = fetch(session, "SELECT block_size FROM pragma_database_size()")
    found = fetch(session, "SELECT block_id FROM pragma_metadata_info()")
    return {_FIRST + int(block["block_id"]) * int(size["block_size"]) for block in found}


def keep(paths: list[Path], folder: Path) -> None:
    """Copy files as they are into a new folder, durably. Raises OSError."""
    private_folder(folder.parent)
    private_folder(folder)
    for path in paths:
        if path.exists():
            copy = folder / path.name
            shutil.copyfile(path, copy)
            os.chmod(copy, PRIVATE_FILE)
            fsync_file(copy)
