"""What speaks for a learned answer."""

import math
from dataclasses import replace

import pytest

from fakes.memories import evidence
from shammah_data.errors import ArtifactError
from shammah_runtime.engine.backing import MOST_RELEVANCE, Neighbour
from shammah_runtime.engine.evidence import MOST_ANSWERS, NAMES, candidates, features, likelihood, retrieved, sure


def near(*rows: tuple[str, str, float]) -> list[Neighbour]:
    return [Neighbour(str(n), *row) for n, row in enumerate(rows)]


def test_each_answer_is_a_candidate_once_in_any_wording() -> None:
    found = candidates(
        "how do I get a card",
        near(
            ("where do I get a card", "A new card costs 5 euros.", 0.9),
            ("how to close the account", "Write to Ann.", 0.7),
            ("get me a card", "The new card costs 5 euros once, in all countries.", 0.6),
            ("lost keys", "Ask at the door.", 0.2),
        ),
    )
    assert [one.answer for one in found] == ["A new card costs 5 euros.", "Write to Ann.", "Ask at the door."]
    assert [one.gap for one in found] == pytest.approx([0.2, -0.2, -0.7])
    assert sum(one.share for one in found) == pytest.approx(1.0)
    assert found[0].share > 0.9


def test_more_answers_than_are_read_are_left_out_and_still_count_as_rivals() -> None:
    rows = [(f"question {word}", f"Answer {word}.", 0.9 - n / 10) for n, word in enumerate(("alpha", "beta", "gamma", "delta"))]
    found = candidates("another thing altogether, said in its own way", near(*rows))
    assert len(found) == MOST_ANSWERS
    assert sum(one.share for one in found) < 1.0


def test_an_answer_needs_a_query_that_agrees() -> None:
    (found,) = candidates("what timezone is japan in", near(("what timezone is chile in", "UTC-4.", 0.95)))
    assert found.agreeing is None
    assert found.conflict is not None
    rows = near(("what timezone is chile in", "UTC-4.", 0.95), ("the timezone of japan", "UTC-4.", 0.8))
    (found,) = candidates("what timezone is japan in", rows)
    assert found.agreeing == rows[1]
    assert found.gap == pytest.approx(0.8)
    assert features(found, [-1.0], 0.0)["similarity"] == pytest.approx(0.8)


def test_nothing_near_is_no_candidate() -> None:
    assert candidates("how", []) == []


def test_features_of_the_likelihood() -> None:
    (found,) = candidates("how do I pay", near(("how can I pay", "In cash.", 0.9)))
    told = features(found, [-0.1, -0.2, -0.3, -0.4, -math.inf], -2.0)
    assert set(told) == set(NAMES)
    assert told["least"] == told["mean"] == -20.0
    assert told["opening"] == pytest.approx(-0.25)
    told = features(found, [-1.0, -3.0], -5.0)
    assert (told["mean"], told["lift"], told["least"]) == (-2.0, 3.0, -3.0)


def test_log_odds_are_a_weighted_sum() -> None:
    curve = evidence(intercept=-1.0, similarity=2.0, lift=0.5)
    assert likelihood(curve, {"similarity": 0.5, "lift": 4.0, "gap": 9.0}) == pytest.approx(2.0)
    assert sure(0.0) == 0.5
    with pytest.raises(ArtifactError, match="upgrade Shammah"):
        likelihood(evidence(taste=1.0), {"similarity": 1.0})


def test_log_odds_are_steeper_from_the_bend_on() -> None:
    curve = replace(evidence(intercept=-1.0, similarity=2.0), bend_from=0.5, bend=1.5)
    told = [likelihood(curve, {"similarity": similarity}) for similarity in (0.0, 0.75, 1.0, 2.0)]
    assert told == pytest.approx([-1.0, 0.5, 1.0 + 1.5 * 0.5, 3.0 + 1.5 * 2.5])


def test_relevance_is_that_of_all_with_the_answer_in_any_wording() -> None:
    rows = [
        Neighbour("0", "where do I get a card", "A new card costs 5 euros.", 0.9, -0.1),
        Neighbour("1", "how to close the account", "Write to Ann.", 0.7, 0.4),
        Neighbour("2", "get me a card", "The new card costs 5 euros once, in all countries.", 0.6, 0.05),
    ]
    found = candidates("how do I get a card", rows)
    assert [retrieved(one)["relevance"] for one in found] == pytest.approx([-0.025, MOST_RELEVANCE])
