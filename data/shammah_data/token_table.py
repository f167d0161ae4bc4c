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


@dataclass(frozen=True)
class TableDescription:
    """Where a table of `rows` x `columns` lies in a file, offsets in bytes.

    `bits` is 32 for float32; with 8 or 4 a row is made of blocks of `block_size` codes, of which 2 ** (bits - 1) is zero (4
    bits: the lower half of a byte comes first), and a float32 scale for each block lies at `scales`.
    """

    rows: int
    columns: int
    bits: int
    block_size: int
    offset: int
    scales: int

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


class TokenTable:
    """The embedding rows of a graph."""

    def __init__(self, weights: Path, described: str | None) -> None:
        """`described` is what the graph's metadata says. Raises ArtifactError when that and the file do not fit together."""
        try:
            values: dict[str, Any] = json.loads(described or "")
            table = TableDescription(**values)
            numbers = asdict(table).values()
            if not all(type(number) is int and number >= 0 for number in numbers) or table.bits not in (4, 8, 32):
                raise ValueError("its description makes no sense")
            blocks = 1 if table.bits == 32 else table.columns // table.block_size
            kind: type[np.generic] = np.float32 if table.bits == 32 else np.uint8
            width = table.columns if table.bits == 32 else table.columns * table.bits // 8
            self._packed = np.memmap(weights, kind, "r", table.offset, (table.rows, blocks, width // blocks))
            scaled = table.bits != 32
            self._scales = np.memmap(weights, np.float32, "r", table.scales, (table.rows, blocks)) if scaled else None
        except (OSError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise ArtifactError(f"{weights}: the embedding cannot be read ({error}): run `shammah-train` again") from error
        self.hidden = table.columns
        self._rows = table.rows
        self._bits = table.bits

    def read(self, ids: Sequence[int]) -> Floats:
        """The rows of these ids, float32 [S, H]. Raises ArtifactError for an id outside the vocabulary."""
        if not 0 <= min(ids) <= max(ids) < self._rows:
            odd = max(ids) if max(ids) >= self._rows else min(ids)
            raise ArtifactError(f"token id {odd} is outside the vocabulary of {self._rows}")
        packed_SBP = self._packed[list(ids)]
        if self._scales is None:
            return np.asarray(packed_SBP, np.float32).reshape(len(ids), self.hidden)
        if self._bits == 4:
            packed_SBP = np.stack((packed_SBP & 0xF, packed_SBP >> 4), axis=-1).reshape(*packed_SBP.shape[:2], -1)
        centred = packed_SBP.astype(np.float32) - np.float32(1 << (self._bits - 1))
        result: Floats = (centred * self._scales[list(ids)][..., None]).reshape(len(ids), self.hidden)
        return result
