from dataclasses import replace

import pytest

from fakes.tiny import exchanges
from shammah_data.exchange import Message
from shammah_trainer.dataset import Dataset, Example, build_dataset
from shammah_trainer.leak import leaks


@pytest.fixture
def clean() -> Dataset:
    rows = [
        {"id": str(n), "query": e.query, "target": e.response, "context": "[]", "weight": 1.0}
        for n, e in enumerate(exchanges())
    ]
    return build_dataset(rows, 0)


def test_the_split_of_the_project_does_not_leak(clean: Dataset) -> None:
    assert clean.heldout_phrasings
    assert clean.heldout_groups
    assert leaks(clean) == []


def test_held_out_questions_that_were_trained_on_are_found(clean: Dataset) -> None:
    seen = clean.heldout_phrasings[:3]
    heldout = len(clean.heldout_phrasings) + len(clean.heldout_groups)
    assert leaks(replace(clean, train=(*clean.train, *seen))) == [f"3 of {heldout} held-out questions were trained on"]
    near = tuple(replace(one, query=f"{one.query}!!") for one in seen)
    assert leaks(replace(clean, train=(*clean.train, *near))) == [f"3 of {heldout} held-out questions were trained on"]


def test_nearly_the_same_words_are_found(clean: Dataset) -> None:
    query = "What do I do when the large printer on the third floor is out of paper"
    told = Example("a", query, "Fill it.", group=900)
    asked = Example("b", f"{query} again", "Fill it.", group=900)
    split = replace(clean, train=(*clean.train, told), heldout_phrasings=(*clean.heldout_phrasings, asked))
    (reason,) = leaks(split)
    assert "1 of " in reason
    assert "in nearly the same words" in reason


def test_held_out_exchanges_in_contexts_that_were_trained_on_are_found(clean: Dataset) -> None:
    for seen in (clean.heldout_phrasings[0], replace(clean.heldout_groups[0], query="In words that are not held out?")):
        hello = (Message("user", "Hi"), Message("assistant", "Hello."))
        context = (*hello, Message("user", f"{seen.query} "), Message("assistant", seen.target))
        later = Example("a", "And what of the moon?", "It is far.", context, group=902)
        other = Example("b", "And what of the sun?", "It is hot.", hello, group=903)
        split = replace(clean, train=(*clean.train, later, other))
        assert leaks(split) == ["1 of 2 contexts that were trained on holds held-out exchanges"]


def test_answers_of_held_out_groups_that_were_trained_on_are_found(clean: Dataset) -> None:
    other = Example("a", "Something else entirely?", clean.heldout_groups[0].target, group=901)
    (reason,) = leaks(replace(clean, train=(*clean.train, other)))
    same = sum(one.target == clean.heldout_groups[0].target for one in clean.heldout_groups)
    assert reason == f"the answers of {same} of {len(clean.heldout_groups)} exchanges of held-out groups were trained on"
