"""Markdown for a terminal: what it shows, and that it shows the same however the stream is divided."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_runtime.markdown import Markdown, width, wrapped

TEXT = """# A title with **strong** words

Take **black** tea, *not* green; use `x ** y`, snake_case_name, 2 * 3 * 4 and [a page](https://example.org/x).
- a point that is longer than the line
  1. one
> quoted
***
```python
a = b ** c  # never **touched**
```
| a | b |
\u7d05\u8336\u3092\u98f2\u3080\u3002 \U0001f469\u200d\U0001f469\u200d\U0001f467 **open and *that\\*
"""


def shown(text: str, columns: int = 80, step: int = 10**9) -> str:
    markdown = Markdown(lambda: columns)
    return "".join(markdown.push(text[n : n + step]) for n in range(0, len(text), step)) + markdown.close()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def letters(text: str) -> list[tuple[str, str]]:
    """Each character with its style: how styles are cut into sequences does not count."""
    found, style = [], ""
    for sequence, character in re.findall(r"\x1b\[([\d;]*)m|(.)", text, re.DOTALL):
        if character:
            found.append((character, style))
        else:
            style = "" if sequence == "0" else sequence
    return found


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("## Tea", "\x1b[1mTea\x1b[0m"),
        ("a **b c** d", "a \x1b[1mb\x1b[0m \x1b[1mc\x1b[0m d"),
        ("*a* _b_", "\x1b[3ma\x1b[0m \x1b[3mb\x1b[0m"),
        ("**a `b` _c_**", "\x1b[1ma\x1b[0m \x1b[1;36mb\x1b[0m \x1b[1;3mc\x1b[0m"),
        ("`a*b*`", "\x1b[36ma*b*\x1b[0m"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("[a](b) [c](c)", "a \x1b[2m(b)\x1b[0m c"),
        ("- a\n* b\n1. c", "\u2022 a\n\u2022 b\n1. c"),
        ("> a", "\x1b[2m\u2502 \x1b[0m\x1b[2ma\x1b[0m"),
        ("\\*a\\* \\d", "*a* \\d"),
        ("```\n**a**\n```\n**b**", "\x1b[2m```\x1b[0m\n\x1b[36m**a**\x1b[0m\n\x1b[2m```\x1b[0m\n\x1b[1mb\x1b[0m"),
        ("**a\nb**", "**a\nb**"),
        ("-5 is a number, #1 is no title", "-5 is a number, #1 is no title"),
        ("~~~\n```\n~~~", "\x1b[2m~~~\x1b[0m\n\x1b[36m```\x1b[0m\n\x1b[2m~~~\x1b[0m"),
    ],
)
def test_what_it_shows(text: str, look: str) -> None:
    assert letters(shown(text)) == letters(look)


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_lines_fit_and_nothing_is_lost(columns: int) -> None:
    out = plain(shown(TEXT, columns))
    code = "a = b ** c  # never **touched**"
    assert code in out
    long = [line for line in out.split("\n") if width(line) > columns - 1 and line != code and "https" not in line]
    assert long == []
    for word in ("title", "strong", "snake_case_name", "**open", "*that*", "(https://example.org/x)."):
        assert word in out
    assert "\u7d05\u8336" in out.replace("\n", "")


def test_a_point_that_goes_on_is_indented() -> None:
    assert plain(shown("- one two three four", 12)) == "\u2022 one two\n  three\n  four"


@given(
    st.text(alphabet="ab *_`#->[]()\\\n1.\u7d05\u3002\U0001f375|~", max_size=60),
    st.integers(1, 7),
    st.sampled_from([8, 20, 200]),
)
def test_the_division_of_the_stream_changes_nothing(text: str, step: int, columns: int) -> None:
    assert letters(shown(text, columns, step)) == letters(shown(text, columns))


def test_a_text_without_spaces_breaks_anywhere_but_before_what_closes() -> None:
    tea = "\u7d05\u8336\u3092\u98f2\u3080\u3002\u7d05abc\u8336"
    assert plain(shown(tea, 12)) == "\u7d05\u8336\u3092\u98f2\n\u3080\u3002\u7d05abc\u8336"


def test_words_come_as_they_end() -> None:
    markdown = Markdown(lambda: 80)
    assert markdown.push("One tw") == "One"
    assert markdown.push("o **three") == " two"
    assert plain(markdown.push("** f")) == " three"
    assert markdown.push("our\n") == " four\n"
    assert markdown.at_start


def test_remarks_break_between_words() -> None:
    assert wrapped("  a long remark, longer than the line", 17) == "  a long remark,\nlonger than the\nline"


def test_a_line_of_dashes_that_goes_on_is_known_at_once() -> None:
    # Matched in as many ways as there are to divide the line, it would take years.
    assert shown("- " * 60 + "cut here", 200, 1) == "\u2022 " + "- " * 59 + "cut here"


@pytest.mark.parametrize("text", ["a " + "*" * 4000, "a " + "_*" * 2000, "**a " * 1000, "[a](" + "b" * 4000 + ")"])
def test_no_span_is_longer_or_deeper_than_one_that_streams(text: str) -> None:
    assert letters(shown(text)) == letters(shown(text, 80, 7))
