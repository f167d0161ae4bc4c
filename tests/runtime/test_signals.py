"""Presses of Ctrl-C while a command or an answer is under way."""

import os
import signal

import pytest

from shammah_runtime.signals import Signals


def press() -> None:
    """Ctrl-C, taken before this returns."""
    os.kill(os.getpid(), signal.SIGINT)


def test_two_presses_are_a_wish_and_the_third_an_order() -> None:
    with Signals() as signals, signals.answering() as stop:
        press()
        assert stop.asked()
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_a_press_too_many_leaves_what_the_order_ends_to_end() -> None:
    ended = []

    def serve() -> None:
        with Signals() as signals, signals.answering():
            press()
            press()
            try:
                press()
            finally:
                # A user who waits presses on.
                press()
                press()
                ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        serve()
    assert ended


def test_each_answer_counts_its_own_presses() -> None:
    with Signals() as signals:
        for _ in range(3):
            with signals.answering() as stop:
                press()
                press()
                assert stop.asked()
