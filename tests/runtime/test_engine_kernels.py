"""Our own kernels beside numpy and ONNX Runtime's, bit by bit over rows and instruction sets, and the graphs that use them."""

import ctypes.util
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from fakes.versions import ANSWER, QUESTION, Tiny
from shammah_data.home import Home
from shammah_data.store import ModelStore
from shammah_export.quantize import dequantize, quantize_blocks
from shammah_runtime.engine import kernels, protobuf
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import open_model
from shammah_runtime.engine.session import GraphSession

Floats = npt.NDArray[np.float32]
FLOAT, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]

# What the kernels may be held to: the plainest instructions that there are any for, and the best that this processor has.
PLAINEST = "neon" if platform.machine().lower() in ("aarch64", "arm64") else "avx2"

needs_kernels = pytest.mark.skipif(kernels.library() is None, reason="no kernels were compiled, or this processor has none")


def values(*names: str) -> list[Any]:
    """Float inputs or outputs of any shape."""
    return [helper.make_tensor_value_info(name, FLOAT, None) for name in names]


def product(
    K: int, N: int, bits: int, block: int, *, bias: bool, gated: bool = False
) -> tuple[onnx.ModelProto, Floats, Floats]:
    """A model of one product, through SiLU and gated if so wanted, its matrix as float32 and its bias."""
    rng = np.random.default_rng(K + N + bits + block)
    blocks = quantize_blocks(rng.standard_normal((N, K)).astype(np.float32), bits, block)
    bias_N = rng.standard_normal(N).astype(np.float32) if bias else np.zeros(N, np.float32)
    tensors = [numpy_helper.from_array(blocks.packed, "codes"), numpy_helper.from_array(blocks.scales, "scales")]
    tensors += [numpy_helper.from_array(bias_N, "bias")] if bias else []
    inputs = ["x", "codes", "scales"] + (["", "", "bias"] if bias else [])
    settings = {"K": K, "N": N, "bits": bits, "block_size": block, "accuracy_level": 4}
    nodes = [helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **settings)]
    if gated:
        nodes += [
            helper.make_node("Split", ["y"], ["gate", "up"], axis=-1, num_outputs=2),
            helper.make_node("QuickGelu", ["gate"], ["active"], domain="com.microsoft", alpha=1.0),
            helper.make_node("Mul", ["active", "up"], ["gated"]),
        ]
    graph = helper.make_graph(nodes, "product", values("x"), values("gated" if gated else "y"), tensors)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10), dequantize(blocks), bias_N


def rewritten(model: onnx.ModelProto, head_dim: int = 16) -> bytes:
    """The model with our operators."""
    found = kernels.with_own_kernels(model.SerializeToString(), head_dim)
    assert found is not None
    return found


