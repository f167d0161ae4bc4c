"""The parity check sees a right graph, a wrong one, and says in words what is out of bounds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shammah_data.errors import ExportError
from shammah_export.export import export_model
from shammah_export.parity import LIMITS, Parity, above_ratio_limit, measure_parity, within_limits
from shammah_export.precision import Precision
from shammah_export.runner import GraphRunner

Save = Callable[..., Path]


def test_a_right_graph_passes(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(save_model(), tmp_path, "fp32")
    parity = measure_parity(save_model(), tmp_path, [prompt, prompt[:1]], "fp32")
    assert parity.positions == 41
    assert 0 < parity.max_abs_difference < 1e-4
    assert parity.mean_kl == pytest.approx(0, abs=1e-9)
    assert parity.top1_agreement == 1.0
    assert within_limits(parity) == []


def test_a_damaged_graph_does_not_pass(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(save_model(), tmp_path, "fp32")
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[len(weights) // 2 :] = bytes(len(weights) - len(weights) // 2)
    (tmp_path / "weights.bin").write_bytes(weights)
    parity = measure_parity(save_model(), tmp_path, [prompt], "fp32")
    assert [reason.split(" is ")[0].rsplit(" ", 1)[0] for reason in within_limits(parity)] == [
        "largest logit difference",
        f"mean KL {parity.mean_kl:.3g}",
        "top-1 agreement",
    ]


def test_figures_are_those_of_their_definitions(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(save_model(), tmp_path, "int4")
    parity = measure_parity(save_model(), tmp_path, [prompt], "int4")
    export_model(save_model(), tmp_path / "reference", "fp32")
    wanted, runner = GraphRunner(tmp_path / "reference", 64).read(prompt), GraphRunner(tmp_path, 64)
    found = np.concatenate([runner.read(prompt[:20]), *(runner.read([token]) for token in prompt[20:])])
    assert parity.max_abs_difference == pytest.approx(np.abs(wanted - found).max(), rel=1e-3)
    assert parity.top1_agreement == (wanted.argmax(1) == found.argmax(1)).mean()
    p, q = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (wanted, found))
    assert parity.mean_kl == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-3)


def test_the_perplexity_ratio_is_that_of_the_answers(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    export_model(save_model(), tmp_path, "int4")
    export_model(save_model(), tmp_path / "reference", "fp32")
    other = prompt[::-1][:30]
    found = measure_parity(save_model(), tmp_path, [prompt, other], "int4", answers_from=[25, 10])
    nats = []
    for ids, first in ((prompt, 25), (other, 10)):
        wanted, runner = GraphRunner(tmp_path / "reference", 64).read(ids), GraphRunner(tmp_path, 64)
        half = len(ids) // 2
        graph = np.concatenate([runner.read(ids[:half]), *(runner.read([token]) for token in ids[half:])])
        for logits, sign in ((graph.astype(float), 1), (wanted.astype(float), -1)):
            logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            nats += [-sign * logs[at - 1, ids[at]] for at in range(first, len(ids))]
    assert found.answer_tokens == 15 + 20
    assert found.perplexity_ratio == pytest.approx(np.exp(sum(nats) / 35), rel=1e-4)
    assert 0 < found.ratio_error < 1
    nothing = measure_parity(save_model(), tmp_path, [prompt], "int4", answers_from=[40])
    assert nothing.answer_tokens == 0
    assert above_ratio_limit(nothing) is None


def test_the_perplexity_ratio_has_a_limit() -> None:
    good = Parity("int8", 0.0, 0.0, 1.0, 10, perplexity_ratio=1.0, ratio_error=0.0, answer_tokens=10)
    assert above_ratio_limit(good) is None
    assert above_ratio_limit(replace(good, perplexity_ratio=1.02)) == "perplexity ratio 1.020 is above 1.01"
    # So few tokens that it may be chance.
    assert above_ratio_limit(replace(good, perplexity_ratio=1.02, ratio_error=0.006)) is None
    assert above_ratio_limit(replace(good, precision="int4", perplexity_ratio=1.02)) is None
    assert above_ratio_limit(replace(good, perplexity_ratio=float("nan"))) is not None


@pytest.mark.parametrize("precision", LIMITS)
def test_every_limit_is_enforced(precision: Precision) -> None:
    good = Parity(precision, max_abs_difference=0.0, mean_kl=0.0, top1_agreement=1.0, positions=10)
    assert within_limits(good) == []
    assert "KL" in within_limits(replace(good, mean_kl=3.0))[0]
    assert "top-1" in within_limits(replace(good, top1_agreement=0.3))[0]
    assert len(within_limits(replace(good, max_abs_difference=float("inf"), mean_kl=float("nan")))) == 2
    assert bool(within_limits(replace(good, max_abs_difference=0.01))) == (precision == "fp32")


def test_bad_input_is_refused(save_model: Save, prompt: list[int], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least one prompt"):
        measure_parity(save_model(), tmp_path, [], "fp32")
    with pytest.raises(ExportError, match="no empty one"):
        measure_parity(save_model(), tmp_path, [[]], "fp32")
    with pytest.raises(ExportError, match=r"model\.onnx cannot be run"):
        measure_parity(save_model(), tmp_path, [prompt], "fp32")
    export_model(save_model(), tmp_path, "fp32")
    runner = GraphRunner(tmp_path, 8)
    with pytest.raises(ExportError, match="9 tokens on top of 0 do not fit a cache of 8"):
        runner.read(prompt[:9])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="cannot be loaded by transformers"):
        measure_parity(tmp_path, tmp_path, [prompt], "fp32")
