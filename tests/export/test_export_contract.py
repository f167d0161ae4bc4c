"""The contract check accepts what the builder makes and names what breaks the promise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from shammah_data.errors import ExportError
from shammah_export.contract import check_graph
from shammah_export.export import export_model
from shammah_export.precision import Precision

Save = Callable[..., Path]


def exported(save_model: Save, out: Path, precision: Precision) -> Any:
    export_model(save_model(tie_word_embeddings=True), out, precision)
    model = onnx.load(out / "model.onnx", load_external_data=False)
    check_graph(model)
    return model


def rename_input(model: Any) -> None:
    model.graph.input[1].name = "seqlens"


def change_type(model: Any) -> None:
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64


def swap_outputs(model: Any) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([*outputs[1:], outputs[0]])


def move_weights(model: Any) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    tensor.external_data[0].value = "../elsewhere.bin"


def forget_precision(model: Any) -> None:
    del model.metadata_props[:]


def leave_float_product(model: Any) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "left.over"))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["embedded", "left.over"], ["y"], name="product"))


def leave_float_table(model: Any) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((600, 600), np.float32), "big.table"))


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (rename_input, "inputs are not those of the contract: seqlens, seqlens_k"),
        (change_type, "inputs are not those of the contract: seqlens_k"),
        (swap_outputs, "outputs are not those of the contract: their order"),
        (move_weights, r"lies in \['../elsewhere.bin'\]"),
        (forget_precision, "metadata shammah.precision is None"),
        (leave_float_product, "node product multiplies by the float constant left.over"),
        (leave_float_table, "float constant big.table of 1440000 bytes is left"),
    ],
)
def test_a_broken_promise_is_named(breakage: Callable[[Any], None], message: str, save_model: Save, tmp_path: Path) -> None:
    model = exported(save_model, tmp_path, "int4")
    breakage(model)
    with pytest.raises(ExportError, match=message):
        check_graph(model)


def test_a_float_graph_cannot_pass_as_quantized(save_model: Save, tmp_path: Path) -> None:
    model = exported(save_model, tmp_path, "fp32")
    onnx.helper.set_model_props(model, {"shammah.precision": "int8"})
    with pytest.raises(ExportError, match="it was not quantized"):
        check_graph(model)


def test_weights_start_on_page_boundaries(save_model: Save, tmp_path: Path) -> None:
    model = exported(save_model, tmp_path, "int8")
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer]
    offsets = [int(place["offset"]) for place in places if place]
    assert len(offsets) > 5
    assert not any(offset % 4096 for offset in offsets)


def test_the_files_can_be_moved_together(save_model: Save, tmp_path: Path) -> None:
    model = exported(save_model, tmp_path / "first", "int8")
    places = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data[:1]}
    assert places == {"weights.bin"}
    (tmp_path / "first").rename(tmp_path / "second")
    onnx.checker.check_model(str(tmp_path / "second" / "model.onnx"))
