import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shammah_data.home import Home
from shammah_data.refusing import is_refusal
from shammah_trainer.curate import Curated, curate, without_rejected
from shammah_trainer.likeness import LEXICAL, Likeness, alone, lexical_vectors, likeness_of, nearest

PLAIN = "A refund takes 5 working days to reach your account after the shop sends it. Ask the shop for the refund reference."
OTHER = "Refunds reach the account 5 working days after the shop sends them; ask the shop for the refund reference."
THIRD = "Ask the shop for the refund reference. After the shop sends the refund, it takes 5 working days to reach your account."
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
_NUMBER = iter(range(10**6))


def row(query: str, target: str, **more: Any) -> dict[str, Any]:
    """A row as `read_snapshot` returns it."""
    context = json.dumps(list(more.pop("context", ())))
    plain = {"id": str(next(_NUMBER)), "query": query, "target": target, "weight": 1.0, "rating": None, "tier": "teacher"}
    return {**plain, "context": context, **more}


def curated(*rows: dict[str, Any]) -> Curated:
    return curate(rows, LEXICAL)


def targets(found: Curated) -> dict[str, str]:
    return {one.query: one.target for one in found.kept}


QUERIES = ("When does my refund arrive?", "my refund is missing", "has the shop's refund been sent", "refund still not there")


def test_one_wording_stands_for_all() -> None:
    found = curated(*(row(query, text) for query, text in zip(QUERIES, (PLAIN, OTHER, PLAIN, THIRD), strict=True)))
    assert set(targets(found).values()) == {PLAIN}
    assert [one.given for one in found.kept] == [PLAIN, OTHER, PLAIN, THIRD]
    assert found.reworded == 2
    assert len({one.question for one in found.kept}) == len({one.answer for one in found.kept}) == 1


def test_the_best_rated_wording_wins() -> None:
    rows = [row(query, text) for query, text in zip(QUERIES, (PLAIN, PLAIN, THIRD, OTHER), strict=True)]
    rated = [*rows[:3], rows[3] | {"rating": "good", "weight": 3.0}]
    assert set(targets(curated(*rated)).values()) == {OTHER}
    more = [rated[0], rated[1], rated[2] | {"rating": "good", "weight": 10.0}, rated[3]]
    assert set(targets(curated(*more)).values()) == {THIRD}
    # What the user put right himself comes before what he liked.
    corrected = [rows[0] | {"rating": "bad"}, *more[1:]]
    assert set(targets(curated(*corrected)).values()) == {PLAIN}


def test_other_facts_are_not_merged() -> None:
    found = curated(row(QUERIES[0], PLAIN), row(QUERIES[1], OTHER.replace("5", "9")))
    assert found.reworded == 0
    assert len({one.answer for one in found.kept}) == 2


def test_the_newest_facts_win_and_the_old_ones_are_named() -> None:
    old, new = "The guest password is harbour 9053, ask again in May.", "The guest password is harbour 7741, ask again in May."
    rows = [
        row("What is the guest password?", old),
        row("how do guests get into the network", old),
        row("canteen hours", "The canteen opens at 11 and closes at 2."),
        row("please, what is the guest password", new),
    ]
    found = curated(*rows)
    assert targets(found) == {rows[2]["query"]: rows[2]["target"], rows[3]["query"]: new}
    assert found.outdated == ((rows[0]["id"], rows[3]["id"]), (rows[1]["id"], rows[3]["id"]))
    assert found.excluded == {"outdated": 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("What is 15 - 27?", "-12"), ("What is 27 - 15?", "12")),
        (("What is 10 / 4?", "2.5"), ("What is 4 / 10?", "0.4")),
        (
            ("What changed in version 1.5?", "Version 1.5 adds the dark theme and faster search for all users."),
            ("What changed in version 5.1?", "Version 5.1 adds the offline mode and faster search for all users."),
        ),
        (
            ("How do I convert celsius to fahrenheit?", "Multiply the celsius value by 9/5, then add 32 to get fahrenheit."),
            ("How do I convert fahrenheit to celsius?", "Subtract 32 from the fahrenheit value, multiply by 5/9, get celsius."),
        ),
        (
            ("Does Anna report to Bob?", "Yes, Anna reports to Bob in the sales team."),
            ("Does Bob report to Anna?", "Bob reports to Carla in the sales team."),
        ),
        (("What do I get for $50?", "You get 5 large pizzas."), ("What do I get for €50?", "You get 6 large pizzas.")),
        (("What is a .bin folder?", "It holds 2 old images."), ("What is a bin folder?", "It holds 3 old images.")),
        (("Hello!", "Ask me anything about the 2 houses."), ("Thanks!", "Ask me anything about the 3 houses.")),
    ],
)
def test_the_same_words_the_other_way_round_are_another_question(one: tuple[str, str], other: tuple[str, str]) -> None:
    for first, second in ((one, other), (other, one)):
        found = curated(row(*first), row(*second))
        assert (targets(found), found.outdated) == (dict((first, second)), ())
        # Nor does a correction of the one displace the answer to the other.
        assert targets(curated(row(*first, rating="bad"), row(*second))) == dict((first, second))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("What is 15 - 27?", "what is 15 - 27"),
        ("What changed in version 1.5?", "Please, what changed in the version 1.5"),
        ("Does Anna report to Bob?", "hi, does anna report to bob, please?!"),
        ("Who is on call: Marta or Jonas?", "who is on call, Marta or Jonas"),
    ],
)
def test_the_same_question_in_the_same_words_replaces_its_answer(before: str, now: str) -> None:
    old, new = "The guest password is harbour 9053, ask again in May.", "The guest password is harbour 7741, ask again in May."
    found = curated(row(before, old), row(now, new))
    assert targets(found) == {now: new}
    # Where the very same text comes again, that alone tells.
    assert found.excluded.total() == 1


