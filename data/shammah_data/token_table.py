"""The embedding of a model: token ids in, rows out. Knows one table inside a file of weights, no graph.

The table is read where it lies, mapped: it takes the memory of the rows that were used, where a graph that gathers from it and
multiplies by it holds it twice. S: tokens, H: hidden size, B: blocks of a row.
"""

import json
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
            self._packed = np.memmap(weights, kind, "r", table.offset, (table.rows, blocks, width // blocks))
            self._scales = np.memmap(weights, np.float32, "r", table.scales, (table.rows, blocks)) if scaled else None
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
        packed_SBP = self._packed[list(ids)]
        if self._bfloat16:
            # The upper half of a float32 of the same value.
            return (packed_SBP.astype(np.uint32) << 16).view(np.float32).reshape(len(ids), self.hidden)
        if self._scales is None:
            return np.asarray(packed_SBP, np.float32).reshape(len(ids), self.hidden)
        if self._bits == 4:
            packed_SBP = np.stack((packed_SBP & 0xF, packed_SBP >> 4), axis=-1).reshape(*packed_SBP.shape[:2], -1)
        centred = packed_SBP.astype(np.float32) - np.float32(1 << (self._bits - 1))
        result: Floats = (centred * self._scales[list(ids)][..., None]).reshape(len(ids), self.hidden)
        return result
