"""From logits to tokens: exact probabilities by enumeration, and properties over any logits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from shammah_data.errors import InputError
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.sampling import Floats, candidates, likeliest, log_softmax, logprob, sample, top_logprobs

LOGITS = np.array([2.0, -1.0, 3.0, 0.5, 3.0, -4.0], np.float32)
ANY_LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12).map(lambda row: np.array(row, np.float32))
ANY_DECODING = st.builds(
    Decoding,
    temperature=st.floats(0.0, 5.0),
    top_k=st.integers(0, 15),
    top_p=st.floats(0.0, 1.0),
)


class Uniform(np.random.Generator):
    """A generator whose next number between 0 and 1 the test sets."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return self.value


def shares(logits_V: Floats, decoding: Decoding, steps: int = 2000) -> npt.NDArray[np.float64]:
    """Probability of each token: the share of an even grid over [0, 1) that draws it."""
    drawn = [sample(logits_V, decoding, Uniform((step + 0.5) / steps)) for step in range(steps)]
    return np.bincount(drawn, minlength=len(logits_V)) / steps


def softmax(logits_V: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    weights = np.exp(logits_V.astype(np.float64) / temperature)
    return np.asarray(weights / weights.sum())


def only(kept: list[int], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cut = np.zeros_like(probabilities)
    cut[kept] = probabilities[kept]
    return np.asarray(cut / cut.sum())


def transformed(logits_V: Floats, decoding: Decoding, said: list[int]) -> npt.NDArray[np.float64]:
    """The distribution that the processors of transformers make of the logits."""
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.repetition_penalty != 1.0:
        steps.insert(0, RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.top_k:
        steps.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1.0:
        steps.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p:
        steps.append(MinPLogitsWarper(decoding.min_p))
    scores = LogitsProcessorList(steps)(torch.tensor([said]), torch.from_numpy(logits_V)[None])
    return np.asarray(torch.softmax(scores[0].double(), 0).numpy())


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    assert sample(LOGITS, Decoding(), np.random.default_rng(0)) == 2


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_gives_the_distribution_of_the_tempered_softmax(temperature: float) -> None:
    found = shares(LOGITS, Decoding(temperature=temperature))
    np.testing.assert_allclose(found, softmax(LOGITS, temperature), atol=2e-3)


@pytest.mark.parametrize(("top_k", "kept"), [(1, [2]), (2, [2, 4]), (3, [2, 4, 0]), (99, [0, 1, 2, 3, 4, 5])])
def test_top_k_keeps_the_likeliest_and_their_proportions(top_k: int, kept: list[int]) -> None:
    found = shares(LOGITS, Decoding(temperature=1.0, top_k=top_k))
    np.testing.assert_allclose(found, only(kept, softmax(LOGITS)), atol=2e-3)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.0, [2]), (0.4, [2]), (0.5, [2, 4]), (0.84, [2, 4, 0]), (0.97, [2, 4, 0, 3]), (1.0, list(range(6)))]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: list[int]) -> None:
    probabilities = softmax(LOGITS)
    assert top_p in (0.0, 1.0) or probabilities[kept].sum() >= top_p > probabilities[kept[:-1]].sum()
    found = shares(LOGITS, Decoding(temperature=1.0, top_p=top_p))
    np.testing.assert_allclose(found, only(kept, probabilities), atol=2e-3)


def test_top_p_counts_within_what_top_k_left() -> None:
    # Of the two that top_k leaves, each has a half: 0.5 is reached by the first alone.
    assert set(np.flatnonzero(shares(LOGITS, Decoding(temperature=1.0, top_k=2, top_p=0.5), 100))) == {2}


def test_real_draws_follow_the_distribution() -> None:
    rng = np.random.default_rng(11)
    decoding = Decoding(temperature=1.3)
    count = 4000
    drawn = np.bincount([sample(LOGITS, decoding, rng) for _ in range(count)], minlength=len(LOGITS))
    expected = softmax(LOGITS, 1.3) * count
    assert float(((drawn - expected) ** 2 / expected).sum()) < 20.5  # chi-square, 5 degrees of freedom: p = 0.001


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(temperature=0.7),
        Decoding(temperature=1.0, top_k=7),
        Decoding(temperature=1.4, top_p=0.8),
        Decoding(temperature=0.9, min_p=0.2),
        Decoding(temperature=1.0, repetition_penalty=1.7),
        Decoding(temperature=1.2, top_k=12, top_p=0.9, min_p=0.05, repetition_penalty=0.6),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(4))
