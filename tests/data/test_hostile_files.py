"""Files that are not what they seem: each is refused or skipped with one line, whatever is in it."""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shammah_data import documents, importing
from shammah_data.errors import InputError
from shammah_data.exchange import Exchange
from shammah_data.importing import BadLines, read_past

CONVERSATION = {"uuid": "c", "chat_messages": [{"sender": "human", "text": "Rain?"}, {"sender": "assistant", "text": "Dry."}]}
EXPORT = json.dumps([CONVERSATION]).encode()
GOOD = b'{"query": "a", "response": "b"}\n'


def packed(path: Path, **files: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "/") + ".json", content)
    return path.read_bytes()


def bomb(path: Path) -> None:
    packed(path, conversations=b"[" + b" " * 20_000_000 + b"]")


def two(path: Path) -> None:
    packed(path, a_conversations=b"[]", b_conversations=b"[]")


def nested(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("conversations.json", EXPORT)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.zip", inner.getvalue())


def lies(path: Path) -> None:
    size = len(EXPORT).to_bytes(4, "little")
    path.write_bytes(packed(path, conversations=EXPORT).replace(size, (10).to_bytes(4, "little")))


def encrypted(path: Path) -> None:
    content = bytearray(packed(path, conversations=EXPORT))
    # Bit 0 of the flags, in the entry's own header and in the directory.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def strange_method(path: Path) -> None:
    content = bytearray(packed(path, conversations=EXPORT))
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 77
    path.write_bytes(content)


def rotten(path: Path) -> None:
    content = bytearray(packed(path, conversations=EXPORT))
    content[60:70] = b"\xff" * 10
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(packed(path, conversations=EXPORT)[:-30])


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bomb, "unpacks to"),
        (two, "holds several files conversations.json"),
        (nested, "holds no conversations.json"),
        (lies, "a broken zip|breaks off"),
        (encrypted, "is encrypted: unpack it"),
        (strange_method, "a broken zip"),
        (rotten, "a broken zip"),
        (truncated, "a broken zip"),
        (bytes_of(b"PK\x03\x04 and no more"), "a broken zip"),
        (bytes_of(b"[{]"), "not a conversations.json"),
        (bytes_of(b"["), "it breaks off"),
        (bytes_of(b"[" * 200_000), "not a list of objects"),
        (bytes_of(b'[{"a":' * 100_000), "nested too deeply"),
        (bytes_of(b'[{"a":' + b"[" * 100_000), "nested too deeply"),
        (bytes_of(b"[1]"), "not a list of objects"),
        (bytes_of(b"[{}]"), "chat_messages"),
        (bytes_of(b'[{"chat_messages": []} {"chat_messages": []}]'), "no comma"),
        (bytes_of(b'[{"a": "\xff"}]'), "can't decode"),
        (bytes_of(b'[{"a": ' + b"9" * 5000 + b"}]"), "digits"),
        (bytes_of(b"SQLite format 3\0 and no more"), "not a logs.db"),
        (bytes_of(GOOD.decode().encode("utf-16")), "UTF-16"),
        (bytes_of(EXPORT.decode().encode("utf-16-be")), "binary"),
        (bytes_of(b"\x7fELF\x02\x01\x01\0\0\0"), "binary"),
        (os.mkfifo, "neither a file nor a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "neither a file nor a folder"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: path.mkdir(), "holds no .jsonl"),
    ],
)
def test_a_file_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "past"
    make(path)
    with pytest.raises(InputError, match=reason) as caught:
        list(read_past(path, BadLines()))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_link_that_was_named_is_followed(tmp_path: Path) -> None:
    (tmp_path / "past.jsonl").write_bytes(GOOD)
    (tmp_path / "link").symlink_to("past.jsonl")
    assert len(list(read_past(tmp_path / "link", BadLines()))) == 1


def test_a_line_without_end_is_counted_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "LONGEST_LINE", 1000)
    path = tmp_path / "long.jsonl"
    path.write_bytes(GOOD + b"x" * 5000 + b"\n" + GOOD + b"y" * 1500)
    bad = BadLines()
    assert len(list(read_past(path, bad))) == 2
    assert bad.count == 2
    assert bad.named[0].startswith("line 2: longer than")


