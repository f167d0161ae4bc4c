"""shammah-serve on a pseudo-terminal, as a user sees it: prompt, keys, streaming, Ctrl-C, Ctrl-D, signals, resizing."""

import functools
import json
import random
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.screen import Screen
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.exchange import Exchange
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection

Start = Callable[..., Screen]
TEXT = "# Tea\n\nTake **black** tea, \u7d05\u8336 in Japanese \U0001f375, and `boil` water."
MARKDOWN = f"{TEXT}\n\n```sh\nkettle --on\n```\n- pour\n- wait"
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
# /stats never ends, with the log open, and each Ctrl-C that reaches the session is told.
COUNTLESS = """
import signal
import threading
from shammah_runtime import commands
from shammah_runtime.cli import main
from shammah_runtime.signals import Signals

taken, presses = Signals._on, []

def take(signals, number, frame):
    if number == signal.SIGINT and signals._wake is None:
        presses.append(number)
        print(f"press {len(presses)}", flush=True)
    taken(signals, number, frame)

Signals._on = take

def savings(log):
    print("under way", flush=True)
    threading.Event().wait()

commands.savings = savings
main()
"""


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    """Open sessions on the test's home; each one at its first prompt."""
    started: list[Screen] = []

    def spawn(*arguments: str, **shape: Any) -> Screen:
        screen = Screen(arguments=arguments, **shape)
        started.append(screen)
        screen.until_prompt()
        return screen

    yield spawn
    for screen in started:
        screen.close()


def ask(screen: Screen, text: str) -> str:
    """What a line brings, up to the next prompt."""
    begun = f"> {text[:10]}"
    before = screen.text.count(begun)
    screen.ask(text)
    screen.until(lambda: screen.text.count(begun) > before and screen.at_prompt)
    brought = screen.text.rpartition(begun)[2]
    for letter in text[10:]:
        # Where the line was too long for the screen, it goes on in the next one.
        brought = brought.lstrip("\n").removeprefix(letter)
    return brought.strip("\n")


def shows(screen: Screen, line: str) -> bool:
    """Whether this is the last line there is."""
    return screen.text.splitlines()[-1] == line


def leave(screen: Screen) -> int:
    screen.press("\x04")
    return screen.end()


def test_a_session(start: Start, home: Home, tiny: Tiny, claude: FakeClaude) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    screen = start(columns=240)
    assert "Shammah. Ask anything; /help lists the commands." in screen.text
    answer = ask(screen, TAUGHT)
    assert answer.startswith(f"{TAUGHT_ANSWER}\nteacher \u00b7 claude-sonnet-5-5 \u00b7 ")
    assert b"\x1b[2mteacher" in screen.raw
    assert [turn["content"] for turn in claude.requests[0].body["messages"]] == [TAUGHT]
    assert claude.requests[0].key == "test"
    why = ask(screen, "/why")
    assert [line.split()[:2] for line in why.splitlines()[:4]] == [
        ["neural", "declined"],
        ["learned", "declined"],
        ["template", "declined"],
        ["teacher", "accepted"],
    ]
    assert ask(screen, "/good").startswith("noted: right")
    assert ask(screen, "/fix Bring nothing.").startswith("noted: this is what it will learn")
    assert "exchanges  1, of which " in ask(screen, "/status")
    screen.press("not asked\x03")
    screen.until_prompt()
    assert ask(screen, TAUGHT).startswith("Bring nothing.\nlearned")
    assert leave(screen) == 0
    later, first = ExchangeLog(home).recent()
    assert (first["answer"], first["rating"], first["correction"]) == (TAUGHT_ANSWER, "bad", "Bring nothing.")
    assert (later["tier"], later["answer"]) == ("learned", "Bring nothing.")
    assert claude.calls == 1