def opened(model: onnx.ModelProto, *, own: bool, head_dim: int = 16) -> Any:
    """A session of a model, by our own kernels or by ONNX Runtime's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    raw = model.SerializeToString()
    if own:
        raw = rewritten(model, head_dim)
        options.register_custom_ops_library(str(kernels.library()))
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


PRODUCTS = [
    (576, 64, 8, 64, False),
    (96, 37, 4, 32, True),
    (1536, 19, 4, 32, False),
    (64, 23, 8, 32, True),
    (112, 40, 8, 16, False),
    (48, 33, 4, 16, True),
    (192, 17, 4, 64, False),
]


@needs_kernels
@pytest.mark.parametrize("instructions", [PLAINEST, "best"])
@pytest.mark.parametrize(("K", "N", "bits", "block", "bias"), PRODUCTS)
def test_a_product_is_that_of_rounded_activations_whatever_rows_come_with_a_row(
    K: int, N: int, bits: int, block: int, bias: bool, instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, instructions)
    model, W_NK, bias_N = product(K, N, bits, block, bias=bias)
    session = opened(model, own=True)
    x = np.random.default_rng(1).standard_normal((1, 13, K)).astype(np.float32)
    x[0, 3] = 0
    x[0, 4] *= 1e-35
    found = session.run(None, {"x": x})[0]
    blocks = x.reshape(13, -1, block)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / 127
    rounded = np.rint(np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales > 1e-32)) * scales
    wanted = rounded.reshape(13, K).astype(np.float64) @ W_NK.T.astype(np.float64) + bias_N
    # A value halfway between two codes may go either way.
    np.testing.assert_allclose(found[0], wanted, atol=2e-5 * np.abs(wanted).max() + 4e-3 * np.abs(W_NK).max())
    for rows in (1, 2, 3, 4, 7):
        parts = [session.run(None, {"x": x[:, at : at + rows]})[0] for at in range(0, 13, rows)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), found)


@needs_kernels
@pytest.mark.parametrize(("K", "N", "bits", "block", "bias"), PRODUCTS)
def test_every_instruction_set_gives_the_same_bits(
    K: int, N: int, bits: int, block: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, _ = product(K, N, bits, block, bias=bias)
    x = np.random.default_rng(2).standard_normal((1, 5, K)).astype(np.float32) * 3
    found = []
    for instructions in (PLAINEST, "best"):
        monkeypatch.setenv(kernels.VARIABLE, instructions)
        session = opened(model, own=True)
        found.append(np.concatenate([session.run(None, {"x": x})[0], session.run(None, {"x": x[:, :1]})[0]], axis=1))
    np.testing.assert_array_equal(found[0], found[1])


@needs_kernels
def test_a_product_is_what_onnx_runtime_makes_of_it() -> None:
    model, _, _ = product(576, 64, 4, 32, bias=True)
    x = np.random.default_rng(3).standard_normal((1, 6, 576)).astype(np.float32)
    ours, theirs = (opened(model, own=own).run(None, {"x": x})[0] for own in (True, False))
    # On ARM theirs round the activations of a whole row by one scale at int4, not those of a block.
    np.testing.assert_allclose(ours, theirs, atol=1e-3 if PLAINEST == "avx2" else 0.03 * np.abs(ours).max())


@needs_kernels
def test_a_gate_is_fused_and_right_at_both_ends() -> None:
    model, _, _ = product(64, 96, 8, 32, bias=True, gated=True)
    assert operators(rewritten(model)) == ["GatedProduct"]
    x = np.random.default_rng(4).standard_normal((1, 20, 64)).astype(np.float32)
    x[0, 1] *= 1e3
    x[0, 2] *= 1e-3
    ours = opened(model, own=True).run(None, {"x": x})[0]
    ungated = opened(product(64, 96, 8, 32, bias=True)[0], own=True).run(None, {"x": x})[0].astype(np.float64)
    gate, up = np.split(ungated, 2, axis=-1)
    assert gate.min() < -1000
    assert gate.max() > 1000
    np.testing.assert_allclose(ours, gate / (1 + np.exp(np.minimum(-gate, 700))) * up, rtol=1e-5, atol=1e-6)
    single = opened(model, own=True)
    np.testing.assert_array_equal(np.concatenate([single.run(None, {"x": x[:, [row]]})[0] for row in range(20)], axis=1), ours)


@needs_kernels
@pytest.mark.parametrize("alpha", [1.702, 1.0])
@pytest.mark.parametrize("outputs", [96, 40])
def test_another_gate_stays_as_it_is(alpha: float, outputs: int) -> None:
    model, _, _ = product(64, outputs, 8, 32, bias=False, gated=True)
    model.graph.node[2].attribute[0].f = alpha
    fused = alpha == 1.0 and outputs == 96
    assert operators(rewritten(model)) == (["GatedProduct"] if fused else ["BlockProduct", "Split", "QuickGelu", "Mul"])


HEADS, KV_HEADS, POSITIONS = 6, 2, 80


def attention(D: int, *, window: int = 0, rotated: int | None = None, **settings: Any) -> onnx.ModelProto:
    """Attention as an exported graph has it, behind a product that is there to be changed."""
    half = (D if rotated is None else rotated) // 2
    angles = np.arange(POSITIONS)[:, None] / 1000 ** (np.arange(half) / half)
    width = (HEADS + 2 * KV_HEADS) * D
    identity = quantize_blocks(np.eye(width, dtype=np.float32), 8, 16)
    tensors = {
        "codes": identity.packed,
        "scales": identity.scales,
        "attention_pad": np.zeros((1, 1, width), np.float32),
        "attention_pad.first": np.array([0]),
        "attention_pad.end": np.array([-1]),
        "attention_pad.axis": np.array([1]),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
    }
    limits = {"local_window_size": window} if window else {}
    numbers = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "scale": 0.3, "do_rotary": 1, "rotary_interleaved": 0}
    inputs = ["padded", "", "", "past_key_0", "past_value_0", "seqlens_k", "total_sequence_length", "cos", "sin"]
    quantized = {"K": width, "N": width, "bits": 8, "block_size": 16, "accuracy_level": 4}
    nodes = [
        helper.make_node("MatMulNBits", ["x", "codes", "scales"], ["other"], domain="com.microsoft", **quantized),
        helper.make_node("Concat", ["x", "attention_pad"], ["padded"], axis=1),
        helper.make_node(
            "GroupQueryAttention",
            inputs,
            ["attended.padded", "present_key_0", "present_value_0"],
            domain="com.microsoft",
            **(numbers | limits | settings),
        ),
        helper.make_node(
            "Slice", ["attended.padded", "attention_pad.first", "attention_pad.end", "attention_pad.axis"], ["attended"]
        ),
    ]
    lengths = [
        helper.make_tensor_value_info("seqlens_k", INT32, [1]),
        helper.make_tensor_value_info("total_sequence_length", INT32, []),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        values("x", "past_key_0", "past_value_0") + lengths,
        values("attended", "present_key_0", "present_value_0", "other"),
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10)


def attended(session: Any, x: Floats, cuts: list[int], D: int) -> Floats:
    """What attention gives for all rows of x, read in the passes that end at the cuts."""
    cache = [np.zeros((1, KV_HEADS, POSITIONS, D), np.float32) for _ in range(2)]
    found, start = [], 0
    for end in [*cuts, x.shape[1]]:
        fed = {
            "x": x[:, start:end],
            "past_key_0": cache[0],
            "past_value_0": cache[1],
            "seqlens_k": np.array([end], np.int32),
            "total_sequence_length": np.array(end + 1, np.int32),
        }
        rows, *cache = session.run(["attended", "present_key_0", "present_value_0"], fed)
        found.append(rows)
        start = end
    return np.concatenate(found, axis=1)


@needs_kernels
@pytest.mark.parametrize("instructions", [PLAINEST, "best"])
@pytest.mark.parametrize(
    ("D", "window", "rotated"), [(16, 0, None), (64, 0, None), (64, 20, None), (48, 5, 32), (128, 0, 64), (80, 33, None)]
)
def test_attention_is_that_of_onnx_runtime_whatever_rows_come_with_a_row(
    D: int, window: int, rotated: int | None, instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, instructions)
    model = attention(D, window=window, rotated=rotated)
    assert operators(rewritten(model, D)) == ["BlockProduct", "CachedAttention"]
    x = np.random.default_rng(D + window).standard_normal((1, 70, (HEADS + 2 * KV_HEADS) * D)).astype(np.float32)
    ours, theirs = opened(model, own=True, head_dim=D), opened(model, own=False)
    found = attended(ours, x, [], D)
    np.testing.assert_allclose(found, attended(theirs, x, [40], D), rtol=1e-4, atol=1e-5)
    for cuts in (list(range(1, 70)), [1, 3, 20, 21, 60], [64]):
        np.testing.assert_array_equal(attended(ours, x, cuts, D), found)


@needs_kernels
@pytest.mark.parametrize("settings", [{"rotary_interleaved": 1}, {"do_rotary": 0}, {"softcap": 5.0}, {"smooth_softmax": 1}])
def test_attention_of_another_kind_stays_as_it_is(settings: dict[str, Any]) -> None:
    assert operators(rewritten(attention(16, **settings))) == ["BlockProduct", "Concat", "GroupQueryAttention", "Slice"]


def test_heads_that_are_no_whole_vectors_stay_as_they_are() -> None:
    assert operators(rewritten(attention(24), 24)) == ["BlockProduct", "Concat", "GroupQueryAttention", "Slice"]


@needs_kernels
def test_inputs_that_do_not_fit_are_refused() -> None:
    session = opened(attention(16), own=True)
    x = np.zeros((1, 3, (HEADS + 2 * KV_HEADS) * 16), np.float32)
    past = np.zeros((1, KV_HEADS, POSITIONS, 16), np.float32)
    for total in (2, POSITIONS + 1):
        length = {"seqlens_k": np.array([total], np.int32), "total_sequence_length": np.array(total + 1, np.int32)}
        with pytest.raises(Exception, match="do not fit together"):
            session.run(None, {"x": x, "past_key_0": past, "past_value_0": past} | length)
    with pytest.raises(Exception, match="not K wide"):
        opened(product(64, 8, 8, 32, bias=False)[0], own=True).run(None, {"x": np.zeros((1, 2, 32), np.float32)})


@needs_kernels
@pytest.mark.parametrize(("name", "value"), [("N", 96), ("K", 128), ("K", 2**40), ("block_size", 16), ("bits", 4)])
def test_tensors_that_are_not_as_large_as_the_numbers_say_are_refused(name: str, value: int) -> None:
    model, _, _ = product(64, 64, 8, 32, bias=True)
    next(attribute for attribute in model.graph.node[0].attribute if attribute.name == name).i = value
    with pytest.raises(Exception, match=r"not as large|BlockProduct wants"):
        opened(model, own=True)


@needs_kernels
@pytest.mark.parametrize("tensor", ["codes", "scales", "bias"])
def test_a_tensor_of_another_size_is_refused(tensor: str) -> None:
    model, _, _ = product(64, 64, 8, 32, bias=True)
    found = next(initializer for initializer in model.graph.initializer if initializer.name == tensor)
    found.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(found)[:-1], tensor))
    with pytest.raises(Exception, match="not as large"):
        opened(model, own=True)


@needs_kernels
@pytest.mark.parametrize("instructions", [PLAINEST, "best"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_of_what_is_no_number_no_number_is_made(odd: float, instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.VARIABLE, instructions)
    for bits, block in ((8, 32), (4, 32), (4, 16)):
        session = opened(product(64, 40, bits, block, bias=True)[0], own=True)
        x = np.random.default_rng(5).standard_normal((1, 3, 64)).astype(np.float32)
        wanted = session.run(None, {"x": x})[0]
        x[0, 1, 5] = odd
        found = session.run(None, {"x": x})[0]
        assert np.isnan(found[0, 1]).all()
        np.testing.assert_array_equal(found[0, ::2], wanted[0, ::2])
    x = np.random.default_rng(5).standard_normal((1, 5, (HEADS + 2 * KV_HEADS) * 16)).astype(np.float32)
    session = opened(attention(16), own=True)
    wanted = attended(session, x, [], 16)
    x[0, 2, 3] = np.nan  # of a query's first head
    found = attended(session, x, [], 16)
    assert np.isnan(found[0, 2, :16]).all()
    found[0, 2, :16] = wanted[0, 2, :16]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("name", "value"), [("accuracy_level", 1), ("block_size", 128), ("K", 50), ("bits", 2)])
def test_products_of_another_kind_stay_as_they_are(name: str, value: int) -> None:
    model, _, _ = product(64, 8, 8, 32, bias=False)
    attributes = {attribute.name: attribute for attribute in model.graph.node[0].attribute}
    assert operators(rewritten(model)) == ["BlockProduct"]
    attributes[name].i = value
    assert kernels.with_own_kernels(model.SerializeToString(), 16) is None
    model.graph.node[0].attribute.remove(attributes[name])
    assert kernels.with_own_kernels(model.SerializeToString(), 16) is None or name == "K"


def test_products_with_zero_points_and_other_graphs_stay_as_they_are() -> None:
    model, _, _ = product(64, 8, 4, 32, bias=False)
    model.graph.node[0].input.append("zeros")
    assert kernels.with_own_kernels(model.SerializeToString(), 16) is None
    assert kernels.with_own_kernels(b"", 16) is None
    assert kernels.with_own_kernels(b"\xff" * 40, 16) is None
    assert kernels.with_own_kernels(model.SerializeToString()[:-5], 16) is None
    gated, _, _ = product(64, 64, 4, 32, bias=False, gated=True)
    del gated.graph.node[1].input[:]
    assert kernels.with_own_kernels(gated.SerializeToString(), 16) is None


def test_a_changed_graph_keeps_all_else_that_it_was(random_tiny: Tiny) -> None:
    raw = random_tiny.graph("int8").read_bytes()
    changed = rewritten(onnx.load_from_string(raw), random_tiny.shape.head_dim)
    before, after = onnx.load_from_string(raw), onnx.load_from_string(changed)
    assert list(after.opset_import)[:-1] == list(before.opset_import)
    assert after.opset_import[-1].domain == "shammah"
    assert after.metadata_props == before.metadata_props
    assert after.graph.initializer == before.graph.initializer
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    kept = {"Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "SkipSimplifiedLayerNormalization", "Gather", "Concat"}
    assert set(operators(changed)) <= kept | {"BlockProduct", "GatedProduct", "CachedAttention"}
    assert operators(changed).count("CachedAttention") == operators(changed).count("GatedProduct") == random_tiny.shape.layers


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, 2**40])
def test_numbers_and_strings_of_any_length_are_read_as_they_were_written(number: int) -> None:
    written = protobuf.varint(3, number) + protobuf.delimited(4, b"x" * (number % 70_000))
    first, second = protobuf.fields(written)
    assert (first.number, first.value, second.number, second.content) == (3, number, 4, b"x" * (number % 70_000))
    with pytest.raises(ValueError, match="end"):
        list(protobuf.fields(written[:-1] if number else written + b"\x80"))


@needs_kernels
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_session_says_whose_kernels_it_uses_and_both_give_nearly_the_same(
    random_tiny: Tiny, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [int(token) for token in np.random.default_rng(6).integers(0, 300, 30)]
    graph, shape = random_tiny.graph(precision), random_tiny.shape
    found = []
    for own in (True, False):
        session = GraphSession(graph, shape, own_kernels=own)
        assert session.own_kernels is own
        found.append(session.feed(session.new_cache(), ids, range(30)).copy())
    np.testing.assert_allclose(found[0], found[1], atol=0.02 * np.abs(found[1]).max())
    assert not GraphSession(random_tiny.graph("fp32"), shape).own_kernels
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert not GraphSession(graph, shape).own_kernels


def test_kernels_can_be_switched_off_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = kernels.library.__wrapped__
    monkeypatch.setenv(kernels.VARIABLE, "none")
    assert find() is None
    monkeypatch.delenv(kernels.VARIABLE)
    monkeypatch.setattr(kernels, "LIBRARY", tmp_path / "none.so")
    assert find() is None
    (tmp_path / "none.so").write_bytes(b"no library")
    assert find() is None
    # A library, but not of kernels.
    monkeypatch.setattr(kernels, "LIBRARY", Path(str(ctypes.util.find_library("c"))))
    assert find() is None


def test_kernels_of_other_sources_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Path(__file__).parents[2] / "runtime" / "kernels" / "operators.c").read_text()
    assert f"#define REVISION {kernels.REVISION}\n" in source
    find = kernels.library.__wrapped__
    compiled = find()
    monkeypatch.setattr(kernels, "REVISION", kernels.REVISION + 1)
    assert find() is None
    assert find() != compiled or compiled is None


@needs_kernels
@pytest.mark.parametrize("left", ["attention", "product", "none"])
def test_where_not_all_kernels_are_ours_one_path_is_tried(
    random_tiny: Tiny, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if left == "attention":
        monkeypatch.setattr(kernels, "_attending", lambda nodes: nodes)
    elif left == "product":
        ours = kernels._product
        monkeypatch.setattr(kernels, "_product", lambda node: node if node.outputs == (b"logits",) else ours(node))
    monkeypatch.setattr("shammah_runtime.engine.session.has_avx512", lambda: False)
    session = GraphSession(random_tiny.graph("int8"), random_tiny.shape)
    # What a trial says, were there one.
    monkeypatch.setattr(session, "_tried_path", lambda: False)
    assert session.own_kernels
    assert session.one_path() is (left == "none")


@needs_kernels
@pytest.mark.skipif(platform.system() == "Darwin", reason="only ELF files are looked at")
@pytest.mark.parametrize("left", [0.0, 0.0003, 0.1, 0.5, 0.9, 0.999])
def test_a_library_that_was_cut_is_none(left: float, tmp_path: Path) -> None:
    whole = kernels.LIBRARY.read_bytes()
    for share, found in ((left, "None"), (1.0, "cut.so")):
        (tmp_path / "cut.so").write_bytes(whole[: int(len(whole) * share)])
        # In a process of its own, which one that is loaded nevertheless takes down.
        code = "import pathlib, sys; from shammah_runtime.engine import kernels; kernels.LIBRARY = pathlib.Path(sys.argv[1])"
        command = [sys.executable, "-c", f"{code}; print(kernels.library())", str(tmp_path / "cut.so")]
        told = subprocess.run(command, capture_output=True, text=True)
        assert (told.returncode, Path(told.stdout.strip()).name) == (0, found), told.stderr


@pytest.mark.parametrize("wrong", ["library", "graph"])
def test_where_a_library_does_not_take_a_graph_it_runs_as_it_is(
    random_tiny: Tiny, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(range(20))
    graph, shape = random_tiny.graph("int8"), random_tiny.shape
    theirs = GraphSession(graph, shape, own_kernels=False)
    wanted = theirs.feed(theirs.new_cache(), ids, range(20)).copy()
    if wrong == "library":
        monkeypatch.setattr(kernels, "library", lambda: Path(str(ctypes.util.find_library("c"))))
    else:
        # As a library of another release might know them.
        changed = kernels.with_own_kernels
        monkeypatch.setattr(
            kernels, "with_own_kernels", lambda *args: (changed(*args) or b"").replace(b"GatedProduct", b"GatedProd_ct")
        )
    session = GraphSession(graph, shape)
    assert not session.own_kernels
    np.testing.assert_array_equal(session.feed(session.new_cache(), ids, range(20)), wanted)


@needs_kernels
def test_a_version_whose_golden_answers_ours_do_not_give_is_served_by_the_others(
    tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = kernels.with_own_kernels

    def broken(model: bytes, head_dim: int) -> bytes | None:
        """The least likely token comes out as the likeliest, as wrong kernels might have it."""
        found = changed(model, head_dim)
        assert found is not None
        graph = onnx.load_from_string(found)
        last = graph.graph.node[-1]
        assert list(last.output) == ["logits"]
        last.output[0] = "turned"
        graph.graph.node.append(helper.make_node("Neg", ["turned"], ["logits"]))
        turned: bytes = graph.SerializeToString()
        return turned

    version = tiny.publish(home)
    store = ModelStore(home.models)
    assert open_model(store.folder(version), store.verify(version)).decoder.session.own_kernels
    monkeypatch.setattr(kernels, "with_own_kernels", broken)
    model = open_model(store.folder(version), store.verify(version))
    assert not model.decoder.session.own_kernels
    prompt = model.prompt(QUESTION, (), 32)
    assert model.decoder.generate(prompt.ids, Decoding(max_tokens=32)).text == ANSWER