def test_the_distribution_is_that_of_transformers(decoding: Decoding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits_V = (3 * rng.standard_normal(40)).astype(np.float32)
    said = {int(token) for token in rng.integers(0, 40, 12)}
    wanted = transformed(logits_V, decoding, sorted(said))
    count = 4_000
    drawn = [sample(logits_V, decoding, Uniform((step + 0.5) / count), said) for step in range(count)]
    # Each of the boundaries between two tokens may fall on the other side of a point of the grid.
    np.testing.assert_allclose(np.bincount(drawn, minlength=40) / count, wanted, atol=2.0 / count)


def test_the_penalty_applies_to_greedy_decoding_too() -> None:
    assert sample(LOGITS, Decoding(repetition_penalty=2.0), np.random.default_rng(0), {2}) == 4
    assert LOGITS[2] == 3.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -0.1}, "temperature -0.1 is out of range"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": float("nan")}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("a", "")}, "empty"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decoding(**wrong)


@given(ANY_LOGITS, ANY_DECODING, st.integers(0, 2**32))
def test_a_draw_is_repeatable_and_among_the_top(logits_V: Floats, decoding: Decoding, seed: int) -> None:
    token, again = (sample(logits_V, decoding, np.random.default_rng(seed)) for _ in range(2))
    assert token == again
    better = int((logits_V > logits_V[token]).sum())
    if decoding.temperature == 0.0 or decoding.top_p == 0.0:
        assert better == 0
    if decoding.top_k:
        assert better < decoding.top_k


@given(ANY_LOGITS, st.floats(min_value=5e-324, max_value=1e-5), st.integers(0, 99))
def test_a_tiny_temperature_is_greedy(logits_V: Floats, temperature: float, seed: int) -> None:
    token = sample(np.round(logits_V), Decoding(temperature=temperature), np.random.default_rng(seed))
    assert np.round(logits_V)[token] == np.round(logits_V).max()


@given(st.integers(0, 2**32), st.integers(1, 5000), st.sampled_from([1.0, 3.0, 30.0]))
def test_the_likeliest_are_those_of_a_sort(seed: int, count: int, spread: float) -> None:
    # Rounded, so that there are equal ones, also at the cut.
    logits_V = np.round(np.random.default_rng(seed).standard_normal(4133) * spread, 1).astype(np.float32)
    np.testing.assert_array_equal(likeliest(logits_V, count), np.argsort(-logits_V, kind="stable")[:count])


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(temperature=1.0),
        Decoding(temperature=0.6, top_p=0.9),
        Decoding(temperature=1.5, top_p=0.995),
        Decoding(temperature=0.8, top_k=50, top_p=0.8, min_p=0.01),
        Decoding(temperature=1.0, min_p=0.02),
        Decoding(temperature=1.0, top_k=3000),
    ],
    ids=str,
)
def test_in_a_large_vocabulary_the_support_and_the_shares_are_those_of_transformers(decoding: Decoding) -> None:
    logits_V = (3 * np.random.default_rng(1).standard_normal(20_011)).astype(np.float32)
    wanted = transformed(logits_V, decoding, [0])
    tokens, weights = candidates(logits_V, decoding)
    found = np.zeros(len(logits_V))
    found[slice(None) if tokens is None else tokens] = weights / weights.sum(dtype=np.float64)
    np.testing.assert_array_equal(found > 0, wanted > 0)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    # And what is drawn has those shares: the token at a place is that at which their running sum passes it.
    order = np.arange(len(logits_V)) if tokens is None else tokens
    ends = np.cumsum(wanted[order])
    for share in np.linspace(0.0, 0.9999, 40):
        place = int(np.flatnonzero(order == sample(logits_V, decoding, Uniform(share)))[0])
        assert ends[place] - wanted[order[place]] - 1e-5 <= share <= ends[place] + 1e-5


@given(ANY_LOGITS, st.integers(1, 15))
def test_the_top_log_probabilities_are_those_of_the_softmax(logits_V: Floats, count: int) -> None:
    scratch_V = np.empty_like(logits_V)
    found = top_logprobs(logits_V, count, scratch_V)
    logs_V = log_softmax(logits_V)
    assert [token for token, _ in found] == list(np.argsort(-logits_V, kind="stable")[:count])
    np.testing.assert_allclose([value for _, value in found], [logs_V[token] for token, _ in found], atol=1e-4)
    assert logprob(logits_V, found[0][0], scratch_V) == pytest.approx(found[0][1], abs=1e-6)


@given(ANY_LOGITS)
def test_log_softmax_is_a_distribution_that_a_shift_does_not_change(logits_V: Floats) -> None:
    logs_V = log_softmax(logits_V)
    assert np.exp(logs_V.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(log_softmax(logits_V + np.float32(100.0)), logs_V, atol=1e-3)


def test_log_softmax_takes_each_row_for_itself() -> None:
    rows_MV = np.stack([LOGITS, LOGITS[::-1] * 2])
    np.testing.assert_allclose(log_softmax(rows_MV)[1], log_softmax(rows_MV[1]), atol=1e-6)
