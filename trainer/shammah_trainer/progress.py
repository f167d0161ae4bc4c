"""Progress of a run: a bar on a terminal, plain lines in a log. Knows how to say it, not what is done."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from shammah_data.text import counted, printable

if TYPE_CHECKING:
    from shammah_trainer.loop import Progress

_LINE_SECONDS = 10.0


class Reporter:
    """Says what happens on one stream (default: standard error)."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._bar: Any = None
        self._said_at = float("-inf")

    def say(self, text: str) -> None:
        """One line."""
        self.end()
        print(printable(text), file=self._stream, flush=True)

    def training(self, progress: "Progress") -> None:
        """A step of the fine-tuning."""
        speed = f"{progress.tokens_per_second:.0f} tokens/s"
        if self._terminal:
            bar = self._open("train", progress.steps)
            bar.set_postfix_str(f"{counted(progress.examples, 'example')}, loss {progress.loss:.3f}, {speed}", refresh=False)
            bar.update(progress.step - bar.n)
        elif self._due(progress.step == progress.steps):
            left = f"{progress.seconds_left:.0f} s left"
            print(
                f"train: step {progress.step}/{progress.steps}, {counted(progress.examples, 'example')}, "
                f"loss {progress.loss:.3f}, {speed}, {left}",
                file=self._stream,
                flush=True,
            )

    def counter(self, name: str) -> Callable[[int, int], None]:
        """A function that reports `done` of `total`."""

        def report(done: int, total: int) -> None:
            if self._terminal:
                bar = self._open(name, total)
                bar.update(done - bar.n)
            elif self._due(done == total):
                print(f"{name}: {done}/{total}", file=self._stream, flush=True)

        self.end()
        return report

    def end(self) -> None:
        """Close the bar that is open."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._said_at = float("-inf")

    def _open(self, name: str, total: int) -> Any:
        if self._bar is None:
            from tqdm import tqdm

            # `disable` is given, as the command line sets TQDM_DISABLE against other libraries' bars.
            self._bar = tqdm(total=total, desc=name, file=self._stream, disable=False, leave=True, dynamic_ncols=True)
        return self._bar

    def _due(self, last: bool) -> bool:
        now = self._clock()
        if last or now - self._said_at >= _LINE_SECONDS:
            self._said_at = now
            return True
        return False
