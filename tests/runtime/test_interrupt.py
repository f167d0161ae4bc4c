"""Ctrl-C while the model answers: the answer ends at once, and the next one begins as if nothing had been."""

import os
import signal
import threading

import pytest

from fakes.versions import Tiny
from shammah_runtime.engine.decoder import Generated
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.neural import interruptible

PROMPT = [3, 1, 4, 1, 5]


def test_ctrl_c_ends_an_answer_and_leaves_the_model_usable(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    wanted = decoder.generate(PROMPT, Decoding(max_tokens=20))
    under_way, ended = threading.Event(), threading.Event()

    def answer() -> Generated:
        try:
            # Each token waits until Ctrl-C was pressed: the answer cannot end before it.
            return decoder.generate(PROMPT, Decoding(max_tokens=200), on_token=lambda *_: pressed())
        finally:
            ended.set()

    def pressed() -> None:
        if not under_way.is_set():
            under_way.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interruptible(decoder, answer)
    assert under_way.is_set()
    assert ended.is_set()
    assert decoder.generate(PROMPT, Decoding(max_tokens=20)).ids == wanted.ids


def test_an_error_comes_to_the_one_who_asked(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())

    def fail() -> Generated:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        interruptible(decoder, fail)
