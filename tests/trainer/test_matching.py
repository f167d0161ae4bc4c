import numpy as np
import pytest

from shammah_trainer.gate import Figures, refusals
from shammah_trainer.matching import match


def others(own: list[int], answers: int) -> np.ndarray:
    return np.array([[column != mine for column in range(answers)] for mine in own])


def test_answers_that_follow_from_their_queries() -> None:
    own = list(range(8))
    found = match(np.eye(8) - 2.0, own, others(own, 8), 0)
    assert (found.queries, found.wins) == (8, 1.0)
    # The true order is one of 8! = 40320.
    assert found.p_value <= 0.001


def test_how_likely_a_wording_is_by_itself_does_not_count() -> None:
    """Every query likes the same answer best; only what is left beside that can tell them apart."""
    own = list(range(8))
    popular = np.linspace(-5.0, 5.0, 8)[None, :]
    assert match(np.zeros((8, 8)) + popular, own, others(own, 8), 0).wins == 0.5
    assert match(np.eye(8) + popular, own, others(own, 8), 0).wins == 1.0


def test_several_queries_may_share_an_answer() -> None:
    own = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    scores = np.array([[float(column == mine) for column in range(3)] for mine in own])
    found = match(scores, own, others(own, 3), 0)
    assert found.wins == 1.0
    # One of 9! / (3! 3! 3!) = 1680 ways to deal them out.
    assert found.p_value == pytest.approx(1 / 1680, abs=0.001)


def test_few_queries_prove_nothing() -> None:
    own = [0, 1, 2, 3]
    assert match(np.eye(4), own, others(own, 4), 0).p_value == pytest.approx(1 / 24, abs=0.01)
    assert match(np.eye(1), [0], others([0], 1), 0).p_value == 1.0
    assert match(np.eye(3), [0, 1, 2], np.zeros((3, 3), dtype=bool), 0).p_value == 1.0


def test_style_alone_does_not_pass_the_gate() -> None:
    """Random scores, in which some answers are likely after every query, some queries make every answer likely."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(300):
        own = list(rng.integers(0, 6, 12))
        scores = rng.normal(size=(12, 6)) + rng.normal(size=(1, 6)) + rng.normal(size=(12, 1))
        passed += not refusals(Figures(3.0, 1.0, match(scores, own, others(own, 6), 0)))
    assert passed <= 1


def test_the_same_seed_gives_the_same_figures() -> None:
    rng = np.random.default_rng(1)
    scores, own = rng.normal(size=(10, 10)), list(range(10))
    assert match(scores, own, others(own, 10), 3) == match(scores, own, others(own, 10), 3)
