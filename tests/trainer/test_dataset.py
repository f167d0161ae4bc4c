import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.tiny import exchanges
from shammah_data.exchange import Exchange, Feedback
from shammah_data.exclusions import left_out_of
from shammah_data.home import Home
from shammah_data.judge import normalize
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_trainer.dataset import (
    MOST_GROUP_EXAMPLES,
    MOST_PHRASINGS,
    Dataset,
    Example,
    build_dataset,
    held_out_turns,
)
from shammah_trainer.duplicates import near_duplicates
from shammah_trainer.leak import leaks

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
# Four wordings of one question that are no near-duplicates of one another.
WORDINGS = ("Explain {}", "What on earth might {} be?", "I would love to hear more on {}", "{}, in short, please")


def row(query: str, target: str, *, context: Sequence[dict[str, str]] = (), weight: float = 1.0) -> dict[str, Any]:
    """A row as `read_snapshot` returns it, as far as a dataset looks at it."""
    return {
        "id": f"{query}/{target}",
        "query": query,
        "target": target,
        "context": json.dumps(list(context)),
        "weight": weight,
    }


def topic(n: int) -> str:
    """A made-up word that shares hardly a trigram with the others."""
    rng = random.Random(n)
    return "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiouy") for _ in range(9))


def log_of(groups: int, wordings: int = 4) -> list[dict[str, Any]]:
    """Rows of so many questions, each in so many wordings."""
    return [row(WORDINGS[w].format(topic(n)), f"About {topic(n)}.") for n in range(groups) for w in range(wordings)]


def parts(dataset: Dataset) -> dict[str, tuple[Example, ...]]:
    return {
        "train": dataset.train,
        "phrasings": dataset.heldout_phrasings,
        "groups": dataset.heldout_groups,
    }


def place_of(dataset: Dataset) -> dict[str, str]:
    """Query to the part it is in."""
    return {example.query: name for name, part in parts(dataset).items() for example in part}


def assert_split(dataset: Dataset) -> None:
    """What must hold of every split."""
    everything = [(name, example) for name, part in parts(dataset).items() for example in part]
    ids = [example.id for _, example in everything]
    assert len(set(ids)) == len(ids)
    twins = near_duplicates([example.query for _, example in everything])
    where: dict[int, set[str]] = {}
    for n, (name, _) in enumerate(everything):
        where.setdefault(twins.root(n), set()).add(name)
    assert all(len(places) == 1 for places in where.values())
    trained = {example.group for example in dataset.train}
    assert not trained & {example.group for example in dataset.heldout_groups}
    assert {example.group for example in dataset.heldout_phrasings} <= trained
    assert not {e.target.lower() for e in dataset.train} & {e.target.lower() for e in dataset.heldout_groups}


def test_the_split_of_a_plain_log() -> None:
    dataset = build_dataset(
        [one.row | {"target": one.response, "id": n, "context": "[]", "weight": 1.0} for n, one in enumerate(exchanges())], 0
    )
    assert_split(dataset)
    assert dataset.groups == 12
    assert len(dataset.train) + len(dataset.heldout_phrasings) + len(dataset.heldout_groups) == len(exchanges())
    assert len({example.target for example in dataset.heldout_groups}) == 1
    # Two other phrasings of each question that is trained on.
    assert len(dataset.heldout_phrasings) == 22
    assert {e.group for e in dataset.heldout_phrasings} == {e.group for e in dataset.train}
    counted = {"train": 66, "heldout_phrasings": 22, "heldout_groups": 8, "groups": 12, "excluded": {}}
    assert counted.items() <= dataset.card.items()


def test_an_empty_log_is_an_empty_dataset() -> None:
    dataset = build_dataset([], 0)
    assert not any(parts(dataset).values())
    assert dataset.groups == 0


