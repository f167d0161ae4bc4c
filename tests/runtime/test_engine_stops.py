"""Stop strings: no part of one is shown, whatever way the text comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.versions import ANSWER, Tiny
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.stops import StopStrings

LETTERS = st.text("abé", max_size=30)


def shown(text: str, stops: list[str], cuts: list[int]) -> tuple[list[str], bool]:
    """The pieces shown when the text comes divided at the cuts."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    through = StopStrings(stops)
    pieces = [through.push(text[start:end]) for start, end in itertools.pairwise(edges)]
    return [*pieces, through.close()], through.stopped


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """What is to be shown, by trying every end."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(LETTERS, st.lists(st.text("abé", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 100), max_size=8))
def test_the_text_is_cut_at_the_first_complete_stop_string(text: str, stops: list[str], cuts: list[int]) -> None:
    pieces, stopped = shown(text, stops, cuts)
    assert ("".join(pieces), stopped) == cut(text, stops)


@given(LETTERS, st.text("abé", min_size=1, max_size=4))
def test_what_may_become_a_stop_string_is_held_back(text: str, stop: str) -> None:
    through = StopStrings([stop])
    so_far = "".join(through.push(character) for character in text)
    if not through.stopped:
        assert stop not in so_far
        open_end = text[len(so_far) :]
        assert stop.startswith(open_end)
        assert len(open_end) < len(stop)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_an_answer_ends_before_a_stop_string(tiny: Tiny, size: int) -> None:
    middle = len(ANSWER) // 2
    stop = ANSWER[middle : middle + size]
    pieces: list[str] = []
    decoding = Decoding(stop=(stop, "never said"))
    said = tiny.decoder().generate(tiny.chat.prompt("anything"), decoding, pieces.append)
    assert "".join(pieces) == ANSWER[: ANSWER.index(stop)]
    assert said.text == ANSWER[: ANSWER.index(stop)].strip()
    assert said.finished
