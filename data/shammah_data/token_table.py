"""The embedding of a model: token ids in, rows out. Knows one table inside a file of weights, no graph.

The rows are read from where they lie, one by one: a graph that gathers from the table and multiplies by it holds it twice,
and of a mapped one the kernel maps up to a megabyte around each row. S: tokens, H: hidden size, B: blocks of a row.
"""

import json
import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ArtifactError

Floats = npt.NDArray[np.float32]
# Where a graph's metadata has the description.
TABLE_KEY = "shammah.embedding"
# What a table is read as, by its bits.
_KINDS: dict[int, type[np.generic]] = {4: np.uint8, 8: np.uint8, 16: np.float16, 32: np.float32}


@dataclass(frozen=True)
class TableDescription:
    """Where a table of `rows` x `columns` lies in a file, offsets in bytes.

    `bits` is 32 for float32, 16 for float16 or, if so marked, bfloat16; with 8 or 4 a row is made of blocks of `block_size`
    codes, of which 2 ** (bits - 1) is zero (4 bits: the lower half of a byte comes first), and a float32 scale for each block
    lies at `scales`.
    """

    rows: int
    columns: int
    bits: int
    block_size: int
    offset: int
    scales: int
    bfloat16: bool = False

    def dump(self) -> str:
        """As JSON; earlier runtimes do not know the mark, and need not where it is not set."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not False})


class TokenTable:
    """The embedding rows of a graph."""

    def __init__(self, weights: Path, described: str | None) -> None:
        """`described` is what the graph's metadata says. Raises ArtifactError when that and the file do not fit together."""
        try:
            values: dict[str, Any] = json.loads(described or "")
            table = TableDescription(**values)
            numbers = [value for key, value in asdict(table).items() if key != "bfloat16"]
            if not all(type(number) is int and number >= 0 for number in numbers) or table.bits not in _KINDS:
                raise ValueError("its description makes no sense")
            if type(table.bfloat16) is not bool or (table.bfloat16 and table.bits != 16):
                raise ValueError("its description makes no sense")
            scaled = table.bits < 16
            blocks = table.columns // table.block_size if scaled else 1
            kind = np.uint16 if table.bfloat16 else _KINDS[table.bits]
            width = table.columns * table.bits // 8 if scaled else table.columns
            self._packed = _Rows(weights, table.offset, table.rows, (blocks, width // blocks), kind)
            self._scales = _Rows(weights, table.scales, table.rows, (blocks,), np.float32) if scaled else None
        except (OSError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise ArtifactError(f"{weights}: the embedding cannot be read ({error}): run `shammah-train` again") from error
        self.hidden = table.columns
        self._rows = table.rows
        self._bits = table.bits
        self._bfloat16 = table.bfloat16

    def read(self, ids: Sequence[int]) -> Floats:
        """The rows of these ids, float32 [S, H]. Raises ArtifactError for an id outside the vocabulary."""
        if not 0 <= min(ids) <= max(ids) < self._rows:
            odd = max(ids) if max(ids) >= self._rows else min(ids)
            raise ArtifactError(f"token id {odd} is outside the vocabulary of {self._rows}")
        packed_SBP = self._packed.read(ids)
        if self._bfloat16:
            # The upper half of a float32 of the same value.
            return (packed_SBP.astype(np.uint32) << 16).view(np.float32).reshape(len(ids), self.hidden)
        if self._scales is None:
            return np.asarray(packed_SBP, np.float32).reshape(len(ids), self.hidden)
        if self._bits == 4:
            packed_SBP = np.stack((packed_SBP & 0xF, packed_SBP >> 4), axis=-1).reshape(*packed_SBP.shape[:2], -1)
        centred = packed_SBP.astype(np.float32) - np.float32(1 << (self._bits - 1))
        result: Floats = (centred * self._scales.read(ids)[..., None]).reshape(len(ids), self.hidden)
        return result


class _Rows:
    """Rows of one type and size, one behind the other, in a file that is kept open."""

    def __init__(self, path: Path, offset: int, count: int, sides: tuple[int, ...], kind: type[np.generic]) -> None:
        self._offset, self._sides, self._kind = offset, sides, kind
        self._bytes = np.dtype(kind).itemsize * math.prod(sides)
        if self._bytes < 1:
            raise ValueError("its rows are empty")
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the table
        self._moving = threading.Lock()
        weakref.finalize(self, self._file.close)
        if path.stat().st_size < offset + count * self._bytes:
            raise ValueError("it goes beyond the end of the file")

    def read(self, ids: Sequence[int]) -> npt.NDArray[Any]:
        """[S, *sides]."""
        found = np.empty((len(ids), *self._sides), self._kind)
        with self._moving:
            for number, row in zip(ids, found, strict=True):
                self._file.seek(self._offset + number * self._bytes)
                if self._file.readinto(row.data) != self._bytes:
                    raise ArtifactError(f"{self._file.name}: row {number} of the embedding cannot be read: it was cut")
        return found
