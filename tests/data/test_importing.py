from pathlib import Path

import pytest

from shammah_data.errors import InputError
from shammah_data.exchange import Exchange
from shammah_data.importing import BadLines, read_jsonl

GOOD = b'{"query": "Wo?", "response": "Dort, \xc3\xbcben."}'


def read(tmp_path: Path, content: bytes) -> tuple[list[Exchange], BadLines]:
    path = tmp_path / "past.jsonl"
    path.write_bytes(content)
    bad = BadLines()
    return list(read_jsonl(path, bad)), bad


def test_a_line_becomes_an_exchange(tmp_path: Path) -> None:
    [exchange], bad = read(tmp_path, GOOD + b"\n")
    assert (exchange.query, exchange.answer, exchange.tier) == ("Wo?", "Dort, üben.", "import")
    assert (exchange.source, exchange.teacher_probability) == ("import:past.jsonl", 1.0)
    assert (bad.count, bad.named) == (0, [])


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD + b"\r\n",
        b"\xef\xbb\xbf" + GOOD + b"\n",
        b"\n \t\r\n" + GOOD + b"\n\n",
        GOOD.replace(b"}", b', "more": [1]}'),
    ],
)
def test_line_ends_byte_order_mark_and_empty_lines_do_not_matter(tmp_path: Path, content: bytes) -> None:
    [exchange], bad = read(tmp_path, content)
    assert (exchange.query, bad.count) == ("Wo?", 0)


def test_the_same_pair_has_the_same_id_in_any_file(tmp_path: Path) -> None:
    [first], _ = read(tmp_path, GOOD)
    [again, other], _ = read(
        tmp_path, b'{"response": "Dort, \\u00fcben.", "query": "Wo?"}\n{"query": "Wo?", "response": "Hier"}'
    )
    assert again.id == first.id != other.id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"query": "a\xff", "response": "b"}', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", 'needs non-empty strings "query" and "response"'),
        (b'{"query": "a", "response": null}', "needs non-empty strings"),
        (b'{"query": " ", "response": "b"}', "needs non-empty strings"),
        (b'{"query": "a", "response": "\\n"}', "needs non-empty strings"),
        (b'{"query": "a\\ud83d", "response": "b"}', "half a surrogate pair"),
    ],
)
def test_a_bad_line_is_counted_and_named_and_the_rest_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    exchanges, bad = read(tmp_path, GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    assert len(exchanges) == 2
    assert bad.count == 1
    assert bad.named[0].startswith(f"line 2: {reason}")
    assert "\n" not in bad.named[0]


def test_only_the_first_few_bad_lines_are_named(tmp_path: Path) -> None:
    _, bad = read(tmp_path, b"[]\n" * 12)
    assert bad.count == 12
    assert bad.named == [f"line {n}: not an object" for n in range(1, 6)]


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=reason):
            list(read_jsonl(path, BadLines()))


@pytest.mark.parametrize("name", ["help", "greetings", "sums"])
def test_the_project_s_own_samples_are_good(name: str) -> None:
    path = Path(__file__).parents[2] / "data" / "samples" / f"{name}.jsonl"
    bad = BadLines()
    pairs = list(read_jsonl(path, bad))
    assert bad.named == []
    assert len(pairs) == len(path.read_bytes().splitlines()) > 10
