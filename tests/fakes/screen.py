"""A user who looks at a terminal: types into a real `shammah-serve` and reads the screen as it then stands."""

import fcntl
import os
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pexpect
import pyte

PROMPT = "> "


class Screen:
    """An open `shammah-serve` on a pseudo-terminal that pyte draws; `raw` is every byte that came."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        columns: int = 80,
        lines: int = 24,
        term: str = "xterm",
        program: Sequence[str] = ("-m", "shammah_runtime.cli"),
    ) -> None:
        given = {**os.environ, "TERM": term, "PYTHONUTF8": "1", **(environment or {})}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            given.pop(name, None)
        self.screen: Any = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream: Any = pyte.ByteStream(self.screen)
        self.raw = b""
        self.began = time.monotonic()
        self.child: Any = pexpect.spawn(
            sys.executable, [*program, *arguments], env=given, dimensions=(lines, columns), timeout=60
        )
        self.child.delaybeforesend = None

    @property
    def lines(self) -> list[str]:
        """What is on the screen and was scrolled off it, without the blanks at the ends."""
        width = self.screen.columns
        past = ["".join(row[n].data for n in range(width)).rstrip() for row in self.screen.history.top]
        return [*past, *(row.rstrip() for row in self.screen.display)]

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines).rstrip()

    @property
    def at_prompt(self) -> bool:
        """Whether the cursor stands behind an empty prompt."""
        row = self.screen.display[self.screen.cursor.y]
        return bool(row.rstrip() == PROMPT.rstrip() and self.screen.cursor.x == len(PROMPT))

    def read(self, seconds: float = 0.05) -> bool:
        """Draw what has come within so many seconds; False at the end of it all."""
        ready, _, _ = select.select([self.child.fileno()], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.child.fileno(), 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Draw until something is to be seen."""
        waited = 0.0
        before = time.monotonic()
        while not condition():
            if not self.read() and not condition():
                raise AssertionError(f"it ended:\n{self.text}")
            # While the machine stood still, the session did too: that counts as one look, not as time it had.
            now = time.monotonic()
            waited += min(now - before, 1.0)
            before = now
            if waited > seconds:
                raise AssertionError(f"not within {seconds:g} s:\n{self.text}")

    def until_text(self, text: str) -> None:
        """Draw until a text is to be seen."""
        self.until(lambda: text in self.text)

    def until_prompt(self) -> None:
        """Draw until the next prompt."""
        self.until(lambda: self.at_prompt)

    def press(self, keys: str) -> None:
        """Press keys; Enter is a carriage return."""
        self.child.send(keys)

    def ask(self, text: str) -> None:
        """Type a line and send it."""
        self.press(f"{text}\r")

    def resize(self, columns: int, lines: int) -> None:
        """Change the window's size, as a terminal does."""
        fcntl.ioctl(self.child.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def end(self, seconds: float = 60.0) -> int:
        """Wait for the end; the exit status, or minus the signal that killed it."""
        last = time.monotonic() + seconds
        while self.read() and time.monotonic() < last:
            pass
        self.child.close(force=time.monotonic() >= last)
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)

    def hang_up(self) -> int:
        """Close the window; the exit status of what ran in it, or minus the signal that killed it."""
        self.child.ptyproc.fileobj.close()
        _, status = os.waitpid(self.child.pid, 0)
        self.child.ptyproc.terminated = True
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End it by force, if it has not ended."""
        if not self.child.ptyproc.terminated:
            self.child.close(force=True)