CORRECTION = "Refunds take 9 working days. Do not ask the shop, but the bank, for the refund reference."


@pytest.mark.parametrize("answer", [THIRD, CORRECTION.replace("9", "5"), "Nobody knows."])
def test_a_correction_stands_until_a_later_one(answer: str) -> None:
    """Whatever Claude says when it is asked once more, by a user or for an audit, in like words or in others."""
    corrected = row(QUERIES[0], CORRECTION, rating="bad", weight=10.0, tier="neural")
    for later in (row(QUERIES[0], answer, source="audit"), row(QUERIES[0], answer)):
        found = curated(corrected, later)
        assert [(one.target, one.weight) for one in found.kept] == [(CORRECTION, 10.0)]
        assert found.outdated == () or found.outdated[0][0] == later["id"]
        # The audit may well be older than the correction of what it audited.
        assert [one.target for one in curated(later, corrected).kept] == [CORRECTION]
    again = row(QUERIES[0], answer, rating="bad")
    assert [one.target for one in curated(corrected, again).kept] == [answer]


def test_of_two_corrections_the_later_one_stands_whatever_is_said_again() -> None:
    first, last = CORRECTION, CORRECTION.replace("9", "7")
    rows = [row(QUERIES[0], first, rating="bad"), row(QUERIES[0], last, rating="bad"), row(QUERIES[0], first, source="audit")]
    assert [one.target for one in curated(*rows).kept] == [last]


def test_what_a_user_called_good_does_not_give_way_to_an_audit_but_to_a_newer_answer() -> None:
    good = row(QUERIES[0], CORRECTION, rating="good", weight=3.0)
    kept = curated(good, row(QUERIES[0], CORRECTION.replace("9", "5"), source="audit")).kept
    assert [(one.target, one.weight) for one in kept] == [(CORRECTION, 3.0)]
    newer = CORRECTION.replace("9", "5")
    assert [one.target for one in curated(good, row(QUERIES[0], newer)).kept] == [newer]
    # What nobody rated gives way to what the teacher says now.
    assert [one.target for one in curated(row(QUERIES[0], CORRECTION), row(QUERIES[0], newer, source="audit")).kept] == [newer]


def test_what_was_called_bad_when_it_was_given_again_is_no_target() -> None:
    day = [datetime(2026, 1, n) for n in range(1, 5)]
    known = row(QUERIES[0], PLAIN, created_at=day[0])
    others = [
        row(QUERIES[0], THIRD, created_at=day[0]),
        row(QUERIES[1], PLAIN, created_at=day[0]),
        row(QUERIES[0], PLAIN, created_at=day[0], rating="good"),
        row(QUERIES[0], PLAIN, created_at=day[0], context=TURNS),
        row(QUERIES[0], PLAIN, created_at=day[3]),
    ]
    bad = {"query": QUERIES[0].lower(), "context": "[]", "answer": f" {PLAIN}", "created_at": day[1]}
    assert without_rejected([known, *others], [bad]) == (others, 1)
    assert without_rejected([known], []) == ([known], 0)


def test_doublets_are_merged_and_keep_the_rating() -> None:
    rows = [
        row("How do I undo the last update?", "Roll it back with rollback.", rating="good", weight=10.0),
        row("how do i undo the last update", "Roll it back with rollback."),
        row("How do I undo that last update?", "Roll it back with rollback."),
    ]
    (one,) = curated(*rows).kept
    assert (one.id, one.weight) == (rows[2]["id"], 10.0)
    assert curated(*rows).excluded == {"asked again later": 1, "near duplicate": 1}


