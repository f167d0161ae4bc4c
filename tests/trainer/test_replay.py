from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.duplicates import near_duplicates
from shammah_trainer.outside import QUERIES
from shammah_trainer.replay import replayed


def logged(*queries: str) -> Dataset:
    examples = tuple(Example(str(n), query, "As you say.", group=n) for n, query in enumerate(queries))
    return Dataset(examples[::2], examples[1::2], (), len(queries))


def test_everyday_exchanges_are_added() -> None:
    everyday = replayed(logged("How do I undo it?", "What is 12 + 7?"))
    assert len(everyday) == 60
    assert all(example.query and example.target and not example.context for example in everyday)
    assert len({example.group for example in everyday}) == 60
    assert max(example.group for example in everyday) < 0


def test_what_the_log_knows_is_left_to_the_log() -> None:
    first, second, *_ = replayed(logged())
    left = replayed(logged(first.query.upper() + " ", second.query))
    assert len(left) == 58
    assert not {first.query, second.query} & {example.query for example in left}


def test_no_unanswerable_question_is_trained_on() -> None:
    queries = [example.query for example in replayed(logged())]
    twins = near_duplicates([*queries, *QUERIES])
    assert not {twins.root(n) for n in range(60)} & {twins.root(60 + n) for n in range(len(QUERIES))}