def test_it_is_the_same_every_time_and_another_one_per_seed() -> None:
    rows = log_of(40)
    assert build_dataset(rows, 3) == build_dataset(rows, 3)
    assert place_of(build_dataset(rows, 3)) != place_of(build_dataset(rows, 4))


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = log_of(20)
    shuffled = random.Random(5).sample(rows, len(rows))
    assert place_of(build_dataset(rows, 0)) == place_of(build_dataset(shuffled, 0))


def test_more_rows_leave_the_heldout_phrasings_where_they_are() -> None:
    before, after = build_dataset(log_of(30), 0), build_dataset(log_of(36), 0)
    held = {example.query for example in before.heldout_phrasings}
    now = place_of(after)
    # A question can become wholly held out; what never happens is that a held-out phrasing is trained on.
    assert held
    assert all(now[query] != "train" for query in held)


def test_the_same_answer_is_one_group() -> None:
    dataset = build_dataset(
        [row("Explain quokkas", "Small, and smiling."), row("Which marsupial grins", "small, and smiling")], 0
    )
    assert dataset.groups == 1


def test_near_duplicates_with_other_answers_are_one_group() -> None:
    rows = [
        row("How do I reset the router at home?", "Hold the button."),
        row("How do I reset the router at home", "Unplug it."),
    ]
    assert build_dataset([rows[0], rows[1] | {"query": rows[1]["query"] + "s"}], 0).groups == 1


def test_the_newest_answer_to_a_question_wins() -> None:
    dataset = build_dataset([row("Who is on call?", "Ada"), row("Where is it?", "Here"), row("who is on  CALL", "Grace")], 0)
    assert [(example.query, example.target) for example in dataset.train] == [
        ("Where is it?", "Here"),
        ("who is on  CALL", "Grace"),
    ]
    assert dataset.excluded == {"asked again later": 1}


def test_the_same_question_after_other_turns_is_another_one() -> None:
    dataset = build_dataset([row("Who?", "Ada"), row("Who?", "Grace", context=TURNS)], 0)
    assert {example.target for example in dataset.train} == {"Ada", "Grace"}


def test_empty_queries_and_answers_are_left_out() -> None:
    dataset = build_dataset([row(" ", "Ada"), row("Who?", "\n"), row("Where?", "Here")], 0)
    assert [example.query for example in dataset.train] == ["Where?"]
    assert dataset.excluded == {"empty": 2}


def test_weights_and_contexts_reach_the_examples() -> None:
    dataset = build_dataset([row("Who?", "Ada", context=TURNS, weight=2.5)], 0)
    (example,) = dataset.train
    assert example.weight == 2.5
    assert [(turn.role, turn.content) for turn in example.context] == [("user", "Hi"), ("assistant", "Hello.")]


def test_turns_that_depend_on_earlier_ones_are_trained_on() -> None:
    rows = [row(f"{topic(n)}?", f"About {topic(n // 4)}.", context=TURNS) for n in range(36)]
    dataset = build_dataset(rows, 0)
    assert not dataset.heldout_phrasings
    # One of a question's wordings has no context: the one to be held out.
    mixed = [*rows[:3], row(topic(3), rows[3]["target"])]
    assert [example.query for example in build_dataset(mixed, 0).heldout_phrasings] == [topic(3)]


def said(query: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]


def test_nothing_held_out_stands_in_the_context_of_what_is_trained_on() -> None:
    asked = log_of(30)
    then: list[dict[str, Any]] = []
    for n, one in enumerate(asked):
        # As a user types it again, and with another wording of the answer than the one logged.
        before = said(one["query"].upper() + "!", "Well: " + one["target"])
        then.append(row(f"And {topic(1000 + n)}?", f"Then {topic(2000 + n)}.", context=before))
        more = [*before, *said(f"And {topic(1000 + n)}?", f"Then {topic(2000 + n)}.")]
        then.append(row(f"Also {topic(3000 + n)}?", f"Last {topic(4000 + n)}.", context=more))
    dataset = build_dataset([*asked, *then], 0)
    assert len(dataset.heldout_phrasings) > 5
    assert any(example.context for example in dataset.heldout_groups)
    held = {normalize(example.query) for example in (*dataset.heldout_phrasings, *dataset.heldout_groups)}
    held |= {normalize(example.target) for example in dataset.heldout_groups}
    contexts = {example.query: [turn.content for turn in example.context] for example in dataset.train if example.context}
    assert not any(normalize(turn).rstrip("!") in held for turns in contexts.values() for turn in turns)
    # What came right after it means nothing by itself; what came later has what was said last.
    assert sum(len(turns) == 2 for query, turns in contexts.items() if query.startswith("Also")) > 5
    assert dataset.excluded == {"behind a held-out exchange": dataset.excluded["behind a held-out exchange"]}
    kept = sum(len(part) for part in parts(dataset).values())
    assert kept + sum(dataset.excluded.values()) == len(asked) + len(then)
    assert leaks(dataset) == []


