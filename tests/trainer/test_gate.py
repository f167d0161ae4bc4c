import math
from dataclasses import replace
from typing import Any

import pytest

from shammah_trainer.gate import LEAST_WINS, MOST_P_VALUE, Figures, refusals
from shammah_trainer.matching import Matching

GOOD = Figures(loss_before=3.0, loss_after=1.0, matching=Matching(12, 0.9, 0.0001))


def changed(**figures: Any) -> Figures:
    return replace(GOOD, **figures)


def test_a_version_that_learned_may_be_published() -> None:
    assert refusals(GOOD) == []
    assert refusals(changed(matching=Matching(12, LEAST_WINS, MOST_P_VALUE))) == []


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (changed(parity_reasons=["mean KL 3 nats is above 0.1"]), "parity: mean KL 3 nats"),
        (changed(loss_after=3.0), "held-out loss did not fall: 3.000 before, 3.000 after"),
        (changed(loss_after=3.1), "did not fall"),
        (changed(loss_after=math.nan), "did not fall"),
        (changed(loss_before=math.nan), "did not fall"),
        (changed(matching=Matching(50, LEAST_WINS - 0.05, 0.0001)), "in only 70% of comparisons over 50 queries"),
        (changed(matching=Matching(4, 0.9, 0.04)), "in only 90% of comparisons over 4 queries (p = 0.0400"),
        (changed(matching=Matching(0, 0.0, 1.0)), "over 0 queries"),
        (changed(matching=Matching(9, math.nan, 0.0001)), "the answers do not follow from the questions"),
    ],
)
def test_each_refusal_says_why(figures: Figures, words: str) -> None:
    (reason,) = refusals(figures)
    assert words in reason
    assert len(reason.splitlines()) == 1


def test_every_reason_is_given() -> None:
    assert len(refusals(Figures(1.0, 2.0, Matching(20, 0.5, 0.5), ["a", "b"]))) == 4
