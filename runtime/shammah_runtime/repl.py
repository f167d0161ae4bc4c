"""The terminal session: a prompt, answers, and a line on where each came from. Knows no tier from inside."""

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from shammah_data.errors import ShammahError, reason
from shammah_data.settings import LONGEST_QUERY
from shammah_runtime.history import History
from shammah_runtime.signals import Signals, throw
from shammah_runtime.starting import Starting
from shammah_runtime.terminal import Terminal

if TYPE_CHECKING:
    from shammah_data.home import Home
    from shammah_runtime.appliance import Appliance
    from shammah_runtime.cascade import Reply
    from shammah_runtime.commands import Commands
    from shammah_runtime.proposal import Asked
    from shammah_runtime.signals import Wake

PROMPT = "> "
BANNER = "Shammah. Ask anything; /help lists the commands."


class Repl:
    """Reads lines until the end of input, with `read` from a file or a pipe and with an editor on a terminal.

    The appliance is first wanted once there is something to answer; an editor has it begun once the prompt is there.
    """

    def __init__(
        self,
        starting: "Starting[Appliance]",
        terminal: Terminal,
        read: Callable[[str], str] = input,
        signals: Signals | None = None,
    ) -> None:
        self._starting = starting
        self._terminal = terminal
        self._read = read
        self._wake: Wake = throw
        self._edited = False
        self._signals = signals or Signals()
        self._commands: Commands | None = None
        self._notes: deque[str] = deque()
        self._interject: Callable[[], None] = lambda: None

    def edit(self, home: "Home", keep: bool) -> None:
        """Read with an editor; `keep`: whether what is typed may be remembered."""
        from shammah_runtime.editor import Editor

        history = History(home.history, lambda text: self._starting.get().log.clean(text), self.note)
        editor = Editor(
            history,
            keep=lambda: keep and not self._private,
            refused=_refused,
            complete=self._complete,
            most=LONGEST_QUERY,
            refuse=lambda characters: f"a paste of {characters} characters is refused; the most is {LONGEST_QUERY}",
            say=self._terminal.remark,
            ready=self._starting.begin,
        )
        self._read, self._wake, self._edited = editor.read, editor.wake, True
        self._interject = lambda: editor.interject(self._tell)
        # What cannot be made ends the session, which waits at its prompt.
        self._starting.failed = lambda: editor.wake(EOFError())

    def note(self, text: str) -> None:
        """Say something before the next prompt or above the one that waits, from any thread."""
        self._notes.append(text)
        self._interject()

    @property
    def _private(self) -> bool:
        appliance = self._starting.made
        return appliance is not None and appliance.conversation.private

    def _complete(self, text: str) -> list[str]:
        from shammah_runtime.commands import names

        appliance = self._starting.made
        return names(text) if appliance is None else self._begun(appliance).complete(text)

    def _begun(self, appliance: "Appliance") -> "Commands":
        if self._commands is None:
            # Here and not above: the first prompt need not wait for it.
            from shammah_runtime.commands import Commands

            self._commands = Commands(appliance, self._terminal, self._ask)
        return self._commands

    def run(self) -> None:
        """Serve until /quit, the end of input or a signal to end; an error of one query never ends the session.

        Raises what starting the appliance raised.
        """
        if not self._edited:
            self._starting.get()
        while not self._signals.ended and not self._terminal.gone:
            self._tell()
            try:
                line = self._signals.read(lambda: self._read(PROMPT), self._wake).strip()
            except EOFError:
                self._starting.check()
                if not self._edited:
                    self._terminal.line("")
                return
            except KeyboardInterrupt:
                if not self._edited:
                    self._terminal.line("")
                continue
            if line == "/quit":
                return
            if line:
                self._serve(line)

    def _tell(self) -> None:
        while self._notes:
            self._terminal.remark(self._notes.popleft())
        if (appliance := self._starting.made) is not None:
            for note in appliance.models.notes():
                self._terminal.remark(note)

    def _serve(self, line: str) -> None:
        commands = self._begun(self._starting.get())
        try:
            # Some read the log, or a file, for as long as it takes.
            with self._signals.answering():
                done = commands.run(line)
            if not done:
                self._ask(line, commands.which())
        except ShammahError as error:
            self._terminal.remark(f"error: {error}")
        except (KeyboardInterrupt, InterruptedError):
            self._terminal.remark("stopped")
        except OSError as error:
            self._terminal.remark(f"error: {reason(error)}")

    def _ask(self, text: str, which: "Asked") -> None:
        appliance = self._starting.get()
        with self._signals.answering() as stop, self._terminal.waiting(lambda: waited_for(appliance)):
            reply = appliance.conversation.ask(text, self._terminal.stream, which, stop, self._terminal.remark)
        self._terminal.end()
        self._tell()
        if reply.interrupted:
            self._terminal.remark("stopped; kept as incomplete, never trained on")
        elif reply.error:
            self._terminal.remark(f"error: {reply.error}")
        else:
            self._terminal.remark(summary(reply))


def _refused(line: str) -> bool:
    from shammah_runtime.commands import refused

    return refused(line) is not None


def waited_for(appliance: "Appliance") -> str:
    """What an answer waits for, in words."""
    return "" if appliance.models.wait(0.0) else "the model is loading"


def summary(reply: "Reply") -> str:
    """One line on an answer: tier, confidence where there is one, milliseconds."""
    from shammah_runtime.neural import exchanges_left_out

    attempt = reply.proposal.attempt
    parts: list[str] = [attempt.tier]
    if attempt.confidence is not None:
        parts.append(f"confidence {attempt.confidence:.2f}")
    if reply.proposal.model_version:
        parts.append(reply.proposal.model_version)
    if reply.proposal.teacher_model:
        parts.append(reply.proposal.teacher_model)
    if not reply.proposal.complete:
        parts.append(f"incomplete ({attempt.reason})")
    if reply.proposal.left_out:
        parts.append(exchanges_left_out(reply.proposal.left_out))
    return " · ".join([*parts, f"{reply.latency_ms:.0f} ms"])


def open_session(home: "Home", make: "Callable[[Callable[[str], None]], Appliance]", keep: bool) -> int:
    """Serve a terminal or a pipe; `make(warn)` makes the appliance. Returns the signal that ended it, or 0."""
    terminal = Terminal()
    with Signals() as signals:
        repl: Repl
        starting: Starting[Appliance] = Starting(lambda: make(repl.note))
        repl = Repl(starting, terminal, signals=signals)
        if sys.stdin.isatty() and not terminal.dumb:
            repl.edit(home, keep)
        if sys.stdin.isatty():
            terminal.remark(BANNER)
        try:
            repl.run()
        finally:
            if (appliance := starting.made) is not None:
                appliance.close(patient=False)
        terminal.check()
        return signals.ended