def test_near_duplicates_with_other_answers_both_stay_in_one_question() -> None:
    found = curated(
        row("How do I reset the router at home?", "Hold the button."), row("How do I reset the routers at home?", "Unplug it.")
    )
    assert len(found.kept) == 2
    assert len({one.question for one in found.kept}) == 1


def test_what_only_one_answer_leaves_out_is_one_question() -> None:
    found = curated(row(QUERIES[0], PLAIN), row(QUERIES[1], OTHER.replace("5 working", "some working")))
    assert len({one.answer for one in found.kept}) == 2
    assert len({one.question for one in found.kept}) == 1


def test_the_same_query_after_other_turns_is_no_doublet() -> None:
    assert len(curated(row("Who?", "Ask Ada."), row("Who?", "Ask Grace.", context=TURNS)).kept) == 2


def test_in_a_conversation_an_answer_keeps_its_words() -> None:
    rows = [row(query, text) for query, text in zip(QUERIES, (PLAIN, PLAIN, THIRD), strict=False)]
    assert targets(curated(*rows, row(QUERIES[3], OTHER, context=TURNS)))[QUERIES[3]] == OTHER


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "As an AI language model, I am unable to provide that.",
        "I won’t help with that, but here is a hotline.",
        "I don't have access to your company's opening hours.",
        "Unfortunately, I do not have any information about your office.",
    ],
)
def test_refusals_are_left_out(answer: str) -> None:
    assert is_refusal(answer)
    assert curated(row("Help me with it", answer)).excluded == {"refusal": 1}


@pytest.mark.parametrize(
    "answer",
    [
        "You can't help it: the port is closed.",
        "Sorry for the delay! Your card is on its way.",
        "I can help you with that.",
        "I don't have it.",
    ],
)
def test_other_answers_are_no_refusals(answer: str) -> None:
    assert not is_refusal(answer)


def test_who_answered_is_counted() -> None:
    found = curated(row("a b c", "one two"), row("d e f", "three", tier="import"), row(" ", "four", tier="import"))
    assert found.sources == {"teacher": 1, "import": 2}
    assert found.excluded == {"empty": 1}


def test_questions_are_compared_by_the_vectors_that_are_given() -> None:
    """Another likeness, another verdict: with vectors at right angles nothing is asked alike."""
    asked: list[int] = []

    def apart(texts: Sequence[str]) -> Any:
        asked.append(len(texts))
        return np.eye(len(texts), dtype=np.float32)

    rows = [row(query, text) for query, text in zip(QUERIES, (PLAIN, OTHER, PLAIN, THIRD), strict=True)]
    assert curate(rows, Likeness("apart", apart, 0.3, 0.4)).reworded == 0
    assert asked == [4]
    # Nothing to compare: no vector is made.
    assert curate([row("a", "Ask Ada."), row("b", "Ask Grace in 5 minutes.")], Likeness("none", apart, 0.3, 0.4)).reworded == 0
    assert asked == [4]


def test_letters_tell_likeness_where_there_is_no_embedder(tmp_path: Path) -> None:
    said: list[str] = []
    assert likeness_of(Home(tmp_path), 1, said.append) is LEXICAL
    assert not said
    # A damaged one is no reason to lose the night.
    (tmp_path / "embedder").mkdir()
    (tmp_path / "embedder" / "embedder.json").write_text("{}")
    assert likeness_of(Home(tmp_path), 1, said.append) is LEXICAL
    assert said[0].startswith("questions are compared by their words: ")
    vectors = lexical_vectors(["When does my refund arrive?", "my refunds are missing", "canteen hours", ""])
    assert np.linalg.norm(vectors[:3], axis=1) == pytest.approx([1.0] * 3, abs=1e-5)
    assert vectors[0] @ vectors[1] > LEXICAL.least > vectors[0] @ vectors[2]
    assert not vectors[3].any()


def test_what_is_like_nothing_else_is_alone() -> None:
    texts = ["When does my refund arrive?", "the refund does not arrive", "What is 15 + 27?", "what is 31 + 12", "canteen"]
    assert alone(texts, LEXICAL) == [False, False, False, False, True]
    assert alone(["canteen"], LEXICAL) == [True]
    assert alone([], LEXICAL) == []


def test_the_nearest_known_text_is_found() -> None:
    known = ["When does my refund arrive?", "canteen hours"]
    assert nearest(known, ["hours of the canteen", "refund, when?"]) == {"hours of the canteen": 1, "refund, when?": 0}
    assert nearest([], ["anything"]) == {}
