"""One word for what several words, forms and spellings say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.lookalikes import LOOKALIKES
from shammah_data.stems import root
from shammah_data.synonyms import in_digits, in_one_word


@pytest.mark.parametrize(
    "words",
    [
        "delete erased removing",
        "bought buys purchased",
        "stolen stole steals",
        "unpaid unpay",
        "colour colors",
        "organised organizing",
        "21 21st",
        "twelve 12th",
        "kg kilos kilogram",
        "children kids child's",
    ],
)
def test_what_says_the_same_has_one_root(words: str) -> None:
    assert len({root(word) for word in words.split()}) == 1


@pytest.mark.parametrize("words", ["paid unpaid", "folder file", "left right", "add remove", "first 21st", "four hour"])
def test_what_says_something_else_has_another(words: str) -> None:
    assert len({root(word) for word in words.split()}) == len(words.split())


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("how do i turn the lamp off", "how do i disable the lamp"),
        ("switched on by a timer", "enable by a timer"),
        ("turn left on main street", "turn left on main street"),
        ("turn to page 5 and go on", "turn to page 5 and go on"),
        ("log into the portal, sign out of it", "login the portal, logout it"),
        ("prices went up", "prices increase"),
        ("more than 5, more than enough", "over 5, more than enough"),
        ("up to 5 or up to date", "at most 5 or up to date"),
        ("an e-mail about non-stop trains", "an email about nonstop trains"),
        ("a sugar-free cake, a toll-free number", "a without sugar cake, a toll-free number"),
    ],
)
def test_several_words_become_one(said: str, word: str) -> None:
    assert in_one_word(said) == word


@pytest.mark.parametrize(
    ("said", "digits"),
    [
        ("forty-nine and Twenty one", "49 and 21"),
        ("two hundred", "200"),
        ("twenty", "twenty"),
        ("two hundred thousand", "two hundred thousand"),
        ("at twenty past two", "at twenty past two"),
    ],
)
def test_numbers_of_two_words_become_digits(said: str, digits: str) -> None:
    assert in_digits(said) == digits


@given(st.text())
def test_any_text_can_be_rewritten(text: str) -> None:
    once = in_one_word(text.lower())
    assert isinstance(root(once), str)
    assert isinstance(in_digits(once), str)


def test_a_lookalike_has_another_one_beside_it() -> None:
    assert {"change", "charge", "shipping", "shopping", "ireland", "iceland"} <= LOOKALIKES
    assert {"adress", "excatly", "recieve"}.isdisjoint(LOOKALIKES)
