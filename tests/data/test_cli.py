import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shammah_data import cli
from shammah_data.exchange import Attempt, Exchange, Feedback, Message
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

HERE = Path(__file__).parent


class Tool:
    """shammah-log in this process, as a shell would call it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["shammah-log", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, error = self._capsys.readouterr()
        return code, out, error

    def json(self, *arguments: object) -> Any:
        code, out, error = self(*arguments, "--json")
        assert (code, error) == (0, "")
        return json.loads(out)


@pytest.fixture
def tool(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Tool]:
    import os

    before = os.umask(0o022)
    monkeypatch.setenv("SHAMMAH_HOME", str(home.root))
    yield Tool(monkeypatch, capsys)
    os.umask(before)


@pytest.fixture
def past(tmp_path: Path) -> Path:
    path = tmp_path / "past.jsonl"
    path.write_text('{"query": "Wo?", "response": "Dort."}\n{"query": "Wer?", "response": "Zoë."}\n')
    return path


def test_importing_twice_adds_nothing(tool: Tool, past: Path) -> None:
    assert tool("import", past) == (0, "past.jsonl: 2 new, 0 already there, 0 unusable\n", "")
    assert tool("import", past, past) == (0, "past.jsonl: 0 new, 2 already there, 0 unusable\n" * 2, "")
    assert tool.json("stats")["exchanges"] == 2


def test_bad_lines_are_named_and_the_rest_is_imported(tool: Tool, past: Path) -> None:
    past.write_text(past.read_text() + "{\n[]\n")
    code, out, error = tool("import", past)
    assert code == 2
    assert out == "past.jsonl: 2 new, 0 already there, 2 unusable\n"
    named = error.splitlines()
    assert named[0].startswith("  past.jsonl line 3: not JSON")
    assert named[1] == "  past.jsonl line 4: not an object"
    assert named[2].startswith("shammah-log: 2 lines could not be used")
    assert len(named) == 3


def test_an_empty_log_says_how_to_fill_it(tool: Tool) -> None:
    assert "the log is empty" in tool("list")[1]
    assert tool.json("list") == []
    assert tool("stats")[1] == "0 exchanges, 0 to learn from, 0 ratings, 0 runs\n"


@pytest.fixture
def evil(log: ExchangeLog) -> Exchange:
    """An exchange whose texts would drive a terminal."""
    exchange = Exchange(
        query="a\x1b[2Jb\nc",
        answer="x\x9b31my\u202ez\x07",
        tier="teacher",
        context=(Message("user", "before\x1b[A"), Message("assistant", "ja")),
        latency_ms=1234.5,
        cost_usd=0.25,
        attempts=(Attempt("neural", "failed", "no\x1b]0;model"), Attempt("teacher", "accepted", "asked")),
    )
    log.append(exchange)
    log.rate(Feedback(exchange.id, "good"))
    return exchange


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "{id}"], ["show", "{id}", "--json"]])
def test_what_is_shown_drives_no_terminal(tool: Tool, evil: Exchange, arguments: list[str]) -> None:
    code, out, error = tool(*(argument.format(id=evil.id) for argument in arguments))
    assert (code, error) == (0, "")
    assert evil.id[:8] in out
    assert not set(out) & set("\x1b\x9b\x07\u202e")


def test_list_is_one_line_each(tool: Tool, evil: Exchange) -> None:
    code, out, _ = tool("list", "-n", 1)
    assert code == 0
    [line] = out.splitlines()
    assert line.startswith(evil.id[:8])
    assert " + ab c " in line


def test_show_tells_everything(tool: Tool, evil: Exchange) -> None:
    _, out, _ = tool("show", evil.id[:6])
    for expected in ("teacher", "user: before", "neural: failed, no", "teacher: accepted, asked", "1234.5"):
        assert expected in out
    found = tool.json("show", evil.id)
    assert found["query"] == evil.query
    assert found["context"][0] == {"role": "user", "content": "before\x1b[A"}
    assert [attempt["tier"] for attempt in found["attempts"]] == ["neural", "teacher"]


def test_stats_show_who_answered(tool: Tool, evil: Exchange, past: Path) -> None:
    tool("import", past, past)
    _, out, _ = tool("stats")
    assert out.splitlines()[0] == "3 exchanges, 3 to learn from, 1 rating, 0 runs"
    assert "66.7%" in out
    assert "median 1234 ms  $0.2500" in out
    tiers = tool.json("stats")["tiers"]
    assert tiers["teacher"] == {"exchanges": 1, "median_latency_ms": 1234.5, "cost_usd": 0.25}
    assert tiers["import"]["exchanges"] == 2


def test_forget_needs_an_id_and_removes_it(tool: Tool, evil: Exchange) -> None:
    assert tool("forget", "")[0] == 2
    assert tool("forget", evil.id[:8]) == (0, f"forgotten: {evil.id}\n", "")
    assert tool.json("list") == []
    code, _, error = tool("forget", evil.id)
    assert code == 2
    assert error.startswith("shammah-log: no exchange")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import", "/none/such.jsonl"], "/none/such.jsonl: cannot be read: No such file or directory"),
        (["import", str(HERE)], f"{HERE}: holds no .jsonl file"),
        (["show", "zz"], "no exchange 'zz': `shammah-log list` shows the ids"),
        (["show", "\x1b[2J\udcff"], "no exchange"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tool: Tool, arguments: list[str], says: str) -> None:
    code, out, error = tool(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith(f"shammah-log: {says}")
    assert error.count("\n") == 1
    assert "\x1b" not in error


def test_a_question_that_nobody_answered_is_listed_as_such(tool: Tool, log: ExchangeLog) -> None:
    log.append(Exchange("Who knows?", "", "teacher", complete=False))
    log.append(Exchange("Who began?", "I do", "teacher", complete=False))
    lines = tool("list")[1].splitlines()
    assert [line.split()[3] for line in lines] == ["teacher", "nobody"]


@pytest.mark.parametrize("arguments", [["list", "-n", "0"], ["list", "-n", "x"], ["unknown"], ["show"], ["list", "--colour"]])
def test_a_wrong_command_line_is_explained_without_a_traceback(tool: Tool, arguments: list[str]) -> None:
    code, out, error = tool(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in error
    assert "Traceback" not in error


def test_a_damaged_log_is_one_line(tool: Tool, home: Home) -> None:
    home.log.write_bytes(b"damaged")
    for arguments in (["list"], ["stats"], ["show", "a"], ["forget", "a"]):
        code, out, error = tool(*arguments)
        assert (code, out) == (2, "")
        assert error.startswith(f"shammah-log: {home.log}: cannot be opened")
        assert error.count("\n") == 1
