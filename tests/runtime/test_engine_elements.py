"""Caches of other types than float32: what the graph asks for is what the session binds, copies and forgets."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fakes.versions import ANSWER, CONTEXT, QUESTION, Tiny
from shammah_data.errors import ArtifactError
from shammah_export.export import export_model
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.elements import ELEMENTS, Copier, element_of
from shammah_runtime.engine.session import GraphSession

FULL = [int(token) for token in np.random.default_rng(3).integers(0, 384, 60)]


def narrow_cache(source: Path, target: Path, number: int) -> Path:
    """A graph that keeps its cache in another type and computes in float32 as before."""
    model: Any = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    for value in itertools.chain(graph.input, graph.output):
        if value.name.startswith(("past_", "present_")):
            value.type.tensor_type.elem_type = number
    before: list[Any] = []
    after: list[Any] = []
    for node in graph.node:
        for names, made, to in ((node.input, before, TensorProto.FLOAT), (node.output, after, number)):
            for index, name in enumerate(names):
                if name.startswith(("past_", "present_")):
                    wide = f"{name}.wide"
                    ends = ([name], [wide]) if made is before else ([wide], [name])
                    made.append(helper.make_node("Cast", *ends, to=to))
                    names[index] = wide
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    target.mkdir()
    (target / "weights.bin").write_bytes(source.with_name("weights.bin").read_bytes())
    path = target / "model.onnx"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("number", "name", "tolerance"), [(10, "tensor(float16)", 0.003), (16, "tensor(bfloat16)", 0.03)])
def test_a_narrow_cache_takes_half_and_gives_nearly_the_same_logits(
    random_tiny: Tiny, tmp_path: Path, number: int, name: str, tolerance: float
) -> None:
    wide = GraphSession(random_tiny.graph("fp32"), random_tiny.shape, "cpu", 1)
    session = GraphSession(narrow_cache(random_tiny.graph("fp32"), tmp_path / "narrow", number), random_tiny.shape, "cpu", 1)
    assert session.element.name == name
    assert 2 * session.token_bytes == wide.token_bytes
    rows = range(20)
    cache, reference = session.new_cache(), wide.new_cache()
    session.feed(cache, FULL[:40])
    wide.feed(reference, FULL[:40])
    found, wanted = session.feed(cache, FULL[40:], rows).copy(), wide.feed(reference, FULL[40:], rows).copy()
    difference = np.abs(found - wanted)
    assert 0.0 < difference.mean() < tolerance * wanted.std()

    # Rewinding, copying and restoring change nothing.
    cache.rewind(40)
    copied, restored = session.new_cache(), session.new_cache()
    copied.copy_from(cache)
    restored.restore(FULL[:40], cache.state())
    for other in (cache, copied, restored):
        np.testing.assert_array_equal(session.feed(other, FULL[40:], rows), found)


def test_an_exported_fp16_graph_answers_on_the_cpu_with_a_cache_of_its_own_type(tiny: Tiny, tmp_path: Path) -> None:
    export_model(tiny.folder, tmp_path / "fp16", "fp16", context=CONTEXT)
    decoder = Decoder(GraphSession(tmp_path / "fp16" / "model.onnx", tiny.shape, "cpu", 1), tiny.chat, tiny.stop_ids)
    assert decoder.session.element.name == "tensor(float16)"
    prompt = tiny.chat.prompt(QUESTION)
    said = [decoder.generate(prompt, Decoding(), answers=drafts) for drafts in (None, [tiny.chat.encode(ANSWER)])]
    assert [one.text for one in said] == [ANSWER, ANSWER]
    assert said[0].logprobs == said[1].logprobs
    assert said[1].passes < said[0].passes


def test_a_cache_of_an_unknown_type_is_refused(random_tiny: Tiny, tmp_path: Path) -> None:
    path = narrow_cache(random_tiny.graph("fp32"), tmp_path / "double", TensorProto.DOUBLE)
    with pytest.raises(ArtifactError, match=r"the graph's cache is of tensor\(double\); this runtime knows tensor\(float\), "):
        GraphSession(path, random_tiny.shape, "cpu", 1)


@pytest.mark.parametrize("name", ELEMENTS)
def test_what_a_device_holds_is_copied_on_it(name: str) -> None:
    """The path for CUDA, on a CPU: whatever the type, the bits arrive."""
    element = element_of(name)
    bits = np.random.default_rng(1).integers(0, 2**15, (2, 1, 3, 7, 4)).astype(np.uint16)
    sources = list(bits.astype(np.float32) if element.bytes == 4 else bits.view(element.holder))
    targets = [np.zeros_like(source) for source in sources]
    values = [[element.value(onnxruntime, array) for array in arrays] for arrays in (sources, targets)]
    Copier(onnxruntime, element, "CPUExecutionProvider").copy(*values)
    for source, target in zip(sources, targets, strict=True):
        assert source.tobytes() == target.tobytes()