def test_a_session_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "LARGEST_SESSION", 3000)
    path = tmp_path / "s.jsonl"
    events = [{"type": role, "message": {"role": role, "content": "x" * 500}} for role in ("user", "assistant") * 9]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    bad = BadLines()
    assert len(list(read_past(path, bad))) == 1
    assert bad.named == ["line 4: the session is longer than 0 MB; what follows was not read"]


def export_of(number: int, after: bytes = b"") -> bytes:
    return b"[" + b", ".join([json.dumps(CONVERSATION).encode()] * number) + after


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (b"", "conversation 4: it breaks off; what follows was not read"),
        (b", {]", "conversation 4: Expecting property name enclosed in double quotes; what follows was not read"),
        (b', {"chat_messages": [' + b" " * 5000 + b"]}]", "conversation 4: longer than 0 MB; what follows was not read"),
        (b', {"uuid": "d"}]', 'conversation 4: a conversation without "chat_messages"'),
    ],
)
def test_what_was_read_of_a_broken_export_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bytes, reason: str
) -> None:
    monkeypatch.setattr(documents, "LONGEST", 2000)
    monkeypatch.setattr(documents, "_CHUNK", 100)
    path = tmp_path / "conversations.json"
    path.write_bytes(export_of(3, after))
    bad = BadLines()
    assert len(list(read_past(path, bad))) == 3
    assert (bad.count, bad.named) == (1, [reason])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.lists(st.text()))),
    chunk=st.integers(1, 40),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3),
)
def test_a_list_is_read_the_same_in_pieces_of_any_size(
    monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], chunk: int, ascii_only: bool, indent: int | None
) -> None:
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    document = json.dumps(rows, ensure_ascii=ascii_only, indent=indent).encode()
    assert list(documents.objects(io.BytesIO(b"\xef\xbb\xbf" + document + b"\n"))) == rows


def test_bad_lines_in_a_folder_are_named_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "a.jsonl").write_bytes(GOOD + b"{\n")
    (tmp_path / "house" / "b\x1b[2J.jsonl").write_bytes(b"[]\n" + GOOD)
    (tmp_path / "c.jsonl").write_bytes(b"\0\0\0")
    os.mkfifo(tmp_path / "d.jsonl")
    (tmp_path / "e.jsonl").write_bytes(b"[1, 2]")
    bad = BadLines()
    assert len(list(read_past(tmp_path, bad))) == 1
    assert [line.split(": ")[0] for line in bad.named] == [
        "c.jsonl is binary, and in no format that can be imported",
        "e.jsonl not a conversations.json of a claude.ai export",
        "house/a.jsonl line 2",
        "house/b.jsonl not a conversations.json of a claude.ai export",
    ]
    assert bad.count == 4


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["user", "assistant", "human", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["role", "content", "type", "text", "message"]), inner)
    ),
    max_leaves=5,
)
NAMES = [
    *("query", "response", "context", "messages", "request", "choices", "model", "chat_messages", "uuid", "id", "turn", "tier"),
    *("created_at", "type", "message", "parentUuid", "sessionId", "origin", "attachment", "isApiErrorMessage", "timestamp"),
]
FIELDS = ("role", "content", "sender", "text", "attachments", "files", "uuid", "parent_message_uuid", "weight", "id")
MESSAGE = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values))
ROWS = st.dictionaries(st.sampled_from(NAMES), json_values | MESSAGE | st.lists(MESSAGE, max_size=4))
EVENTS = st.fixed_dictionaries({"type": st.sampled_from(["user", "assistant", "attachment", "summary"]), "message": MESSAGE})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(json_values | ROWS | st.tuples(ROWS, EVENTS).map(lambda pair: pair[0] | pair[1]), min_size=1, max_size=4))
def test_any_json_is_read_or_counted(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text("\ufeff\n" + "".join(json.dumps(row) + "\n" for row in rows))
    if isinstance(rows[0], list):
        path.write_text("{}\n" + path.read_text())
    bad = BadLines()
    for exchange in read_past(path, bad):
        assert exchange.query.strip()
        assert exchange.answer.strip()
        exchange.query.encode(), exchange.answer.encode(), exchange.session.encode()
    assert bad.count <= len(rows) + 2


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS | json_values, max_size=4))
def test_any_list_is_read_or_refused(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(rows))
    found: list[Exchange] = []
    with contextlib.suppress(InputError):
        found += read_past(path, BadLines())
    assert all(exchange.query.strip() and exchange.answer.strip() for exchange in found)
