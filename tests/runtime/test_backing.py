"""What earlier exchanges say for an answer that the model gives."""

import math
from typing import Any

import pytest

from shammah_data.manifest import Calibration
from shammah_runtime.engine.backing import LEAST_RELEVANCE, MOST_RELEVANCE, Backing, Neighbour, backing, odds
from shammah_runtime.engine.confidence import confidence, features, logistic
from shammah_runtime.engine.evidence import candidates

DAYS = "A refund takes 5 days; it goes to the card that was charged."
REWORDED = "It goes to the card that was charged: a refund takes 5 days."
OTHER = "Cards are sent by post and arrive within 2 weeks."


def near(*rows: tuple[Any, ...]) -> list[Neighbour]:
    return [Neighbour(str(n), *row) for n, row in enumerate(rows)]


def test_where_nothing_is_found_only_words_back() -> None:
    assert backing("how long is a refund", DAYS, [], 0.4) == Backing(0.4, 0.0, -1.0)
    assert Backing() == Backing(0.0, 0.0, -1.0)


def test_the_nearest_query_with_the_same_facts_backs_less_its_rival() -> None:
    found = backing(
        "how long does a refund take",
        DAYS,
        near(("where is my card", OTHER, 0.9), ("when do i get a refund", REWORDED, 0.8), ("refund time", DAYS, 0.7)),
        0.0,
    )
    assert found.near == 0.8
    assert found.gap == pytest.approx(-0.1)


def test_the_odds_weigh_all_that_is_near() -> None:
    rows = ("when do i get a refund", REWORDED, 0.8), ("where is my card", OTHER, 0.75), ("refund time", DAYS, 0.7)
    found = backing("how long does a refund take", DAYS, near(*rows), 0.0)
    # e: the factor that 0.05 makes; the rival's part is e^-1, of the two that agree 1 and e^-2.
    share = (1 + math.exp(-2)) / (1 + math.exp(-1) + math.exp(-2))
    assert found.odds == pytest.approx(odds(0.8, 0.05, share, 0.0))
    assert share == pytest.approx(candidates("how long does a refund take", near(*rows))[0].share)


def test_odds_bend_where_much_speaks_for_an_answer() -> None:
    # By hand: -1.35 + 2.5 * 0.2 - 0.85 is -1.7; -1.35 + 2.5 * 0.8 + 1.75 * 0.6 is 1.7, and 1.45 * (1.7 + 0.15) more.
    assert odds(0.2, 0.0, 0.0, -0.17) == pytest.approx(-1.7)
    assert odds(0.8, 0.0, 0.6, 0.0) == pytest.approx(1.7 + 1.45 * 1.85)


def test_without_a_rival_all_of_its_nearness_is_the_gap() -> None:
    found = backing("how long does a refund take", DAYS, near(("when do i get a refund", DAYS, 0.8)), 0.0)
    assert (found.near, found.gap) == (0.8, 0.8)


@pytest.mark.parametrize("asked", ["how long do 3 refunds take", "how long does a refund not take"])
def test_a_query_that_contradicts_does_not_back(asked: str) -> None:
    listed: Any = near(("how long does a refund take", DAYS, 0.95))
    assert backing(asked, DAYS, listed, 0.5) == Backing(0.5, 0.0, 0.0, odds=odds(0.0, 0.0, 0.0, LEAST_RELEVANCE))


def test_an_answer_that_nobody_got_is_backed_by_nothing() -> None:
    found = backing("where is my card", "It was stolen by 9 pirates.", near(("where is my card", OTHER, 1.0)), 0.0)
    assert found == Backing(0.0, 0.0, -1.0)
    assert found.odds < -5.0


def test_relevance_is_the_mean_of_all_that_got_the_same_facts() -> None:
    found = backing(
        "how long does a refund take",
        DAYS,
        near(("when do i get a refund", REWORDED, 0.8, -0.3), ("where", OTHER, 0.7, 0.9), ("refund time", DAYS, 0.6, 0.1)),
        0.0,
    )
    assert found.relevance == pytest.approx(-0.1)


@pytest.mark.parametrize(("told", "counted"), [(0.7, MOST_RELEVANCE), (-0.9, LEAST_RELEVANCE), (-0.2, -0.2)])
def test_relevance_has_bounds(told: float, counted: float) -> None:
    assert backing("how long does a refund take", DAYS, near(("refund time", DAYS, 0.6, told)), 0.0).relevance == counted


def test_what_does_not_back_is_not_relevant() -> None:
    contradicted = backing("how long do 3 refunds take", DAYS, near(("how long does a refund take", DAYS, 0.95, 0.1)), 0.5)
    assert (contradicted.near, contradicted.relevance) == (0.0, LEAST_RELEVANCE)
    assert backing("where", "Nowhere.", near(("refund time", DAYS, 0.6, 0.1)), 0.0).relevance == LEAST_RELEVANCE


def test_a_version_made_before_there_were_odds_is_as_sure_as_it_was() -> None:
    weights = {"mean": 1.0, "support": 6.0, "near": 3.0, "gap": 2.0, "relevance": 2.0}
    curve = Calibration(weights, -5.0, 0.9, 0.95, 1, 0, 0, certified=False)
    backed = backing("how long does a refund take", DAYS, near(("when do i get a refund", DAYS, 0.8, 0.05)), 0.5)
    assert confidence(curve, features([-0.1], backed)) == pytest.approx(logistic(-5.0 - 0.1 + 3.0 + 2.4 + 1.6 + 0.1))
