"""A sign of life on the last line while an answer is awaited, once the wait is real. Knows one line, no answers."""

import threading
import time
from collections.abc import Callable

# Nobody minds a shorter wait, and a sign that flashes up is worse than none.
WAIT_SECONDS = 0.3
_FRAME_SECONDS = 0.1
_FRAMES = {True: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", False: "|/-\\"}


class Spinner:
    """Draws from a thread of its own until it is told to end; whoever else writes ends it first.

    `show(text)` replaces the line by a text; `told()` says what is waited for.
    """

    def __init__(
        self,
        show: Callable[[str], None],
        told: Callable[[], str] = lambda: "",
        unicode: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._told = told
        self._unicode = unicode
        self._clock = clock
        self._began = clock()
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        self._drawn = False
        self._thread = threading.Thread(target=self._spin, name="spinner", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def end(self) -> None:
        """Take the sign away, if it was shown; a second time does nothing."""
        with self._drawing:
            self._ended.set()
            if self._drawn:
                self._show("")
                self._drawn = False

    def draw(self) -> None:
        """Show the sign as it is now, unless it has ended."""
        with self._drawing:
            if not self._ended.is_set():
                self._show(frame(self._clock() - self._began, self._told(), self._unicode))
                self._drawn = True

    def _spin(self) -> None:
        wait = WAIT_SECONDS
        while not self._ended.wait(wait):
            self.draw()
            wait = _FRAME_SECONDS


def frame(seconds: float, told: str = "", unicode: bool = True) -> str:
    """The sign after so many seconds of waiting."""
    frames = _FRAMES[unicode]
    return " ".join(part for part in (frames[int(seconds / _FRAME_SECONDS) % len(frames)], told, f"{seconds:.0f} s") if part)
