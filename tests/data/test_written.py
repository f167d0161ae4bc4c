import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.written import alike, written


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("5pm, 5 P.M. and five p.m.", "5 pm, 5 pm and five pm"),
        ("09:00 and 9:30, not 10:00:30", "9 and 9:30, not 10:00:30"),
        ("50 %, 50 percent, 50 Prozent", "50%, 50%, 50%"),
        ("1,000 and 2,000,000.5 and 1,00,000", "1000 and 2000000.5 and 100000"),
        ("1,5 and 1.000 and 1, 2", "1,5 and 1.000 and 1, 2"),
        ("$1.50, USD 1.50, 1.50 kg, = 1.0", "$1.5, USD 1.5, 1.5 kg, = 1"),
        ("Node 4.20, 4.20 and 1.2.30", "Node 4.20, 4.20 and 1.2.30"),
        ("the stable one is 4.20", "the stable one is 4.20"),
        ("从9点到10点", "从 9点到 10点"),
        ("a  line\n−5 and -$5", "a line\n-5 and $-5"),
    ],
)
def test_numbers_are_written_one_way(text: str, plain: str) -> None:
    assert written(text) == plain


def test_only_hours_of_two_clocks_are_written_anew() -> None:
    assert alike("5 pm", "five pm") == ("5 pm", "five pm")
    assert alike("9 to 17:00", "9 am to five pm") == ("9 to 17", "9 to 17")
    assert alike("12:15 am", "00:15") == ("0:15", "0:15")


@given(st.text(alphabet="0123456789:.,% apmAPM$-−v\n"))
def test_what_is_written_stays_so(text: str) -> None:
    assert written(written(text)) == written(text)
