"""What a night asks its version: nothing behind an exchange that has the answer in it."""

from shammah_trainer.assess import questions_of
from shammah_trainer.dataset import Dataset, Example


def test_a_held_out_question_comes_behind_an_exchange_of_another_group_or_none() -> None:
    groups = range(3)
    train = tuple(Example(f"t{g}{n}", f"taught {g} {n}", f"answer {g}", group=g) for g in groups for n in range(4))
    held_out = tuple(Example(f"h{g}{n}", f"held out {g} {n}", f"answer {g}", group=g) for g in groups for n in range(30))
    asked = [example for kind, example in questions_of(Dataset(train, held_out, (), 3), 0) if kind == "phrasing"]
    behind = [example for example in asked if example.context]
    assert 20 < len(behind) < 70
    assert {example.group for example in behind} == set(groups)
    assert all(example.context[1].content != example.target for example in behind)
    alone = questions_of(Dataset(train[:4], held_out[:30], (), 1), 0)
    assert not any(example.context for kind, example in alone if kind == "phrasing")
