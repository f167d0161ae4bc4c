import random

from hypothesis import given
from hypothesis import strategies as st

from shammah_data.judge import facts
from shammah_trainer.rewording import reworded


@given(st.text(), st.integers(0, 1000))
def test_it_keeps_what_a_question_hangs_on(query: str, seed: int) -> None:
    asked = f"{query} 15 + 27 not BOTH"
    words = reworded(asked, random.Random(seed)).replace(",", " ").rstrip("?").split()
    assert [word for word in words if word in ("15", "+", "27", "not")][-4:] == ["15", "+", "27", "not"]
    assert len(words) >= 3


def test_short_questions_lose_no_word() -> None:
    assert {len(reworded("undo the update", random.Random(seed)).split()) for seed in range(50)} <= {3, 4, 5}
    assert all("undo the update" in reworded("undo the update", random.Random(seed)) for seed in range(50))
    assert {reworded("help", random.Random(seed)) for seed in range(20)} >= {"help"}


def test_an_opening_stands_for_another() -> None:
    found = {reworded("How do I reset the router?", random.Random(seed)).lower() for seed in range(1000)}
    assert any(text.startswith("how can i reset the router") for text in found)
    assert any(text.startswith("what is the way to reset") for text in found)
    assert len(found) > 50


def test_names_and_numbers_stay() -> None:
    for seed in range(200):
        text = reworded("Does the printer of Marta print 42 pages with -v?", random.Random(seed))
        assert "marta" in text.lower()
        assert facts(text).numbers == {"42": 1}
        assert "-v" in text


def test_the_same_seed_gives_the_same_words() -> None:
    asked = "Where is the key of the garage?"
    assert reworded(asked, random.Random(3)) == reworded(asked, random.Random(3))