def test_a_first_line_may_be_typed_before_anything_is_loaded(start: Start, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    screen = start("--offline")
    assert ANSWER in ask(screen, QUESTION)


def test_keys(start: Start, home: Home) -> None:
    """Several lines, a paste of several lines, completion, and what was typed before, also by an earlier session."""
    screen = start("--offline")
    screen.press("one\\\rtwo\x1b\rthree\x1b[200~ and\r\nfour\x1b[201~\r")
    screen.until(lambda: "error:" in screen.text and screen.at_prompt)
    screen.press("/sto\x7fa\t\t")
    screen.until_text("/stats  /status")
    screen.press("\x03")
    screen.until_prompt()
    screen.press("/cri\t")
    screen.until_text("> /critical")
    screen.press("\x03")
    screen.until_prompt()
    for line in ("/privat secretword", "/clear secretword"):
        ask(screen, line)
    screen.press("\x1b[A")
    screen.until_text("> /clear secretword")  # to be spelt right
    screen.press("\x03")
    screen.until_prompt()
    ask(screen, "/private")
    ask(screen, "hello")
    assert leave(screen) == 0
    assert [row["query"] for row in ExchangeLog(home).recent()] == ["one\ntwo\nthree and\nfour"]
    assert [json.loads(line) for line in home.history.read_text(encoding="utf-8").splitlines()] == [
        "one\ntwo\nthree and\nfour",
        "/private",
    ]
    assert stat.S_IMODE(home.history.stat().st_mode) == 0o600
    again = start("--offline")
    again.press("\x1b[A")
    again.until_text("> /private")
    again.press("\x1b[A")
    again.until_text("> one")
    assert "\n  two\n  three and\n  four" in again.text


def test_what_another_process_forgets_is_offered_no_more(start: Start, home: Home) -> None:
    screen = start("--offline")
    for line in ("Who is ill?", "Who is Marta?", "/clear it"):
        ask(screen, line)
    log = ExchangeLog(home)
    forget(log, home, Selection(words=("Marta",)))
    ask(screen, "Who is well?")
    for expected in ("> Who is well?", "> /clear it", "> Who is ill?"):
        screen.press("\x1b[A")
        screen.until(functools.partial(shows, screen, expected))
    screen.press("\x03")
    screen.until_prompt()
    assert leave(screen) == 0


def test_a_huge_paste_is_refused_in_one_line(start: Start) -> None:
    screen = start("--offline")
    screen.press("\x1b[200~")
    for _ in range(10_000):
        screen.press(f"{'x' * 999}\n")
    screen.press("\x1b[201~")
    screen.until_text("is refused")
    assert "a paste of 10000000 characters is refused; the most is 100000" in screen.text.replace("\n", "")
    screen.until_prompt()
    assert "Hello!" in ask(screen, "hello")


def test_markdown_as_it_streams_on_a_narrow_terminal(start: Start, claude: FakeClaude) -> None:
    claude.answers = {"How do I make tea?": MARKDOWN}
    screen = start(columns=20)
    shown = ask(screen, "How do I make tea?")
    # A text without spaces breaks anywhere, and a wide letter is never halved.
    told = "Tea\n\nTake black tea, \u7d05\n\u8336 in Japanese \U0001f375,\nand boil water.\n\n"
    assert shown.startswith(f"{told}```sh\nkettle --on\n```\n\u2022 pour\n\u2022 wait\nteacher")
    assert b"\x1b[1mblack\x1b[0m" in screen.raw
    assert b"\x1b[6n" not in screen.raw, "the editor asked where the cursor is"


def test_a_wait_is_shown_only_when_it_is_real(start: Start, home: Home, claude: FakeClaude) -> None:
    home.settings.write_text("[teacher]\nfirst_token_seconds = 600.0\ntotal_seconds = 600.0\n", encoding="utf-8")
    screen = start()
    assert "You are welcome." in ask(screen, "thanks")
    claude.fault = "slow_headers"
    screen.ask(TAUGHT)
    screen.until_text(" 1 s")
    screen.press("\x03")
    screen.until_prompt()
    assert "stopped" in screen.text
    assert " 1 s" not in screen.text


def test_a_dumb_terminal_gets_plain_lines(start: Start, claude: FakeClaude) -> None:
    claude.answers = {"How do I make tea?": MARKDOWN}
    screen = start(term="dumb")
    screen.ask("How do I make tea?")
    screen.until_text(" ms")
    assert "**black**" in screen.text
    assert b"\x1b" not in screen.raw


def test_sessions_resume(start: Start, claude: FakeClaude, home: Home) -> None:
    first = start()
    ask(first, TAUGHT)
    assert leave(first) == 0
    again = start("--continue")
    again.until(lambda: "continued: session " in again.text and again.at_prompt)
    ask(again, "And what else?")
    assert leave(again) == 0
    later, earlier = ExchangeLog(home).recent()
    assert (later["session"], later["turn"]) == (earlier["session"], 1)
    assert [turn["content"] for turn in json.loads(later["context"])] == [TAUGHT, TAUGHT_ANSWER]


def test_a_session_that_cannot_start_is_one_line(home: Home) -> None:
    ExchangeLog(home).append(Exchange("q", "a", "teacher", session="1234"))
    screen = Screen(arguments=("--session", "zz"), columns=200)
    assert screen.end() == 2
    assert "shammah-serve: no session 'zz'" in screen.text
    assert "Traceback" not in screen.text


# -- the session survives Ctrl-C and ends cleanly with the rest --------------------------------------------------------


def test_ctrl_c_stops_a_stalled_answer_and_keeps_the_session(start: Start, home: Home, claude: FakeClaude) -> None:
    claude.fault = "stall"
    screen = start()
    screen.ask(TAUGHT)
    screen.until_text("Bring")
    screen.press("\x03")
    screen.until_text("stopped; kept as incomplete, never trained on")
    screen.until_prompt()
    assert claude.hung_up.wait(30.0)
    assert "You are welcome." in ask(screen, "thanks")
    assert leave(screen) == 0
    _, stopped = ExchangeLog(home).recent()
    assert stopped["query"] == TAUGHT
    assert not stopped["complete"]
    assert stopped["answer"].startswith("Bring")


@pytest.mark.parametrize(("number", "where"), [(signal.SIGTERM, "prompt"), (signal.SIGHUP, "answer")])
def test_signals_end_it_and_what_was_under_way_is_logged(
    start: Start, home: Home, claude: FakeClaude, number: signal.Signals, where: str
) -> None:
    screen = start()
    ask(screen, "thanks")
    if where == "answer":
        claude.fault = "stall"
        screen.ask(TAUGHT)
        screen.until_text("Bring")
    screen.child.kill(number)
    assert screen.end() == 128 + number
    assert "Traceback" not in screen.text
    rows = ExchangeLog(home).recent()
    assert [row["query"] for row in rows] == ([TAUGHT] if where == "answer" else []) + ["thanks"]


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_a_window_that_closes_ends_it(start: Start, home: Home, claude: FakeClaude, where: str) -> None:
    """Nobody reads any more: what was asked and what is under way reach the log all the same."""
    screen = start()
    if where == "answer":
        claude.fault = "stall"
        screen.ask(TAUGHT)
        screen.until_text("Bring")
    else:
        ask(screen, TAUGHT)
    assert screen.hang_up() == 128 + signal.SIGHUP
    assert [row["query"] for row in ExchangeLog(home).recent()] == [TAUGHT]


def test_resizing_harms_nothing(start: Start, claude: FakeClaude) -> None:
    screen = start()
    for columns in (20, 200, 7, 80):
        screen.resize(columns, 24)
        screen.press("thanks")
        screen.read(0.2)
        screen.press("\x03")
        screen.until_prompt()
    claude.fault = "stall"
    screen.ask(TAUGHT)
    screen.until_text("Bring")
    screen.resize(30, 10)
    screen.press("\x03")
    screen.until_prompt()
    assert "You are welcome." in ask(screen, "thanks")
    assert leave(screen) == 0


@pytest.mark.parametrize("moments", [12, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_ctrl_c_at_random_moments(start: Start, home: Home, tiny: Tiny, claude: FakeClaude, moments: int) -> None:
    """Nothing tears the session or the log: each question is in it once, or not at all where nothing had been shown."""
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    dice = random.Random(7)
    claude.answers = lambda query: f"An answer to {query}: " + "word " * 30
    screen = start(columns=120)
    asked = []
    for n in range(moments):
        asked.append(f"Question number {n} please?")
        screen.press(f"{asked[-1]}\r")
        screen.read(dice.uniform(0.0, 0.3))
        screen.press("\x03")
        mark = f"Is it {n} there?"
        # Ctrl-C also empties what is being typed: this line is typed until it has come through.
        screen.until_prompt()
        screen.press(mark)
        screen.until(lambda mark=mark: f"> {mark}" in screen.text)  # type: ignore[misc]
        screen.press("\x03")
        screen.until_prompt()
    assert "You are welcome." in ask(screen, "thanks")
    assert leave(screen) == 0
    assert "Traceback" not in screen.text
    rows = ExchangeLog(home).recent(10 * moments)
    logged = [row["query"] for row in rows]
    assert len(logged) == len(set(logged))
    assert set(logged) <= {*asked, "thanks"}
    shown = [question for question in asked if f"An answer to {question}" in screen.text.replace("\n", "")]
    assert set(shown) <= set(logged)


def test_ctrl_c_while_the_model_answers_returns_the_prompt(start: Start, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    screen = start("--offline", program=("-c", ENDLESS))
    screen.ask(QUESTION)
    screen.until_text("under way")
    screen.press("\x03")
    screen.until(lambda: "stopped" in screen.text and screen.at_prompt)
    # The model is as it was, and nothing is kept of what was stopped.
    assert ask(screen, QUESTION).startswith(f"{ANSWER}\nneural")
    assert leave(screen) == 0
    assert [row["answer"] for row in ExchangeLog(home).recent()] == [ANSWER]


def test_the_third_ctrl_c_ends_a_command(start: Start, home: Home) -> None:
    screen = start("--offline", program=("-c", COUNTLESS))
    assert "Hello!" in ask(screen, "hello")
    screen.ask("/stats")
    screen.until_text("under way")

    # One at a time: the terminal throws away what was not read yet when the next one comes.
    for number in (1, 2, 3):
        assert "stopped" not in screen.text
        screen.press("\x03")
        screen.until_text(f"press {number}")
    screen.until_text("stopped")
    screen.until_prompt()
    # The log is free again.
    assert "You are welcome." in ask(screen, "thanks")
    assert ask(screen, "/bad").startswith("noted: wrong")
    assert leave(screen) == 0
    assert [row["query"] for row in ExchangeLog(home).recent()] == ["thanks", "hello"]


def test_a_kill_after_the_line_on_an_answer_loses_no_exchange(start: Start, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    asked = []
    for number in range(5):
        screen = start("--offline", columns=120)
        # Of several in a session, the last one counts as much as the first.
        for part in range(number % 2 + 1):
            asked.append(f"{QUESTION} ({number}.{part})")
            assert "neural" in ask(screen, asked[-1])
        screen.child.kill(signal.SIGKILL)
        screen.end()
    assert sorted(row["query"] for row in ExchangeLog(home).recent()) == sorted(asked)
    assert {row["answer"] for row in ExchangeLog(home).recent()} == {ANSWER}


def test_files_of_a_session_can_be_named_with_tab(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conversation.json").write_text("{}", encoding="utf-8")
    screen = start("--offline", columns=200)
    ask(screen, "hello")
    screen.press(f"/load {tmp_path}/conv\t")
    screen.until_text("conversation.json")
