"""scripts/bench engine: how figures become bars, and what it says of peers that are not there."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORKLOADS = ("decode, 64 before", "prefill 512", "first token, 488 cached + 24")
DRAFTS = ("draft verbatim", "draft, 1 in 10 changed")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("bench_engine", SCRIPTS / "bench_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(*peers: str) -> dict[str, dict[str, list[float]]]:
    """Three rounds: this engine takes 10 ms for everything, with a draft 2 ms, a peer 15, 12 and 30."""
    own = ("shammah int8", "shammah int4")
    found = {work: {name: [0.010] * 3 for name in own} | {name: [0.015, 0.012, 0.030] for name in peers} for work in WORKLOADS}
    for draft in DRAFTS:
        found[draft] = {name: [0.002] * 3 for name in own}
        found[f"{draft}: plain"] = {name: [0.010] * 3 for name in own}
    found["Ctrl-C until the answer has ended"] = {name: [0.002, 0.040, 0.003, 0.010] for name in own}
    return found


def test_a_ratio_is_of_one_round_and_above_one_where_this_engine_is_faster(bench: ModuleType) -> None:
    peers = ("llama.cpp q8_0", "llama.cpp q4_0", "llama.cpp q4_0 pure", "genai int8")
    peaks = dict.fromkeys(peers, 200.0) | {"shammah int8": 100.0, "shammah int4": 250.0}
    rows = {label: (ratios, least) for label, ratios, least in bench.bars(figures(*peers), peaks)}
    ratios, least = rows["decode, shammah int8 against llama.cpp q8_0"]
    assert ratios == pytest.approx([1.5, 1.2, 3.0])
    assert least == 1.0
    assert rows["decode, shammah int8 against genai int8"][1] == 1.2
    assert rows["shammah int8, verbatim draft against none"][0] == pytest.approx([5.0] * 3)
    assert rows["30 ms over first token, 488 cached + 24, shammah int8"][0] == pytest.approx([3.0] * 3)
    assert rows["peak memory, llama.cpp q4_0 over shammah int4"][0] == [0.8]
    # The longest of all, and what has no bar.
    assert rows["50 ms over the longest Ctrl-C until the answer has ended, shammah int8"] == (pytest.approx([1.25]), 1.0)
    assert rows["prefill 512, shammah int4 against llama.cpp q4_0 pure"][1] == 0.0
    # The draft of 2 ms against the best plain decoding of the peer.
    verbatim = next(ratios for label, (ratios, _) in rows.items() if label.startswith("verbatim draft, shammah int8 against"))
    assert verbatim == pytest.approx([7.5, 6.0, 15.0])


def test_a_cold_start_is_held_against_the_faster_of_two_ways(bench: ModuleType) -> None:
    cold = {
        "shammah int8 ask": [0.4, 0.4],
        "llama.cpp q8_0 binding": [0.6, 0.3],
        "llama.cpp q8_0 command": [0.4, 0.5],
    }
    rows = {label: (ratios, least) for label, ratios, least in bench.cold_bars(cold)}
    ratios, least = rows["command to first token, shammah int8 ask against llama.cpp q8_0"]
    assert ratios == pytest.approx([1.0, 0.75])
    assert least == 1.0
    assert len(rows) == 1


def test_a_peer_that_is_not_there_has_no_row(bench: ModuleType) -> None:
    rows = bench.bars(figures(), {"shammah int8": 100.0, "shammah int4": 100.0})
    assert rows
    assert not [label for label, _, _ in rows if "llama" in label or "genai" in label]


def test_what_an_environment_lacks_is_named(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    peers = bench.Peers(tmp_path)
    assert peers.has("numpy")
    assert not peers.has("a-peer-that-nobody-has")
    assert capsys.readouterr().out == "left out: a-peer-that-nobody-has is not installed there\n"


def test_peers_are_pinned_and_kept_out_of_the_project() -> None:
    lines = (SCRIPTS / "bench-peers.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert {name for name, _ in pins} >= {"llama-cpp-python", "onnxruntime-genai", "openvino-genai"}
    project = (SCRIPTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert not [name for name in ("llama-cpp-python", "onnxruntime-genai", "openvino-genai") if name in project]
