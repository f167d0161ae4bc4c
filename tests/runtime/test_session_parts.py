"""What a session is made of, each part by itself: pastes, history, the sign of life, signals, what takes a while to make."""

import errno
import io
import json
import os
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.errors import InputError
from shammah_data.sessions import read, turns, whole, written
from shammah_runtime.editor import PASTE_BEGINS, PASTE_ENDS, PasteLimit
from shammah_runtime.history import MOST, History
from shammah_runtime.loading import LOADING, WhenLoaded
from shammah_runtime.proposal import STOPPED, Proposal, Query, declined
from shammah_runtime.signals import Signals
from shammah_runtime.spinner import Spinner, frame
from shammah_runtime.starting import Starting
from shammah_runtime.stopping import Stop
from shammah_runtime.terminal import Terminal

# -- pastes -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([PASTE_BEGINS, PASTE_ENDS, "abc", "\x1b", "\x1b[20", "x" * 30, "\r"]), max_size=12), st.data())
def test_a_paste_is_cut_and_nothing_else_is(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    whole = PasteLimit(20)
    expected = whole.through(text)
    limit, passed, at = PasteLimit(20), "", 0
    while at < len(text):
        step = data.draw(st.integers(1, 9))
        passed += limit.through(text[at : at + step])
        at += step
    assert passed == expected
    assert limit.characters == whole.characters
    if PASTE_BEGINS not in text:
        assert passed == text


def test_what_is_cut_is_counted() -> None:
    limit = PasteLimit(10)
    assert limit.through(f"a{PASTE_BEGINS}{'x' * 50}") == f"a{PASTE_BEGINS}{'x' * 11}"
    assert limit.through(f"yy{PASTE_ENDS}b") == f"{PASTE_ENDS}b"
    assert limit.characters == 52
    assert limit.through(f"{PASTE_BEGINS}c{PASTE_ENDS}") == f"{PASTE_BEGINS}c{PASTE_ENDS}"
    assert limit.characters == 1


# -- history ----------------------------------------------------------------------------------------------------------


def test_history_is_private_and_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    warned: list[str] = []
    history = History(path, lambda text: text.replace("hunter2", "[secret]"), warned.append)
    assert history.lines() == []
    history.add("one\ntwo \u7d05 \udc80")
    history.add("my word is hunter2")
    path.write_bytes(path.read_bytes() + b"not ours\n[1]\n\xff\n")
    assert history.lines() == ["one\ntwo \u7d05 ?", "my word is [secret]"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert warned == []


def test_history_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(b"%d\n" % n if n < 5 else json.dumps(str(n)).encode() + b"\n" for n in range(2 * MOST + 6)))
    history = History(path, str, print)
    assert history.lines() == [str(n) for n in range(MOST + 6, 2 * MOST + 6)]
    assert len(path.read_bytes().splitlines()) == MOST


def test_a_history_that_cannot_be_kept_is_said_once(tmp_path: Path) -> None:
    warned: list[str] = []
    history = History(tmp_path / "no" / "history.jsonl", str, warned.append)
    history.add("a")
    history.add("b")
    assert len(warned) == 1
    assert warned[0].startswith("what you type is not remembered: ")


# -- the sign of life -------------------------------------------------------------------------------------------------


def test_a_sign_of_life_is_taken_away_before_anything_else_is_shown() -> None:
    shown: list[str] = []
    now = [0.0]
    spinner = Spinner(shown.append, lambda: "loading", clock=lambda: now[0])
    now[0] = 1.25
    spinner.draw()
    spinner.end()
    spinner.draw()
    spinner.end()
    assert shown == [frame(1.25, "loading"), ""]
    assert frame(1.25, "loading") == "\u2839 loading 1 s"
    assert frame(0.0, unicode=False) == "| 0 s"


class Window(io.StringIO):
    """A terminal that can be closed."""

    closed_by_user = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.closed_by_user:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_is_gone_takes_no_more_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Window()
    terminal = Terminal(out, lambda: 40)
    terminal.stream("a\n")
    out.closed_by_user = True
    terminal.stream("b\n")
    assert terminal.gone
    out.closed_by_user = False
    terminal.remark("c")
    assert out.getvalue() == "a\n"


# -- signals ----------------------------------------------------------------------------------------------------------


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_ctrl_c_is_raised_at_the_prompt_and_a_wish_elsewhere() -> None:
    with Signals() as signals:
        press()  # between the two: nothing
        with pytest.raises(KeyboardInterrupt):
            signals.read(lambda: press() or "never")  # type: ignore[func-returns-value]
        press()
        with signals.answering() as stop:
            assert not stop.asked()
            press()
            assert stop.asked()
            press()
            with pytest.raises(KeyboardInterrupt):
                press()  # the third time it is an order
        with signals.answering() as stop:
            assert not stop.asked()
        assert signals.ended == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_wish_to_end_is_kept(number: signal.Signals) -> None:
    woken: list[BaseException] = []
    with Signals() as signals:
        with signals.answering() as stop:
            press(number)
            assert stop.asked()
        with pytest.raises(EOFError):
            signals.read(lambda: "never")
        with signals.answering() as stop:
            assert stop.asked()
        assert signals.ended == number
    with Signals() as signals:
        assert signals.read(lambda: press(number) or "line", woken.append) == "line"  # type: ignore[func-returns-value]
        assert [type(error) for error in woken] == [EOFError]


def test_a_terminal_that_is_gone_is_a_hang_up_even_without_the_signal() -> None:
    def fail(number: int) -> str:
        raise OSError(number, "no")

    with Signals() as signals:
        with pytest.raises(OSError, match="no"):
            signals.read(lambda: fail(errno.ENOSPC))
        assert signals.ended == 0
        with pytest.raises(EOFError):
            signals.read(lambda: fail(errno.EIO))
        assert signals.ended == signal.SIGHUP


# -- what takes a while -----------------------------------------------------------------------------------------------


def test_it_is_made_once_and_its_error_reaches_whoever_wants_it() -> None:
    made: list[int] = []
    starting = Starting(lambda: made.append(1) or len(made))  # type: ignore[func-returns-value]
    assert starting.made is None
    starting.begin()
    assert (starting.get(), starting.get(), made) == (1, 1, [1])
    assert starting.made is not None

    def broken() -> int:
        raise InputError("no")

    failed: list[str] = []
    starting = Starting(broken, lambda: failed.append("told"))
    starting.check()
    for call in (starting.get, starting.check):
        with pytest.raises(InputError):
            call()
    assert (failed, starting.made) == (["told"], None)


class Answering:
    """A tier that answers."""

    def propose(self, query: Query) -> Proposal:
        return declined("neural", "asked")


@pytest.mark.parametrize(
    ("patient", "ready", "stopped", "reason"),
    [
        (True, [False, False, False, True], False, "asked"),
        (True, [False] * 100, True, STOPPED),
        (False, [False], False, LOADING),
        (False, [True, True], False, "asked"),
    ],
)
def test_the_first_query_waits_or_goes_on(patient: bool, ready: list[bool], stopped: bool, reason: str) -> None:
    stop = Stop()
    if stopped:
        stop.ask()
    tier = WhenLoaded(Answering(), lambda _: ready.pop(0), lambda _: patient, declined("neural", LOADING))
    proposal = tier.propose(Query("q", stop=stop))
    assert proposal is not None
    assert proposal.attempt.reason == reason


# -- saved conversations ----------------------------------------------------------------------------------------------


def test_a_saved_conversation_is_read_as_it_was() -> None:
    rows = [
        {"complete": True, "answer": "b", "query": "a", "withdrawn": False, "correction": None, "context": "[]"},
        {"complete": False, "answer": "half", "query": "c", "withdrawn": False, "correction": None, "context": "[]"},
        {"complete": True, "answer": "e", "query": "d\n\u7d05", "withdrawn": False, "correction": "f", "context": "[]"},
        {"complete": True, "answer": "h", "query": "g", "withdrawn": True, "correction": "i", "context": "[]"},
    ]
    said = turns(whole(rows))
    assert [message.content for message in said] == ["a", "b", "d\n\u7d05", "f", "g", "h"]
    assert [message.role for message in said] == ["user", "assistant"] * 3
    assert read(written(said)) == said
    assert written(said).count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"messages": 3}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": "a"}]}',
        '{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "a"}]}',
        '{"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": "a"}]}',
    ],
)
def test_what_is_no_saved_conversation_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="it holds no conversation"):
        read(text)
