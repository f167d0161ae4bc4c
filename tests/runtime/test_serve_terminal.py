"""shammah-serve on a pseudo-terminal, as a user meets it: prompt, streaming, commands, Ctrl-C, Ctrl-D, SIGKILL."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pexpect
import pytest

from fakes.claude import FakeClaude
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

PROMPT = "\x1b[1m> \x1b[0m"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
Start = Callable[..., Any]
# The first answer never ends: once it has begun, the graph runs pass after pass.
ENDLESS = """
import threading
from shammah_runtime.cli import main
from shammah_runtime.engine.decoder import Decoder

drawn, begun = Decoder.tokens, []

def tokens(decoder, *rest):
    steps = drawn(decoder, *rest)
    yield next(steps)
    if threading.current_thread().name == "neural" and not begun:
        begun.append(True)
        print("under way", flush=True)
        cache = decoder.session.new_cache()
        while True:
            decoder.session.feed(cache, [1] * 100)
            cache.rewind()
    yield from steps

Decoder.tokens = tokens
main()
"""


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    started: list[Any] = []

    def spawn(*arguments: str, program: Sequence[str] = ("-m", "shammah_runtime.cli")) -> Any:
        environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
        environment.pop("NO_COLOR", None)
        child = pexpect.spawn(
            sys.executable,
            [*program, *arguments],
            env=environment,
            encoding="utf-8",
            timeout=30,
            dimensions=(24, 200),
        )
        child.delaybeforesend = None
        started.append(child)
        child.expect_exact(PROMPT)
        return child

    yield spawn
    for child in started:
        child.close(force=True)


def dim(child: Any, pattern: str) -> str:
    """Wait for a dim line."""
    child.expect(f"{re.escape(DIM)}({pattern}){re.escape(PLAIN)}\r\n")
    return str(child.match.group(1))


def ask(child: Any, text: str) -> None:
    child.sendline(text)
    child.expect_exact(f"{text}\r\n")


def leave(child: Any) -> int:
    child.sendeof()
    child.expect(pexpect.EOF)
    child.wait()
    return int(child.exitstatus)


def test_a_session(start: Start, home: Home, tiny: Tiny, claude: FakeClaude) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    child = start()
    assert "Shammah. Ask anything; /help lists the commands." in child.before

    ask(child, TAUGHT)
    child.expect_exact(f"{TAUGHT_ANSWER}\r\n")
    assert dim(child, "teacher[^\x1b]*").startswith("teacher · claude-sonnet-5-5 · ")
    child.expect_exact(PROMPT)
    assert [turn["content"] for turn in claude.requests[0].body["messages"]] == [TAUGHT]
    assert claude.requests[0].key == "test"

    ask(child, "/why")
    for tier in ("neural   declined", "learned  declined", "template declined", "teacher  accepted"):
        child.expect_exact(tier)
    child.expect_exact(PROMPT)

    ask(child, "/good")
    assert dim(child, "noted[^\x1b]*") == "noted: right"
    ask(child, "/fix Bring nothing.")
    assert dim(child, "noted[^\x1b]*") == "noted: this is what it will learn"
    ask(child, "/status")
    child.expect_exact("exchanges  1, of which ")
    child.expect_exact(PROMPT)

    child.sendintr()
    child.expect_exact(PROMPT)
    ask(child, TAUGHT)
    child.expect_exact("Bring nothing.\r\n")
    assert dim(child, "learned[^\x1b]*")
    child.expect_exact(PROMPT)
    assert leave(child) == 0

    later, first = ExchangeLog(home).recent()
    assert (first["answer"], first["rating"], first["correction"]) == (TAUGHT_ANSWER, "bad", "Bring nothing.")
    assert (later["tier"], later["answer"]) == ("learned", "Bring nothing.")
    assert claude.calls == 1


def test_ctrl_c_stops_a_stalled_answer_and_keeps_the_session(start: Start, home: Home, claude: FakeClaude) -> None:
    claude.fault = "stall"
    child = start()
    ask(child, TAUGHT)
    child.expect_exact("Bring")
    child.sendintr()
    assert dim(child, "stopped[^\x1b]*") == "stopped; kept as incomplete, never trained on"
    child.expect_exact(PROMPT)
    assert claude.hung_up.wait(30.0)
    ask(child, "thanks")
    child.expect_exact("You are welcome.\r\n")
    child.expect_exact(PROMPT)
    assert leave(child) == 0
    _, stopped = ExchangeLog(home).recent()
    assert stopped["query"] == TAUGHT
    assert not stopped["complete"]
    assert stopped["answer"].startswith("Bring")


def test_ctrl_c_while_the_model_answers_returns_the_prompt(start: Start, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    child = start("--offline", program=("-c", ENDLESS))
    ask(child, QUESTION)
    child.expect_exact("under way\r\n")
    child.sendintr()
    assert dim(child, "[^\x1b]*") == "stopped"
    child.expect_exact(PROMPT)
    # The model is as it was, and nothing is kept of what was stopped.
    ask(child, QUESTION)
    child.expect_exact(f"{ANSWER}\r\n")
    assert dim(child, "neural[^\x1b]*")
    child.expect_exact(PROMPT)
    assert leave(child) == 0
    assert [row["answer"] for row in ExchangeLog(home).recent()] == [ANSWER]


def test_a_kill_after_the_line_on_an_answer_loses_no_exchange(start: Start, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    asked = []
    for number in range(5):
        child = start("--offline")
        # Of several in a session, the last one counts as much as the first.
        for part in range(number % 2 + 1):
            asked.append(f"{QUESTION} ({number}.{part})")
            ask(child, asked[-1])
            dim(child, "neural[^\x1b]*")
        child.kill(signal.SIGKILL)
        child.wait()
    assert sorted(row["query"] for row in ExchangeLog(home).recent()) == sorted(asked)
    assert {row["answer"] for row in ExchangeLog(home).recent()} == {ANSWER}
