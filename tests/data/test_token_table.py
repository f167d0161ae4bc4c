"""The embedding table: rows as they were quantized, and a description that does not fit is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shammah_data.errors import ArtifactError
from shammah_data.token_table import TableDescription, TokenTable

ROWS, COLUMNS, BLOCK = 7, 64, 32
RNG = np.random.default_rng(1)


def write(folder: Path, bits: int) -> tuple[Path, TableDescription, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """A table of random codes behind eight bytes of something else, and what it stands for."""
    path = folder / "weights.bin"
    if bits == 32:
        values = RNG.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        path.write_bytes(b"\0" * 8 + values.tobytes())
        return path, TableDescription(ROWS, COLUMNS, 32, 0, 8, 8), values
    codes = RNG.integers(0, 1 << bits, (ROWS, COLUMNS)).astype(np.uint8)
    scales = RNG.standard_normal((ROWS, COLUMNS // BLOCK)).astype(np.float32)
    packed = codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4
    path.write_bytes(b"\0" * 8 + packed.tobytes() + scales.tobytes())
    values = (codes.astype(np.float32) - np.float32(1 << (bits - 1))) * scales.repeat(BLOCK, axis=1)
    return path, TableDescription(ROWS, COLUMNS, bits, BLOCK, 8, 8 + packed.nbytes), values


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_rows_are_what_was_quantized(tmp_path: Path, bits: int) -> None:
    path, description, values = write(tmp_path, bits)
    table = TokenTable(path, description.dump())
    assert table.hidden == COLUMNS
    for ids in ([0], [6, 2, 2, 0], list(range(ROWS))):
        np.testing.assert_array_equal(table.read(ids), values[ids])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_rows_of_sixteen_bits_are_widened_exactly(tmp_path: Path, bfloat16: bool) -> None:
    values = RNG.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    # A bfloat16 is a float32 without its lower half.
    halves = (values.view(np.uint32) >> 16).astype(np.uint16) if bfloat16 else values.astype(np.float16)
    wanted = (values.view(np.uint32) & 0xFFFF0000).view(np.float32) if bfloat16 else halves.astype(np.float32)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8 + halves.tobytes())
    description = TableDescription(ROWS, COLUMNS, 16, 0, 8, 8, bfloat16)
    found = TokenTable(tmp_path / "weights.bin", description.dump()).read([6, 2, 0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted[[6, 2, 0]])


@pytest.mark.parametrize("odd", [ROWS, -1, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, odd: int) -> None:
    path, description, _ = write(tmp_path, 8)
    with pytest.raises(ArtifactError, match=f"token id {odd} is outside the vocabulary of {ROWS}"):
        TokenTable(path, description.dump()).read([1, odd])


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 5},
        {"rows": ROWS + 100},
        {"offset": -8},
        {"scales": 10**9},
        {"block_size": 0},
        {"columns": True},
        {"rows": 10**30},
        {"bfloat16": True},
        {"bfloat16": 1, "bits": 16},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_the_file_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path, description, _ = write(tmp_path, 8)
    with pytest.raises(ArtifactError, match=r"weights\.bin: the embedding cannot be read"):
        TokenTable(path, replace(description, **change).dump())


@pytest.mark.parametrize("described", [None, "", "[]", "{}", "null", "{"])
def test_no_description_is_refused(tmp_path: Path, described: str | None) -> None:
    path, _, _ = write(tmp_path, 8)
    with pytest.raises(ArtifactError, match="the embedding cannot be read"):
        TokenTable(path, described)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the embedding cannot be read"):
        TokenTable(tmp_path / "weights.bin", TableDescription(1, 32, 32, 0, 0, 0).dump())
