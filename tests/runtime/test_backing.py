"""What earlier exchanges say for an answer that the model gives."""

from typing import Any

import pytest

from shammah_runtime.engine.backing import LEAST_RELEVANCE, MOST_RELEVANCE, Backing, Neighbour, backing

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


def test_without_a_rival_all_of_its_nearness_is_the_gap() -> None:
    found = backing("how long does a refund take", DAYS, near(("when do i get a refund", DAYS, 0.8)), 0.0)
    assert (found.near, found.gap) == (0.8, 0.8)


@pytest.mark.parametrize("asked", ["how long do 3 refunds take", "how long does a refund not take"])
def test_a_query_that_contradicts_does_not_back(asked: str) -> None:
    listed: Any = near(("how long does a refund take", DAYS, 0.95))
    assert backing(asked, DAYS, listed, 0.5) == Backing(0.5, 0.0, 0.0)


def test_an_answer_that_nobody_got_is_backed_by_nothing() -> None:
    found = backing("where is my card", "It was stolen by 9 pirates.", near(("where is my card", OTHER, 1.0)), 0.0)
    assert found == Backing(0.0, 0.0, -1.0)


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
