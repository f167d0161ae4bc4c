"""A line editor on a terminal (prompt_toolkit): history, several lines, completion, pastes. Knows keys, no commands.

Importing prompt_toolkit takes a tenth of a second: this module is for terminals only.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History as Past
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.shortcuts import CompleteStyle

from shammah_runtime.history import History

PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"


class Editor:
    """Reads what a user types; Alt-Enter, or a backslash before Enter, begins a new line of the same question.

    `complete(text)` lists what the text may be meant to become; `keep()` says whether a line may be remembered,
    `refused(line)` whether it is no command and was meant as one; a paste of more than `most` characters is refused, and
    `refuse(characters)` says so in a line. `ready` is called once, when the first prompt is on the screen.
    """

    def __init__(
        self,
        history: History,
        keep: Callable[[], bool],
        refused: Callable[[str], bool],
        complete: Callable[[str], list[str]],
        most: int,
        refuse: Callable[[int], str],
        say: Callable[[str], None],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._most = most
        self._refuse = refuse
        self._say = say
        self._ready: Callable[[], None] | None = ready
        self._woken: BaseException | None = None
        self._input = create_input()
        self._pastes = _limit_pastes(self._input, most)
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            prompt_continuation="  ",
            history=_Past(history, keep, refused),
            completer=_Completer(complete),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            enable_history_search=True,
            search_ignore_case=True,
            enable_suspend=True,
            reserve_space_for_menu=0,
            key_bindings=self._keys(),
            input=self._input,
            output=_output(),
            color_depth=ColorDepth.MONOCHROME if "NO_COLOR" in os.environ else None,
        )
        self._session.app.after_render += self._rendered

    def read(self, prompt: str) -> str:
        """The next line. Raises EOFError and KeyboardInterrupt."""
        self._woken = None
        message = FormattedText([("bold", prompt)])
        return self._session.prompt(message, handle_sigint=False, pre_run=self._look, set_exception_handler=False)

    def wake(self, error: BaseException) -> None:
        """Have `read` raise an error, from a signal handler or another thread."""
        self._woken = error
        loop = self._session.app.loop
        if loop is not None:
            # A loop that has ended has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._look)

    def interject(self, say: Callable[[], None]) -> None:
        """Have something said above the prompt while it waits, from another thread; where none waits, nothing is done."""
        app = self._session.app

        def above() -> None:
            run_in_terminal(say)

        if app.loop is not None and app.is_running:
            with contextlib.suppress(RuntimeError):
                app.loop.call_soon_threadsafe(above, context=app.context)

    def _look(self) -> None:
        app = self._session.app
        if self._woken is not None and app.is_running and not app.is_done:
            app.exit(exception=self._woken)

    def _rendered(self, _: Any) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def accept(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def newline(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            pasted = event.data.replace("\r\n", "\n").replace("\r", "\n")
            if len(pasted) > self._most:
                told = self._refuse(self._pastes.characters)
                run_in_terminal(lambda: self._say(told))
            else:
                event.current_buffer.insert_text(pasted)

        return keys


class _Past(Past):
    """What was typed before, as the editor wants it: newest first."""

    def __init__(self, history: History, keep: Callable[[], bool], refused: Callable[[str], bool]) -> None:
        super().__init__()
        self._history = history
        self._keep = keep
        self._refused = refused
        # What was typed here as the file has it, None where it was not to.
        self._stored: dict[str, str | None] = {}

    async def load(self) -> AsyncGenerator[str]:
        # What was forgotten since the last prompt is in the file no more, and not offered by this one.
        if self._loaded:
            kept = {None, *self._history.lines()}
            self._loaded_strings = [one for one in self._loaded_strings if self._stored.get(one, one) in kept]
        async for line in super().load():
            yield line

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._history.lines())

    def append_string(self, string: str) -> None:
        # What may not be kept is not offered again either.
        if self._keep():
            super().append_string(string)

    def store_string(self, string: str) -> None:
        # It is offered again, to be spelt right, but not kept: nobody knows what the text behind it was meant for.
        self._stored[string] = None if self._refused(string) else self._history.add(string)


class _Completer(Completer):
    def __init__(self, complete: Callable[[str], list[str]]) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        word = text.rpartition(" ")[2]
        for whole in self._complete(text):
            yield Completion(whole, start_position=-len(word))


class PasteLimit:
    """Lets a stream of characters through, but of one paste no more than `most` and one; `characters` counts the last one.

    An editor that is handed ten megabytes searches them all again for every kilobyte that comes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = False
        self._tail = ""  # outside: what has passed and may begin a mark; inside: what is held back for it
        self.characters = 0

    def through(self, data: str) -> str:
        """What of the next characters the editor is to see."""
        passed = []
        while data:
            if not self._inside:
                seen = self._tail + data
                at = seen.find(PASTE_BEGINS)
                if at < 0:
                    self._tail = seen[-len(PASTE_BEGINS) + 1 :]
                    passed.append(data)
                    break
                end = at + len(PASTE_BEGINS) - len(self._tail)
                passed.append(data[:end])
                data, self._tail, self._inside, self.characters = data[end:], "", True, 0
                continue
            data, self._tail = self._tail + data, ""
            at = data.find(PASTE_ENDS)
            if at < 0:
                held = next(n for n in range(len(PASTE_ENDS) - 1, -1, -1) if data.endswith(PASTE_ENDS[:n]))
                data, self._tail = data[: len(data) - held], data[len(data) - held :]
                passed.append(self._some(data))
                break
            passed += [self._some(data[:at]), PASTE_ENDS]
            data, self._inside = data[at + len(PASTE_ENDS) :], False
        return "".join(passed)

    def _some(self, data: str) -> str:
        room = max(0, self._most + 1 - self.characters)
        self.characters += len(data)
        return data[:room]


class _Limited:
    """A reader of standard input behind a limit."""

    def __init__(self, reader: Any, limit: PasteLimit) -> None:
        self._reader = reader
        self._limit = limit

    @property
    def closed(self) -> bool:
        return bool(self._reader.closed)

    def read(self, count: int = 1024) -> str:
        # More at once than prompt_toolkit asks for, or ten megabytes are ten thousand rounds.
        return self._limit.through(self._reader.read(max(count, 65536)))


def _limit_pastes(source: Input, most: int) -> PasteLimit:
    limit = PasteLimit(most)
    # Windows' input has no such reader; its own events bound a paste.
    if hasattr(source, "stdin_reader"):
        source.stdin_reader = _Limited(source.stdin_reader, limit)
    return limit


def _output() -> Output:
    output = create_output()
    # No questions about the cursor: over a slow line their answers come when nobody waits for them any more.
    if hasattr(output, "enable_cpr"):
        output.enable_cpr = False
    return output
