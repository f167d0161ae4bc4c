import codecs
import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shammah_data.text import Sanitizer, counted, one_line, printable

T = TypeVar("T", str, bytes)
HOSTILE = "\x00\x07\x18\x1b\x9b\x9d\x90\x9c\x7f\u202e\u2066\u061c\ud83d\ude00\n\t\r[]P_m;1\\ "
ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from(HOSTILE))
CUTS = st.lists(st.integers(0, 60))
# Bytes that are likely to begin a sequence, end one, or split a letter.
BYTES = st.binary(max_size=60) | st.lists(
    st.sampled_from(
        [b"\x1b", b"[", b"]0;", b"\x07", b"\xc2\x9b", b"\xc2\x9d", b"\x1bP", b"\x1b\\", b"3", b"m", b"\n", "🙂".encode()]
    )
    | st.binary(max_size=3)
).map(b"".join)


def pieces(whole: T, cuts: Sequence[int]) -> list[T]:
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    return [whole[a:b] for a, b in itertools.pairwise(edges)]


def streamed(parts: Sequence[str]) -> str:
    sanitizer = Sanitizer()
    return "".join([*map(sanitizer.push, parts), sanitizer.close()])


def assert_safe(shown: str) -> None:
    assert {letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cs")} <= {"\n", "\t"}
    assert not {unicodedata.bidirectional(letter) for letter in shown} & set("RLO LRO RLE LRE PDF RLI LRI FSI PDI".split())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[31mred\x9b0m", "ared"),
        ("\x1b[?1049h\x1b[2J\x1b[10;10Hhi", "hi"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d52;c;cm0gLXJm\x9cafter", "after"),
        ("\x1bP1$r0m\x1b\\a\x1b_apc\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        ("\x1b(Ba\x1b#8b\x1bcc\x1b7d", "abcd"),
        ("an end that never comes \x1b]0;swallowed\nthe next line", "an end that never comes \nthe next line"),
        ("\x1b[31\nm", "\nm"),
        ("\x1b[3\x1b[1mb", "b"),
        ("\x1béa", "éa"),
        ("\x1b", ""),
        ("one\r\ntwo\rthree\x00\x07\x7f\x08", "one\ntwothree"),
        ("b\u202ec\u2066d\u2069\u200e\u200f\u061c", "bcd"),
        ("half \ud83d of one, \ude00 of another", "half \ufffd of one, \ufffd of another"),
        ("\ud83d\ude00 \ud83d", "😀 \ufffd"),
        ("Zoë\tשלום\n你好 👩‍👩‍👧 café", "Zoë\tשלום\n你好 👩‍👩‍👧 café"),
    ],
)
def test_sequences_go_whole_and_letters_stay(text: str, left: str) -> None:
    assert printable(text) == left
    assert streamed(list(text)) == left


@given(ANY)
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    shown = printable(text)
    assert_safe(shown)
    assert printable(shown) == shown


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")) | st.sampled_from("\n\t")))
def test_text_without_controls_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(ANY, CUTS)
@example("\x1b]0;title\x07", [1, 2])
@example("\ud83d\ude00", [1])
def test_the_split_of_a_text_makes_no_difference(text: str, cuts: list[int]) -> None:
    assert streamed(pieces(text, cuts)) == printable(text)


def assert_split_makes_no_difference(stream: bytes, cuts: list[int], encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    shown = streamed([decoder.decode(part) for part in pieces(stream, cuts)] + [decoder.decode(b"", final=True)])
    assert shown == printable(stream.decode(encoding, "replace"))
    assert_safe(shown)


@settings(max_examples=500)
@given(BYTES, CUTS, st.sampled_from(["utf-8", "latin-1"]))
def test_the_split_of_a_byte_stream_makes_no_difference(stream: bytes, cuts: list[int], encoding: str) -> None:
    assert_split_makes_no_difference(stream, cuts, encoding)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BYTES, CUTS, st.sampled_from(["utf-8", "latin-1"]))
def test_the_split_of_ten_thousand_byte_streams_makes_no_difference(stream: bytes, cuts: list[int], encoding: str) -> None:
    assert_split_makes_no_difference(stream, cuts, encoding)


@given(st.text(st.sampled_from(HOSTILE)))
def test_what_is_left_is_a_part_of_the_text(text: str) -> None:
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    left = iter(re.sub("\ufffd", "", whole))
    assert all(letter in left for letter in printable(text).replace("\ufffd", ""))


@given(ANY, st.integers(1, 20))
def test_one_line_is_one_line_of_at_most_that_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert len(line.splitlines()) <= 1


def test_what_is_cut_is_marked() -> None:
    assert one_line("one  two\nthree", 13) == "one two three"
    assert one_line("one two three", 8) == "one two…"


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(n, "exchange") for n in (0, 1, 2)] == ["0 exchanges", "1 exchange", "2 exchanges"]
    assert [counted(n, "query", "queries") for n in (0, 1, 11)] == ["0 queries", "1 query", "11 queries"]
