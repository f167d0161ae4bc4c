import itertools
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from shammah_data.text import one_line, printable

ANY = st.text(st.characters() | st.sampled_from("\x00\x07\x1b\x9b\x7f\u202e\u2066\u061c\n\t\r[m"))


def test_nothing_that_drives_a_terminal_is_left() -> None:
    assert printable("a\x1b[31mred\x9b0m\x00\x07\x7f\r\u202eb\u2066c\u2069\u200e\u200f\u061c") == "a[31mred0mbc"


def test_letters_lines_and_tabs_stay() -> None:
    text = "Zoë\tשלום\n你好 👩‍👩‍👧 café"
    assert printable(text) == text


@given(ANY)
def test_only_newline_and_tab_are_left_of_the_controls(text: str) -> None:
    left = {letter for letter in printable(text) if unicodedata.category(letter) == "Cc"}
    assert left <= {"\n", "\t"}
    assert not any(unicodedata.bidirectional(letter) in {"RLO", "LRO", "RLE", "LRE", "PDF"} for letter in printable(text))
    assert not any(unicodedata.bidirectional(letter) in {"RLI", "LRI", "FSI", "PDI"} for letter in printable(text))


@given(ANY, st.lists(st.integers(0, 30)))
@example("\x1b]0;title\x07", [1, 2])
def test_the_split_of_a_stream_makes_no_difference(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert "".join(map(printable, pieces)) == printable(text)


@given(ANY, st.integers(1, 20))
def test_one_line_is_one_line_of_at_most_that_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert len(line.splitlines()) <= 1


def test_what_is_cut_is_marked() -> None:
    assert one_line("one  two\nthree", 13) == "one two three"
    assert one_line("one two three", 8) == "one two…"
