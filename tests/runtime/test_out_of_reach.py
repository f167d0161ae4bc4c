"""A query that no answer can be sure enough of costs no pass of the model: what bounds the confidence, and what is left out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.memories import Told, evidence, make_embedder
from fakes.versions import ACCEPT_NOTHING, ANSWER, Tiny
from shammah_data.home import Home
from shammah_data.manifest import Calibration
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.engine.backing import FULL, MOST_RELEVANCE, Backing, Neighbour, at_most, backing
from shammah_runtime.engine.confidence import NAMES, ceiling, confidence, features
from shammah_runtime.engine.decoder import Decoder

Make = Callable[..., Appliance]
LOGPROBS = st.lists(st.floats(-25.0, 0.0), min_size=1, max_size=12)
SHARE = st.floats(0.0, 1.0)
ROW = ("00000000-0000-0000-0000-00000000000a", "how do i reset my password", ANSWER)


@given(
    LOGPROBS,
    st.integers(0, 12),
    SHARE,
    SHARE,
    SHARE,
    SHARE,
    st.lists(st.floats(0.0, 20.0), min_size=len(NAMES), max_size=len(NAMES)),
)
def test_no_answer_is_surer_than_the_ceiling(
    logprobs: list[float], seen: int, support: float, near: float, gap: float, part: float, weights: list[float]
) -> None:
    curve = Calibration(dict(zip(NAMES, weights, strict=True)), -3.0, 0.5, 0.95, 1, 0, 0, certified=False)
    most = Backing(support, near, gap, part - 0.5, near - gap)
    backed = Backing(support * part, near * part, gap * part - (1.0 - part), part * part - 0.5, near - gap - part)
    found = confidence(curve, features(logprobs, backed))
    assert found <= confidence(curve, ceiling(logprobs[:seen], len(logprobs), most)) + 1e-9


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1.0, 1.0), st.floats(-2.0, 2.0)), min_size=1, max_size=8),
    st.sampled_from("abcd"),
)
def test_nothing_backs_an_answer_more_than_the_nearest_query(known: list[tuple[str, float, float]], answer: str) -> None:
    said = {letter: f"The {letter}{letter}{letter} is on shelf {n} of cellar {letter}." for n, letter in enumerate("abcd")}
    ranked = sorted(known, key=lambda one: -one[1])
    neighbours = [Neighbour(f"{n}", f"where is {one[0]}?", said[one[0]], *one[1:]) for n, one in enumerate(ranked)]
    most, found = at_most(neighbours, 0.4), backing("where can it be?", said[answer], neighbours, 0.3)
    assert found.near <= most.near
    assert found.gap <= most.gap
    assert found.relevance <= most.relevance + 1e-9
    assert found.odds <= most.odds + 1e-9
    assert (most.support, at_most([], 0.4)) == (0.4, FULL)


def test_an_answer_that_nobody_got_may_be_backed_better_than_the_opposite_of_the_query() -> None:
    neighbours = [Neighbour("0", "where is it?", "In the cellar.", -0.9, -1.0)]
    found = backing("where can it be?", "On the roof.", neighbours, 0.0)
    assert found.odds == at_most(neighbours, 0.0).odds
    assert found.odds > backing("where can it be?", "In the cellar.", neighbours, 0.0).odds


@pytest.fixture(scope="module")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("told"))


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model must not be asked anything."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(Decoder, "generate", refuse)
    monkeypatch.setattr(Decoder, "score", refuse)


def published(tiny: Tiny, home: Home, embedder_folder: Path, calibration: Calibration, weights: dict[str, float]) -> None:
    memory = Told(embedder_folder, [ROW])
    graphs = ({"calibration": calibration, "evidence": evidence(0.9, **weights)},)
    tiny.publish(home, graphs=graphs, prepare=memory.put("int8/model.onnx"), retrieval=memory.retrieval)


def calibration(threshold: float, **weights: float) -> Calibration:
    return Calibration(weights, -6.0, threshold, 0.95, 20, 10, 10, certified=False)


@pytest.mark.usefixtures("untouched")
def test_a_query_out_of_reach_is_declined_at_once(tiny: Tiny, home: Home, make_appliance: Make, embedder_folder: Path) -> None:
    published(tiny, home, embedder_folder, calibration(0.9, support=8.0, opening=2.0), {"intercept": -5.0, "mean": 1.0})
    reply = make_appliance(Options(offline=True, watch=False)).conversation.ask("quite another matter", lambda _: None)
    neural, learned = reply.attempts[:2]
    assert neural.reason.startswith("confidence at most 0.0")
    assert "whatever the answer (support 0.0" in neural.reason
    assert neural.reason.endswith("below 0.90")
    assert "confidence at most 0.01 in the answer to 'how do i reset my password'" in learned.reason
    assert not reply.answered


def test_one_within_reach_is_not(tiny: Tiny, home: Home, make_appliance: Make, embedder_folder: Path) -> None:
    published(tiny, home, embedder_folder, calibration(0.8, support=8.0, opening=2.0), {"mean": 1.0})
    reply = make_appliance(Options(offline=True, watch=False)).conversation.ask(ROW[1], lambda _: None)
    assert (reply.text, reply.proposal.attempt.tier) == (ANSWER, "neural")


def test_a_version_that_accepts_nothing_says_so(tiny: Tiny, home: Home, make_appliance: Make, embedder_folder: Path) -> None:
    published(tiny, home, embedder_folder, calibration(ACCEPT_NOTHING, support=8.0), {"intercept": -5.0})
    reply = make_appliance(Options(offline=True, watch=False)).conversation.ask("quite another matter", lambda _: None)
    assert "may not answer" in reply.attempts[0].reason


def test_a_certain_start_of_an_answer_bounds_nothing() -> None:
    backed = {"support": 1.0, "near": 1.0, "gap": 1.0, "relevance": MOST_RELEVANCE, "odds": FULL.odds}
    assert ceiling((), 8) == {"mean": 0.0, "least": 0.0, "opening": 0.0, **backed}
    assert math.isclose(ceiling((-1.0,), 8)["mean"], -0.125)
