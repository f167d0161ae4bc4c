"""What Ctrl-C and the wish to end mean for a session at any moment: nothing that is being written is torn by them.

At the prompt, Ctrl-C begins a new line; elsewhere it is a wish that the answer under way meets when it can. SIGTERM and SIGHUP
end the session after that. Knows signals, no terminal and no tiers.
"""

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from shammah_runtime.stopping import Stop

Wake = Callable[[BaseException], None]
# So often one presses it where the answer does not heed the wish, and then it is an order.
_ORDER = 3
# Windows has no such signal.
_HUNG_UP = int(getattr(signal, "SIGHUP", 1))


def throw(error: BaseException) -> None:
    """Wake a reader that a raised exception wakes."""
    raise error


class Signals:
    """Takes the signals over while it is entered; `ended` is the one that ends the session, 0 until it comes."""

    def __init__(self) -> None:
        self.ended = 0
        self._wake: Wake | None = None
        self._stop: Stop | None = None
        self._presses = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python lets only this thread take signals.
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                if (number := getattr(signal, name, None)) is not None:
                    self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    def read(self, read: Callable[[], str], wake: Wake = throw) -> str:
        """What `read()` gives; `wake` is called with KeyboardInterrupt or EOFError to end it. Raises either.

        A terminal that is gone is a hang-up, whether or not the signal comes.
        """
        try:
            self._wake = wake
            if self.ended:
                raise EOFError
            return read()
        except OSError as error:
            # A window that is closed fails its reader, sooner or later than the signal comes.
            if error.errno != errno.EIO:
                raise
            self.ended = self.ended or _HUNG_UP
            raise EOFError from error
        finally:
            self._wake = None

    @contextmanager
    def answering(self) -> Iterator[Stop]:
        """The wish to stop that an answer or a command is to heed; the answer that a command asks for has one of its own."""
        stop, before = Stop(), self._stop
        self._presses = 0
        self._stop = stop
        if self.ended:
            stop.ask()
        try:
            yield stop
        finally:
            self._stop = before
            self._presses = 0

    def _on(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGINT:
            self.ended = number
        # Once only: what is raised here may come while its reader already ends.
        wake, self._wake = self._wake, None
        if wake is not None:
            wake(KeyboardInterrupt() if number == signal.SIGINT else EOFError())
        elif self._stop is not None:
            self._stop.ask()
            self._presses += 1
            # Not each one from then on: what the order ends is given the time to end.
            if self._presses % _ORDER == 0:
                raise KeyboardInterrupt
