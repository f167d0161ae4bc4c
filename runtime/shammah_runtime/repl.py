"""The terminal session: a prompt, answers, a line on where each came from, and commands. Knows no tier from inside."""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from shammah_data.errors import ShammahError
from shammah_data.exchange import Attempt
from shammah_data.settings import ServeSettings
from shammah_runtime.appliance import Appliance
from shammah_runtime.cascade import Reply
from shammah_runtime.neural import exchanges_left_out
from shammah_runtime.status import status_lines
from shammah_runtime.terminal import Terminal

HELP = """\
/why        which tiers were tried for the last answer, and why each did or did not answer
/good       the last answer was right
/bad        the last answer was wrong; it is never trained on
/fix TEXT   what the last answer should have been; it is trained on instead
/private    keep nothing of what follows, until /private again
/set        how the local model's answers are drawn; /set NAME VALUE changes it until the session ends
/status     the version that serves, exchanges per tier, and how many wait for training
/help       this list
/quit       leave (so does Ctrl-D); Ctrl-C stops an answer"""


class Repl:
    """Reads lines until the end of input."""

    def __init__(self, appliance: Appliance, terminal: Terminal, read: Callable[[str], str] = input) -> None:
        self._appliance = appliance
        self._conversation = appliance.conversation
        self._terminal = terminal
        self._read = read
        self._commands: dict[str, Callable[[str], None]] = {
            "/why": self._why,
            "/good": lambda rest: self._rate("good", rest),
            "/bad": lambda rest: self._rate("bad", rest),
            "/fix": self._fix,
            "/private": self._private,
            "/set": self._set,
            "/status": self._status,
            "/help": lambda _: self._terminal.line(HELP),
        }

    def run(self) -> None:
        """Serve until /quit or the end of input; an error of one query never ends the session."""
        if sys.stdin.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - importing it gives `input` editing and history
            self._terminal.remark("Shammah. Ask anything; /help lists the commands.")
        while True:
            for note in self._appliance.models.notes():
                self._terminal.remark(note)
            try:
                line = self._read(self._terminal.prompt()).strip()
            except EOFError:
                self._terminal.line("")
                return
            except KeyboardInterrupt:
                self._terminal.line("")
                continue
            if line == "/quit":
                return
            if line:
                self._serve(line)

    def _serve(self, line: str) -> None:
        try:
            if line.startswith("/") and (known := self._commands.get(line.split()[0])):
                known(line[len(line.split()[0]) :].strip())
            elif line.startswith("/") and line[1:].isalpha():
                self._terminal.line(f"unknown command {line}; /help lists the commands")
            else:
                self._ask(line)
        except ShammahError as error:
            self._terminal.remark(f"error: {error}")
        except KeyboardInterrupt:
            self._terminal.remark("stopped")

    def _ask(self, text: str) -> None:
        reply = self._conversation.ask(text, self._terminal.stream)
        self._terminal.end()
        for note in self._appliance.models.notes():
            self._terminal.remark(note)
        if reply.interrupted:
            self._terminal.remark("stopped; kept as incomplete, never trained on")
        elif reply.error:
            self._terminal.remark(f"error: {reply.error}")
        else:
            self._terminal.remark(summary(reply))

    def _why(self, _: str) -> None:
        if self._conversation.last is None:
            self._terminal.line("nothing has been asked yet")
            return
        for attempt in self._conversation.last[1].attempts:
            self._terminal.line(explained(attempt))

    def _rate(self, rating: str, _: str) -> None:
        self._conversation.rate("good" if rating == "good" else "bad")
        self._terminal.remark(
            "noted: right" if rating == "good" else "noted: wrong, never trained on; /fix TEXT tells the right answer"
        )

    def _fix(self, rest: str) -> None:
        if not rest:
            self._terminal.line("/fix needs the right answer: /fix The office opens at nine.")
            return
        self._conversation.rate("bad", rest)
        self._terminal.remark("noted: this is what it will learn")

    def _private(self, _: str) -> None:
        self._conversation.set_private(not self._conversation.private)
        self._terminal.remark(
            "private: nothing of what follows is kept; /private again ends it"
            if self._conversation.private
            else "no longer private: what was said in private is gone, what follows is kept"
        )

    def _set(self, rest: str) -> None:
        known = {name: value for name, value in asdict(self._appliance.decoding).items() if hasattr(ServeSettings, name)}
        if rest:
            name, _, value = rest.partition(" ")
            self._appliance.decoding = self._appliance.decoding.changed(name, value.strip(), known)
            known = {name: getattr(self._appliance.decoding, name)}
        for name, value in known.items():
            self._terminal.line(f"{name:<18} {json.dumps(value, ensure_ascii=False)}")

    def _status(self, _: str) -> None:
        for line in status_lines(self._appliance):
            self._terminal.line(line)


def summary(reply: Reply) -> str:
    """One line on an answer: tier, confidence where there is one, milliseconds."""
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


def explained(attempt: Attempt) -> str:
    """One line on an attempt."""
    return f"{attempt.tier:<9}{attempt.outcome:<9} {attempt.latency_ms:6.0f} ms  {attempt.reason}"
