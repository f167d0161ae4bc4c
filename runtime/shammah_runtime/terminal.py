"""Words on a terminal: colours where they are wanted, nothing that the model could use to drive it. Knows no tiers."""

import os
import sys
from typing import TextIO

from shammah_data.text import Sanitizer, printable

_DIM, _BOLD, _RESET = "\033[2m", "\033[1m", "\033[0m"


class Terminal:
    """Where answers and remarks go."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        plain = not self._out.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ
        self._styled = not plain
        self._at_start = True
        self._sanitizer = Sanitizer()

    def stream(self, piece: str) -> None:
        """Show a piece of an answer at once."""
        self._show(self._sanitizer.push(piece))

    def end(self) -> None:
        """Finish the line that an answer left open."""
        self._show(self._sanitizer.close())
        if not self._at_start:
            self._out.write("\n")
            self._at_start = True
        self._out.flush()

    def _show(self, shown: str) -> None:
        if shown:
            self._out.write(shown)
            self._out.flush()
            self._at_start = shown.endswith("\n")

    def remark(self, text: str) -> None:
        """A dim line about what happens."""
        self.end()
        line = printable(text)
        self._out.write(f"{_DIM}{line}{_RESET}\n" if self._styled else f"{line}\n")
        self._out.flush()

    def line(self, text: str) -> None:
        """A plain line."""
        self.end()
        self._out.write(printable(text) + "\n")
        self._out.flush()

    def prompt(self) -> str:
        """The text before the user's input."""
        if not self._styled:
            return "> "
        # The marks tell readline which characters take no room.
        return f"\001{_BOLD}\002> \001{_RESET}\002"
