"""Words on a terminal: Markdown and colours where they are wanted, nothing that could drive it. Knows no tiers."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from shammah_data.command import GONE
from shammah_data.errors import ShammahError
from shammah_data.text import Sanitizer, one_line, printable
from shammah_runtime.spinner import Spinner

if TYPE_CHECKING:
    from shammah_runtime.markdown import Markdown

_DIM, _RESET = "\033[2m", "\033[0m"
# To the beginning of the line, and erase it (ECMA-48, 8.3.41).
_ERASE = "\r\033[K"


class Terminal:
    """Where answers and remarks go. `gone` is set once nobody reads any more: then nothing is written, and nothing raised.

    `columns()` tells the width. Answers go through as they are where the output is no terminal, or a dumb one.
    """

    def __init__(self, out: TextIO | None = None, columns: Callable[[], int] | None = None) -> None:
        self._out = out or sys.stdout
        self._columns = columns or self._width
        self.is_terminal = self._out.isatty()
        self.dumb = not self.is_terminal or os.environ.get("TERM", "dumb") in ("", "dumb")
        self._styled = not self.dumb and "NO_COLOR" not in os.environ
        self.gone = False
        self._failure = ""
        self._at_start = True
        self._sanitizer = Sanitizer()
        self._markdown: Markdown | None = None
        self._spinner: Spinner | None = None

    def _width(self) -> int:
        # The window as it is now, before what the environment says it was at the start.
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns

    def stream(self, piece: str) -> None:
        """Show a piece of an answer at once."""
        self._show(self._sanitizer.push(piece))

    def end(self) -> None:
        """Finish the line that an answer left open."""
        self._show(self._sanitizer.close())
        if self._markdown is not None:
            self._write(self._markdown.close())
            self._at_start = self._markdown.at_start
            self._markdown = None
        if not self._at_start:
            self._write("\n")
            self._at_start = True

    def check(self) -> None:
        """Raise ShammahError if something could not be written although somebody may still read."""
        if self._failure:
            raise ShammahError(f"the answer cannot be written: {self._failure}")

    @contextmanager
    def waiting(self, told: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Show a sign of life while the first words of an answer are awaited; `told()` says what for."""
        if self._styled:
            unicode = (getattr(self._out, "encoding", None) or "").lower().replace("-", "") == "utf8"
            self._spinner = Spinner(self._spin, told, unicode)
            self._spinner.start()
        try:
            yield
        finally:
            self._end_spinner()

    def remark(self, text: str) -> None:
        """A dim line about what happens."""
        self._end_spinner()
        self.end()
        line = self._fitted(text)
        self._write(f"{_DIM}{line}{_RESET}\n" if self._styled else f"{line}\n")

    def line(self, text: str) -> None:
        """A plain line."""
        self._end_spinner()
        self.end()
        self._write(self._fitted(text) + "\n")

    def _fitted(self, text: str) -> str:
        shown = printable(text)
        if not self._styled:
            return shown
        from shammah_runtime.markdown import wrapped

        return wrapped(shown, self._columns())

    def _show(self, shown: str) -> None:
        if not shown:
            return
        self._end_spinner()
        if not self._styled:
            self._write(shown)
            self._at_start = shown.endswith("\n")
            return
        if self._markdown is None:
            from shammah_runtime.markdown import Markdown

            self._markdown = Markdown(self._columns)
        self._write(self._markdown.push(shown))

    def _spin(self, text: str) -> None:
        room = max(1, self._columns() - 1)
        self._write(f"{_ERASE}{_DIM}{one_line(text, room)}{_RESET}" if text else _ERASE)

    def _end_spinner(self) -> None:
        spinner, self._spinner = self._spinner, None
        if spinner is not None:
            spinner.end()

    def _write(self, text: str) -> None:
        if not text or self.gone:
            return
        try:
            self._out.write(text)
            self._out.flush()
        except OSError as error:
            # What is under way must still reach the log.
            self.gone = True
            if error.errno not in GONE:
                self._failure = error.strerror or str(error)
