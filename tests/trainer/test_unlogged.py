"""Questions as if nothing that asks for the same had been logged."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shammah_runtime.engine.backing import Backing, odds
from shammah_runtime.engine.confidence import features
from shammah_runtime.engine.evidence import candidates
from shammah_trainer.calibrate import accepts, calibrate
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Outcome
from shammah_trainer.unlogged import Unlogged, as_answered, spaced, unlogged

WORDS = ("scanner", "holiday", "garage", "coffee", "payroll", "laptop")
TRAIN = [
    Example(f"{n}-{k}", f"{start} the {word}", f"{word} is dealt with by desk {n}.", group=n)
    for n, word in enumerate(WORDS)
    for k, start in enumerate(("what about", "how do i use", "tell me of"))
]


def earlier(folder: Path, examples: Sequence[Example] = TRAIN) -> Earlier:
    return Earlier(Dataset(tuple(examples), (), (), len(WORDS)), folder)


def outcome(right: bool, mean: float, backing: Backing | None = None, early: bool = True) -> Outcome:
    found = features([mean] * 9, backing or Backing(0.8, 0.9, 0.4))
    return Outcome(
        Example(f"{mean}", f"question {mean}", "t", group=7),
        "phrasing",
        "t",
        found,
        True,
        right,
        "",
        1.0,
        20,
        found if early else None,
    )


def test_what_asks_for_the_same_backs_nothing(embedder_folder: Path) -> None:
    known = earlier(embedder_folder)
    for example in TRAIN:
        others = known.others(example)
        assert {one.query for one in others} == {one.query for one in TRAIN if one.group != example.group}
        assert [one.similarity for one in others] == sorted((one.similarity for one in others), reverse=True)
    found = unlogged(known, 0)
    assert {one.query for one in found} == {one.query for one in TRAIN}
    assert all(one.answer != TRAIN[3 * one.group].target for one in found)
    odds = [one.backing["odds"] for one in found]
    assert odds == sorted(odds)
    assert odds[-1] > odds[0]
    for one in found:
        others = known.others(next(example for example in TRAIN if example.query == one.query))
        said = [candidate.answer for candidate in candidates(one.query, others)]
        assert one.backing["odds"] == max(known.backing(one.query, answer, others).odds for answer in said)


def test_an_answer_of_another_group_that_says_the_same_is_not_a_wrong_one(embedder_folder: Path) -> None:
    twin = replace(TRAIN[0], id="twin", query="and what of the scanner", group=99)
    found = unlogged(earlier(embedder_folder, [*TRAIN, twin]), 0)
    assert len(found) == len(TRAIN) + 1
    assert all(TRAIN[0].target != one.answer for one in found if one.group in (0, 99))


def test_what_backs_is_what_would_back_in_a_log_without_the_group(embedder_folder: Path) -> None:
    one = unlogged(earlier(embedder_folder), 0)[-1]
    without = earlier(embedder_folder, [example for example in TRAIN if example.group != one.group])
    asked = Example("asked", one.query, "")
    without.look_up([asked])
    there = without.backing(one.query, one.answer)
    assert one.backing["near"] == pytest.approx(there.near, abs=5e-3)
    assert one.backing["odds"] == pytest.approx(there.odds, abs=0.1)
    assert one.answer in without.likely(one.query)


def test_which_are_looked_at_is_drawn_from_the_text(embedder_folder: Path) -> None:
    assert unlogged(earlier(embedder_folder), 3) == unlogged(earlier(embedder_folder, TRAIN[::-1]), 3)


def test_without_an_embedder_or_another_group_there_are_none(tmp_path: Path, embedder_folder: Path) -> None:
    assert unlogged(earlier(tmp_path / "none"), 0) == []
    assert unlogged(earlier(embedder_folder, TRAIN[:3]), 0) == []
    assert spaced([], 100) == []


def imagined(near: float) -> Unlogged:
    backing = {"support": 0.3, "near": near, "gap": 0.1, "odds": odds(near, 0.1, 0.5, 0.0)}
    return Unlogged(f"query {near}", 1, f"answer {near}", backing, None)


def test_one_for_every_eight_phrasings_from_the_least_backed_to_the_best() -> None:
    found = [imagined(n / 100) for n in range(100)]
    assert [one.backing["near"] for one in spaced(found, 32)] == [0.12, 0.37, 0.62, 0.87]
    assert len(spaced(found, 1200)) == 150
    assert spaced(found, 1) == []


def test_it_is_as_sure_as_a_right_answer_and_wrong() -> None:
    outcomes = [outcome(True, -0.01), outcome(False, -2.0), outcome(True, -0.02, early=False)]
    made = as_answered([imagined(0.2), imagined(0.4), imagined(0.6)], outcomes, 0)
    assert {one.features["mean"] for one in made} == {-0.01, -0.02}
    assert [(one.features["near"], one.right, one.kind, one.example.group) for one in made] == [
        (near, False, "group", 1) for near in (0.2, 0.4, 0.6)
    ]
    assert all((one.early is None) == (one.features["mean"] == -0.02) for one in made)
    assert all(one.early["near"] == one.features["near"] for one in made if one.early)
    assert as_answered([imagined(0.2)], [outcome(False, -1.0)], 0) == []


def test_a_sure_answer_to_a_new_question_is_declined_that_was_given_without() -> None:
    def near(cosine: float) -> Backing:
        return Backing(0.3, cosine, 0.1, odds=odds(cosine, 0.1, 0.5, 0.0))

    held_out = [outcome(True, -0.01 - n / 1000, near(0.3 + n / 80)) for n in range(40)]
    held_out += [outcome(False, -1.0 - n / 100, near(0.2)) for n in range(40)]
    new = [replace(imagined(0.3 + n / 100), query=f"new {n}") for n in range(10)]
    asked = features([-0.01] * 9, near(0.32))

    def given(outcomes: Sequence[Outcome]) -> bool:
        return accepts(calibrate([(one.features, one.right) for one in outcomes], 0.95)[0], asked)

    assert given(held_out)
    assert not given([*held_out, *as_answered(new, held_out, 0)])
