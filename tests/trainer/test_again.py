"""Known exchanges as if each were asked now for the first time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shammah_runtime.engine.evidence import LIKELIHOODS, candidates, retrieved
from shammah_trainer.again import asked_again, imputed
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.lookups import Lookup, Tried
from shammah_trainer.unlogged import Unlogged

WORDS = ("scanner", "holiday", "garage", "coffee", "payroll", "laptop")
KNOWN = [
    Example(f"{n}-{k}", f"{start} the {word}", f"{word} is dealt with by desk {n}.", group=n)
    for n, word in enumerate(WORDS)
    for k, start in enumerate(("what about", "how do i use", "tell me of"))
]
ALONE = Example("alone", "where is the fountain", "Behind the old oak.", group=50)


def earlier(folder: Path, examples: Sequence[Example] = KNOWN) -> Earlier:
    return Earlier(Dataset(tuple(examples), (), (), len(WORDS)), folder)


def test_an_exchange_is_told_by_the_others_and_not_by_itself(embedder_folder: Path) -> None:
    known = earlier(embedder_folder, [*KNOWN, ALONE])
    found = {one.group: one for one in asked_again(known, 0)}
    assert set(found) == {str(example.group) for example in (*KNOWN, ALONE)}
    assert found["0"].tried[0].right
    assert found["0"].tried[0].answer == KNOWN[0].target
    # Nobody else asked for the fountain: whatever is found is wrong.
    assert not any(one.right for one in found["50"].tried)


def test_it_is_what_an_index_without_the_exchange_would_find(embedder_folder: Path) -> None:
    example = KNOWN[4]
    (one,) = [one for one in asked_again(earlier(embedder_folder), 0) if one.group == "1"][:1]
    assert {name for tried in one.tried for name in tried.features} == {"similarity", "gap", "share", "relevance"}
    without = earlier(embedder_folder, [other for other in KNOWN if other.id != example.id])
    without.look_up([example])
    there = [retrieved(found) for found in candidates(example.query, without.neighbours(example.query)) if found.agreeing]
    here = [
        retrieved(found) for found in candidates(example.query, earlier(embedder_folder).without(example)) if found.agreeing
    ]
    assert len(there) == len(here) > 0
    for mine, others in zip(here, there, strict=True):
        assert mine == pytest.approx(others, abs=1e-2)


def test_the_same_words_logged_twice_say_nothing(embedder_folder: Path) -> None:
    twice = replace(ALONE, id="again", query="Where is the fountain?")
    known = earlier(embedder_folder, [*KNOWN, ALONE, twice])
    assert {one.query for one in known.without(ALONE)}.isdisjoint({ALONE.query, twice.query})


def test_another_wording_of_the_group_is_neither_right_nor_wrong(embedder_folder: Path) -> None:
    other = replace(KNOWN[0], id="other", query="what about the old scanner", target="Ask for room 12 on floor 3.")
    found = [one for one in asked_again(earlier(embedder_folder, [*KNOWN, other]), 0) if one.group == "0"]
    told = {(tried.answer, tried.right) for one in found for tried in one.tried}
    assert (KNOWN[0].target, True) in told
    assert (KNOWN[0].target, False) not in told
    assert (other.target, False) not in told


def test_without_an_embedder_there_are_none(tmp_path: Path) -> None:
    assert asked_again(earlier(tmp_path / "none"), 0) == []


def test_which_are_looked_at_does_not_depend_on_their_order(embedder_folder: Path) -> None:
    assert asked_again(earlier(embedder_folder), 3) == asked_again(earlier(embedder_folder, KNOWN[::-1]), 3)


def told(similarity: float, mean: float | None = None) -> dict[str, float]:
    likely = {} if mean is None else dict.fromkeys(LIKELIHOODS, mean)
    return {"similarity": similarity, "gap": 0.1, "share": 0.5, "relevance": 0.0, **likely}


ASKED = [
    Lookup("phrasing", "a", (Tried("r", told(0.9, -0.1), True), Tried("w", told(0.3, -4.0), False))),
    Lookup("phrasing", "b", (Tried("r", told(0.8, -0.2), True),)),
    Lookup("outside", "c", (Tried("w", told(0.2, -3.0), False), Tried("r", told(0.1, -9.0), True))),
    Lookup("outside", "d", ()),
]


def test_what_the_model_would_say_comes_from_held_out_questions_of_the_same_kind() -> None:
    again = [
        Lookup("phrasing", "7", (Tried("x", told(0.7), True), Tried("y", told(0.6), False))),
        Lookup("phrasing", "8", (Tried("y", told(0.5), False),)),
    ]
    first, second = imputed(again, [], ASKED, 0)
    assert [(one.group, one.kind) for one in (first, second)] == [("7", "phrasing"), ("8", "phrasing")]
    assert first.tried[0].features["mean"] in (-0.1, -0.2)
    assert first.tried[1].features["mean"] == second.tried[0].features["mean"] == -3.0
    assert [one.features["similarity"] for one in (*first.tried, *second.tried)] == [0.7, 0.6, 0.5]
    assert [one.right for one in first.tried] == [True, False]


def test_one_new_question_beside_eight_is_as_sure_as_a_right_answer_and_wrong() -> None:
    again = [Lookup("phrasing", str(n), (Tried("x", told(0.7), True),)) for n in range(16)]
    new = [Unlogged(f"q{n}", n, f"answer {n}", {}, told(n / 10)) for n in range(4)]
    made = imputed(again, new, ASKED, 0)[16:]
    assert [(one.kind, one.group, one.tried[0].answer, one.tried[0].right) for one in made] == [
        ("group", "1", "answer 1", False),
        ("group", "3", "answer 3", False),
    ]
    assert all(one.tried[0].features["mean"] in (-0.1, -0.2) for one in made)
    assert imputed(again, [replace(one, retrieved=None) for one in new], ASKED, 0)[16:] == []


@pytest.mark.parametrize("asked", [[], ASKED[:2], ASKED[2:]])
def test_without_right_and_wrong_ones_nothing_is_made_up(asked: list[Lookup]) -> None:
    again = [Lookup("phrasing", "7", (Tried("x", told(0.7), True),))]
    assert imputed(again, [], asked, 0) == []
