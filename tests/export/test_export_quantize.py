"""Block quantization: its bounds, and that ONNX Runtime reads the blocks as `dequantize` does."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shammah_data.errors import ExportError
from shammah_export.contract import IR_VERSION, OPSETS
from shammah_export.nodes import GraphParts
from shammah_export.precision import BITS, Precision
from shammah_export.quantize import BLOCK_SIZES, ROWS_AT_ONCE, Blocks, block_size_for, dequantize, quantize_blocks

Floats = npt.NDArray[np.float32]

MATRICES = hnp.arrays(np.float32, (3, 64), elements=st.floats(-1e6, 1e6, width=32))
WIDTHS = st.sampled_from([4, 8])
SIZES = st.sampled_from(BLOCK_SIZES)


def parts_of(matrix: Floats, block_size: int) -> Floats:
    return matrix.reshape(len(matrix), -1, block_size)


@given(MATRICES, WIDTHS, SIZES)
def test_errors_stay_within_the_scale(matrix: Floats, bits: int, block_size: int) -> None:
    blocks = quantize_blocks(matrix, bits, block_size)
    found, wanted = parts_of(dequantize(blocks), block_size), parts_of(matrix, block_size)
    used = blocks.scales != 0
    assert (found[~used] == 0).all()
    assert (np.abs(wanted[~used]) < np.finfo(np.float32).tiny * (1 << bits)).all()
    scales = blocks.scales[used][:, None].astype(np.float64)
    places, errors = wanted[used] / scales, np.abs(found[used] - wanted[used]) / np.abs(scales)
    last_code = (1 << (bits - 1)) - 1
    assert (errors[places <= last_code] <= 0.5 + 1e-4).all()
    assert (errors <= 1 + 1e-4).all()


@given(MATRICES, WIDTHS, SIZES)
def test_the_extreme_of_every_block_is_kept_exactly(matrix: Floats, bits: int, block_size: int) -> None:
    found = parts_of(dequantize(quantize_blocks(matrix, bits, block_size)), block_size)
    wanted = parts_of(matrix, block_size)
    where = np.abs(wanted).argmax(axis=2, keepdims=True)
    extremes = np.take_along_axis(wanted, where, 2)
    normal = np.abs(extremes) >= np.finfo(np.float32).tiny * (1 << bits)
    assert (np.take_along_axis(found, where, 2) == extremes)[normal].all()


@given(MATRICES, WIDTHS, SIZES)
def test_quantizing_twice_changes_nothing(matrix: Floats, bits: int, block_size: int) -> None:
    once = dequantize(quantize_blocks(matrix, bits, block_size))
    np.testing.assert_array_equal(dequantize(quantize_blocks(once, bits, block_size)), once)


@pytest.mark.parametrize(("bits", "width"), [(4, 32), (8, 64)])
def test_layout(bits: int, width: int) -> None:
    ramp = np.tile(np.arange(-8, 8, dtype=np.float32), (2, 8))
    blocks = quantize_blocks(ramp, bits, 64)
    assert blocks.packed.shape == (2, 2, width)
    assert blocks.scales.shape == (2, 2)
    assert (blocks.outputs, blocks.inputs) == (2, 128)
    np.testing.assert_array_equal(dequantize(blocks), ramp)
    if bits == 4:
        # -8 is code 0 in the lower half of the first byte, -7 is code 1 in the upper.
        assert blocks.packed[0, 0, 0] == 0x10


def test_rows_beyond_one_batch_are_quantized() -> None:
    matrix = np.random.default_rng(0).normal(size=(ROWS_AT_ONCE + 3, 16)).astype(np.float32)
    whole, tail = quantize_blocks(matrix, 4, 16), quantize_blocks(matrix[-3:], 4, 16)
    np.testing.assert_array_equal(whole.packed[-3:], tail.packed)
    np.testing.assert_array_equal(whole.scales[-3:], tail.scales)


@pytest.mark.parametrize(("inputs", "size"), [(576, 64), (1536, 64), (96, 32), (48, 16)])
def test_largest_block_that_divides(inputs: int, size: int) -> None:
    assert block_size_for(inputs) == size


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ExportError, match="40 inputs cannot be quantized"):
        block_size_for(40)
    with pytest.raises(ExportError, match="block size 64 does not fit 96 inputs"):
        quantize_blocks(np.ones((1, 96), np.float32), 4, 64)
    with pytest.raises(ExportError, match="5 bits"):
        quantize_blocks(np.ones((1, 64), np.float32), 5, 64)
    for value in (np.nan, np.inf):
        with pytest.raises(ExportError, match="not finite"):
            quantize_blocks(np.full((1, 64), value, np.float32), 8, 64)


def run_parts(parts: GraphParts, inputs: dict[str, npt.NDArray[Any]], output: str) -> Floats:
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    result = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(parts.nodes, "parts", values, [result], parts.tensors)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Floats = session.run([output], inputs)[0]
    return found


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("inputs", [192, 96, 48])
@pytest.mark.parametrize("rows", [1, 5])
def test_onnx_runtime_reads_the_blocks_as_dequantize_does(precision: Precision, inputs: int, rows: int) -> None:
    random = np.random.default_rng(inputs)
    W_NK = random.normal(size=(40, inputs)).astype(np.float32)
    blocks: Blocks = quantize_blocks(W_NK, BITS[precision], block_size_for(inputs))
    x = random.normal(size=(1, rows, inputs)).astype(np.float32)
    bias = random.normal(size=40).astype(np.float32)
    parts = GraphParts(lambda name, array: onnx.numpy_helper.from_array(array, name), precision, accuracy_level=1)
    parts.linear("x", "weight", W_NK, "y", bias)
    np.testing.assert_allclose(run_parts(parts, {"x": x}, "y")[0], x[0] @ dequantize(blocks).T + bias, atol=1e-4)
    parts.quantized_gather("weight", W_NK.shape, "ids", "gathered")
    parts.nodes.pop(0)
    ids = np.array([[3, 39, 0]], np.int64)
    np.testing.assert_array_equal(run_parts(parts, {"ids": ids}, "gathered")[0], dequantize(blocks)[[3, 39, 0]])