def test_few_wordings_are_all_trained_on() -> None:
    assert not build_dataset(log_of(9, wordings=2), 0).heldout_phrasings
    assert len(build_dataset(log_of(9, wordings=3), 0).heldout_phrasings) == 9


def test_few_questions_are_all_trained_on() -> None:
    assert not build_dataset(log_of(9), 0).heldout_groups
    assert build_dataset(log_of(10), 0).heldout_groups


def test_a_large_question_is_never_held_out_whole() -> None:
    large = [row(f"{topic(1000 + n)}?", "The one answer.") for n in range(60)]
    for seed in range(8):
        dataset = build_dataset([*large, *log_of(12)], seed)
        assert "The one answer." not in {example.target for example in dataset.heldout_groups}


def test_the_heldout_sets_are_capped() -> None:
    rows = [row(f"{topic(n)} {topic(n + 5000)}", f"About {topic(n // 3)}.") for n in range(1500)]
    dataset = build_dataset(rows, 0)
    assert dataset.groups == 500
    assert len(dataset.heldout_phrasings) == MOST_PHRASINGS
    assert MOST_GROUP_EXAMPLES - 3 < len(dataset.heldout_groups) <= MOST_GROUP_EXAMPLES


TOKENS = ["reset", "the", "password", "mail", "account", "router", "my", "7", "42", "9", "how", "where", "canteen"]
BEFORE = [TURNS, said("reset the router", "Answer a."), [*said("where my mail", "Answer b."), *TURNS]]
ROWS = st.lists(
    st.builds(
        lambda asked, target, context, mark: row(" ".join(asked) + mark, target, context=context),
        st.lists(
            st.sampled_from(TOKENS),
            min_size=1,
            max_size=6,
        ),
        st.sampled_from([f"Answer {letter}." for letter in "abcdefghijklmnop"]),
        st.one_of(st.just(()), st.sampled_from(BEFORE)),
        st.sampled_from(["", "?", " !"]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 5))
def test_near_duplicates_never_cross(rows: list[dict[str, Any]], seed: int) -> None:
    dataset = build_dataset([one | {"id": str(n)} for n, one in enumerate(rows)], seed)
    assert_split(dataset)
    kept = sum(len(part) for part in parts(dataset).values())
    assert kept + sum(dataset.excluded.values()) == len(rows)
    assert not any(example.context for example in dataset.heldout_phrasings)
    assert not any(held_out_turns(dataset.train, dataset.heldout_phrasings, dataset.heldout_groups))


def test_of_few_phrasings_not_a_third_is_held_out() -> None:
    """Where there are many groups, chance decides which of the small ones give a phrasing."""
    dataset = build_dataset(log_of(100, wordings=3), 0)
    of_trained = len({example.group for example in dataset.train})
    assert 0.25 * of_trained < len(dataset.heldout_phrasings) < 0.65 * of_trained


@pytest.mark.parametrize(("audited", "held_out"), [(0, 3), (2, 3), (4, 4), (9, 5)])
def test_audited_queries_are_held_out_first_up_to_half_of_a_group(audited: int, held_out: int) -> None:
    asked = [f"{topic(700 + n)} {topic(800 + n)}?" for n in range(10)]
    rows = [row(query, "The one answer.") | {"source": "audit" if n < audited else "serve"} for n, query in enumerate(asked)]
    dataset = build_dataset(rows, 0)
    found = {example.query for example in dataset.heldout_phrasings}
    assert len(found) == held_out
    assert len(found & set(asked[:audited])) == min(audited, held_out)
    assert len(dataset.train) == 10 - held_out


def test_an_audited_query_that_was_asked_before_counts_as_audited() -> None:
    asked = [f"{topic(700 + n)} {topic(800 + n)}?" for n in range(10)]
    rows = [row(query, "The one answer.") | {"source": "serve", "id": f"first/{query}"} for query in asked]
    again = [row(query, "The one answer.") | {"source": "audit"} for query in asked[:4]]
    dataset = build_dataset([*again, *rows], 0)
    assert {example.query for example in dataset.heldout_phrasings} == set(asked[:4])


def test_rare_questions_are_held_out_whole_before_frequent_ones() -> None:
    rare = [row(f"{topic(500 + n)}?", f"About {topic(500 + n)}.") for n in range(30)]
    frequent = [row(f"{topic(n)} {topic(n + 5000)}", f"About {topic(n // 6)}.") for n in range(60)]
    dataset = build_dataset([*frequent, *rare], 0)
    assert dataset.heldout_groups
    assert {example.query for example in dataset.heldout_groups} <= {one["query"] for one in rare}


def test_of_the_groups_held_out_whole_a_third_was_asked_a_few_times() -> None:
    rare = [row(f"{topic(500 + n)}?", f"About {topic(500 + n)}.") for n in range(30)]
    few_times = [row(f"{topic(n)} {topic(n + 5000)}", f"About {topic(n // 3)}.") for n in range(90)]
    dataset = build_dataset([*few_times, *rare], 0)
    sizes = Counter(example.group for example in dataset.heldout_groups)
    assert Counter(sizes.values()) == {3: 2, 1: 3}


def test_the_card_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    log = ExchangeLog(Home(tmp_path).create())
    asked = {
        "good": Exchange("How do I undo it?", "Roll it back.", "neural"),
        "corrected": Exchange("Who is on call?", "Nobody.", "teacher"),
        "bad": Exchange("Where is the key?", "In the hall.", "teacher"),
        "own": Exchange("Where is the car?", "In the garage.", "neural"),
        "partial": Exchange("Tell me all of it", "Well, first", "teacher", complete=False),
        "refused": Exchange("Open the door", "I'm sorry, but I can't help with that.", "teacher"),
        "again": Exchange("who is on call", "Ada is on call.", "import"),
    }
    log.add_many(asked.values())
    log.rate(Feedback(asked["good"].id, "good", 3.0))
    log.rate(Feedback(asked["corrected"].id, "bad", 10.0, "Ada is on call."))
    log.rate(Feedback(asked["bad"].id, "bad", 10.0))
    _, _, until = log.snapshot(tmp_path / "snapshot.parquet")
    left_out = log.read(lambda session: left_out_of(session, until))
    dataset = build_dataset(read_snapshot(tmp_path / "snapshot.parquet"), 0, left_out=left_out)
    found = {example.query.lower().rstrip("?"): (example.target, example.weight) for example in dataset.train}
    # A bad answer is never a target.
    assert found == {"how do i undo it": ("Roll it back.", 3.0), "who is on call": ("Ada is on call.", 10.0)}
    card = dataset.card
    assert card["weights"] == {"3": 1, "10": 1}
    assert card["sources"] == {"neural": 1, "teacher": 2, "import": 1}
    assert card["excluded"] == {
        "refusal": 1,
        "asked again later": 1,
        "own answer, not approved": 1,
        "partial": 1,
        "rated bad, no correction": 1,
    }
    assert card["train"] + sum(card["excluded"].values()) == len(asked)
    assert json.loads(json.dumps(card)) == card
