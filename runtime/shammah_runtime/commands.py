"""What a session understands beside questions: a name, what may follow it, and what it does. Knows no keys and no signals."""

import difflib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shammah_data import sessions
from shammah_data.durable import PRIVATE_FILE
from shammah_data.errors import InputError
from shammah_data.exchange import WEIGHTS, Attempt, Exchange, Rating
from shammah_data.promise import kept_out
from shammah_data.savings import savings, savings_lines
from shammah_data.settings import ServeSettings
from shammah_data.text import counted, printable
from shammah_runtime.terminal import Terminal

if TYPE_CHECKING:
    from shammah_runtime.appliance import Appliance
    from shammah_runtime.proposal import Asked

LARGEST_LOAD = 10_000_000


class Command(NamedTuple):
    """One command: what may follow it, and what `/help` says."""

    name: str
    takes: str
    told: str


COMMANDS = (
    Command("/why", "", "which tiers were tried for the last answer, and why each did or did not answer"),
    Command("/good", "", "the last answer was right"),
    Command("/bad", "", "the last answer was wrong; it is never trained on"),
    Command("/critical", "[TEXT]", "the last answer was right and matters most, or TEXT is; it counts ten times"),
    Command("/fix", "TEXT", "what the last answer should have been; it is trained on instead"),
    Command("/retry", "", "ask the last question again"),
    Command("/teacher", "[TEXT]", "ask Claude at once: TEXT, or the last question again"),
    Command("/local", "[on|off]", "do not ask Claude for the next question; on and off: for all that follow"),
    Command("/private", "", "keep nothing of what follows, until /private again"),
    Command("/model", "", "the version that serves, its graph, and the others there are"),
    Command("/set", "[NAME VALUE]", "how the local model's answers are drawn, until the session ends"),
    Command("/stats", "", "calls and money saved, and what that assumes"),
    Command("/status", "", "what serves, exchanges per tier, how many wait for training, this session's id"),
    Command("/save", "FILE", "write what was said in this session to a new file"),
    Command("/load", "FILE", "go on from a conversation that /save wrote"),
    Command("/clear", "", "begin a new conversation: what was said before is no context any more"),
    Command("/help", "", "this list"),
    Command("/quit", "", "leave (so does Ctrl-D); Ctrl-C stops an answer, Alt-Enter or \\ begins a new line"),
)
HELP = "\n".join(f"{f'{one.name} {one.takes}':<20} {one.told}" for one in COMMANDS)
_TAKES = {one.name: one.takes for one in COMMANDS}
_WITH_FILES = ("/save ", "/load ")
# How like a command the first word of a longer line is that was meant as one (difflib's ratio; of "/privat" 0.93).
_LIKE = 0.75


class Commands:
    """The commands of one session. `ask(text, which)` asks and shows the answer."""

    def __init__(self, appliance: "Appliance", terminal: Terminal, ask: "Callable[[str, Asked], None]") -> None:
        self._appliance = appliance
        self._conversation = appliance.conversation
        self._terminal = terminal
        self._ask = ask
        self._local: str = "off"
        self._corrected = ""  # the id of what was corrected last
        self._known: dict[str, Callable[[str], None]] = {
            "/why": self._why,
            "/good": lambda _: self._rate("good"),
            "/bad": lambda _: self._rate("bad"),
            "/critical": self._critical,
            "/fix": self._fix,
            "/retry": self._retry,
            "/teacher": lambda rest: self._ask(rest or self._conversation.take_back(), "teacher"),
            "/local": self._set_local,
            "/private": self._private,
            "/model": self._model,
            "/set": self._set,
            "/stats": self._stats,
            "/status": self._status,
            "/save": self._save,
            "/load": self._load,
            "/clear": self._clear,
            "/help": lambda _: self._terminal.line(HELP),
        }

    def which(self) -> "Asked":
        """Which tiers may answer the next question."""
        asked: Asked = "all" if self._local == "off" else "local"
        if self._local == "next":
            self._local = "off"
        return asked

    def run(self, line: str) -> bool:
        """Do what a line says; False where it is none, and meant to be none. Raises ShammahError.

        Text behind a command that is misspelt, or takes none, may be meant for nobody: it is not sent and not kept.
        """
        if (told := refused(line)) is not None:
            self._terminal.line(told)
            return True
        name, *rest = line.split(None, 1)
        if name not in _TAKES:
            return False
        self._known[name](rest[0].strip() if rest else "")
        return True

    # -- the last answer -----------------------------------------------------------------------------------------------

    def _why(self, _: str) -> None:
        self._conversation.drop_forgotten()
        if self._conversation.last is None:
            self._terminal.line(self._conversation.nothing)
            return
        exchange, reply = self._conversation.last
        for attempt in self._conversation.desk.untold(reply).attempts:
            self._terminal.line(explained(attempt))
        if not self._conversation.private and self._appliance.keeps:
            self._terminal.line(f"more: shammah-serve why {exchange.id[:8]}")

    def _rate(self, rating: Rating, correction: str | None = None, weight: float = 1.0) -> None:
        exchange = self._conversation.rate(rating, correction, weight)
        if self._conversation.private and correction is not None:
            self._terminal.remark("nothing is kept in private: this is what was said, until /private again")
            return
        if self._conversation.private or not self._appliance.keeps:
            self._terminal.remark("noted for this session only: nothing is kept, so that nothing is learned")
            return
        why_not = self._kept_out(exchange, correction)
        if correction is not None:
            if why_not is None:
                self._corrected = exchange.id
            told = "noted: this is what it will learn" if why_not is None else f"noted, and not trained on: {why_not}"
        elif exchange.id == self._corrected and rating == "bad":
            told = "noted: your correction is wrong too, never trained on; /fix TEXT tells the right answer"
        elif exchange.id == self._corrected:
            told = "noted: your correction is still what it will learn"
        elif rating == "bad":
            told = "noted: wrong, never trained on; /fix TEXT tells the right answer"
        else:
            told = "noted: right" if weight == 1.0 or why_not is None else f"noted: right, and not trained on: {why_not}"
        self._terminal.remark(f"{told}; it counts {weight:.0f} times" if weight > 1.0 and why_not is None else told)

    def _kept_out(self, exchange: Exchange, correction: str | None) -> str | None:
        """Why no night will learn what was said of the last answer; None where one will."""
        if not exchange.trainable:
            return "it came after what stays here, or is forgotten by now"
        if not self._appliance.log.may_train_on(exchange):
            return "[privacy] in config.toml says so"
        if correction is None and exchange.id == self._corrected:
            return None  # the correction is what it will learn
        return kept_out(True, exchange.complete, exchange.answer, correction)

    def _fix(self, rest: str) -> None:
        if not rest:
            self._terminal.line("/fix needs the right answer: /fix The office opens at nine.")
            return
        self._rate("bad", rest)

    def _critical(self, rest: str) -> None:
        self._rate("bad" if rest else "good", rest or None, float(WEIGHTS[-1]))

    # -- what comes next -----------------------------------------------------------------------------------------------

    def _retry(self, _: str) -> None:
        question, which = self._conversation.take_back(), self.which()
        last, corrected = self._conversation.last, self._conversation.corrected
        if which == "all" and not corrected and last is not None and last[0].tier == "teacher" and last[1].answered:
            # Else its own answer, known by now, would be repeated; a correction is to be.
            which = "teacher"
        self._ask(question, which)

    def _set_local(self, rest: str) -> None:
        if rest not in ("", "on", "off"):
            raise InputError(f"/local {rest}: on, off, or nothing for the next question")
        self._local = rest or "next"
        told = {
            "next": "Claude is not asked for the next question",
            "on": "Claude is not asked until /local off",
            "off": "Claude is asked again where nothing local is sure",
        }
        self._terminal.remark(told[self._local])

    def _private(self, _: str) -> None:
        self._conversation.set_private(not self._conversation.private)
        self._terminal.remark(
            "private: nothing of what follows is kept; /private again ends it"
            if self._conversation.private
            else "no longer private: what was said in private is gone, what follows is kept"
        )

    def _set(self, rest: str) -> None:
        known = self._settable()
        if rest:
            name, _, text = rest.partition(" ")
            self._appliance.decoding = self._appliance.decoding.changed(name, text.strip(), known)
            known = {name: getattr(self._appliance.decoding, name)}
        for setting, value in known.items():
            self._terminal.line(f"{setting:<18} {json.dumps(value, ensure_ascii=False)}")

    def _settable(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self._appliance.decoding).items() if hasattr(ServeSettings, name)}

    def _clear(self, _: str) -> None:
        self._conversation.begin()
        self._terminal.remark("a new conversation")

    # -- what there is -------------------------------------------------------------------------------------------------

    def _status(self, _: str) -> None:
        from shammah_runtime.status import status_lines

        for line in status_lines(self._appliance):
            self._terminal.line(line)
        if self._appliance.keeps:
            session = self._conversation.session[:8]
            self._terminal.line(f"session    {session}: shammah-serve --session {session} continues it")

    def _model(self, _: str) -> None:
        model = self._appliance.models.serving()
        if model is None:
            self._terminal.line(f"none: {self._appliance.models.reason}")
        else:
            self._terminal.line(f"{model.description}: {model.why}")
        if trial := self._appliance.models.trial():
            self._terminal.line(f"candidate: {trial}")
        serving = model.manifest.version if model else None
        if others := [version for version in self._appliance.store.versions() if version != serving]:
            self._terminal.line(f"also here: {', '.join(others)} (shammah-train promote VERSION)")

    def _stats(self, _: str) -> None:
        log = self._appliance.log
        if not log.exists():
            self._terminal.line("the log is empty: nothing has been answered yet")
            return
        for line in savings_lines(log.read(savings)):
            self._terminal.line(line)

    # -- files ---------------------------------------------------------------------------------------------------------

    def _save(self, rest: str) -> None:
        path = _path("/save", rest)
        log = self._appliance.log
        if not self._appliance.keeps or not log.exists():
            raise InputError("nothing of this session is logged, so that there is nothing to save")
        conversation = self._conversation.session
        said = sessions.turns(sessions.whole(log.read(lambda session: sessions.exchanges(session, conversation))))
        if not said:
            raise InputError("nothing has been answered in this session yet")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(sessions.written(said))
            except BaseException:
                # Half a file could not be loaded, and would be in the way of the next try.
                path.unlink(missing_ok=True)
                raise
        except FileExistsError:
            raise InputError(f"{path} is there already: name a new file") from None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        self._terminal.remark(f"saved: {_exchanges(len(said) // 2)} in {path}")

    def _load(self, rest: str) -> None:
        path = _path("/load", rest)
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                # A device or a pipe may never end.
                raise InputError("it is no file")
            if found.st_size > LARGEST_LOAD:
                raise InputError(f"it has more than {LARGEST_LOAD // 10**6} MB: it is no saved conversation")
            said = sessions.read(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text in UTF-8") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        self._conversation.begin(said)
        self._terminal.remark(f"loaded: {_exchanges(len(said) // 2)}; a new conversation goes on from there")

    # -- completion ----------------------------------------------------------------------------------------------------

    def complete(self, text: str) -> list[str]:
        """What the last word of a line may be meant to become."""
        if not text.startswith("/") or "\n" in text:
            return []
        if " " not in text:
            return names(text)
        word = text.rpartition(" ")[2]
        if text.startswith("/local ") and text.count(" ") == 1:
            return [one for one in ("on", "off") if one.startswith(word)]
        if text.startswith("/set ") and text.count(" ") == 1:
            return [name for name in self._settable() if name.startswith(word)]
        return _files(word) if text.startswith(_WITH_FILES) else []


def refused(line: str) -> str | None:
    """What is said of a line that was meant as a command and is none, or None."""
    name, *rest = line.split(None, 1) or [""]
    if name not in _TAKES:
        return f"unknown command {name}; /help lists the commands" if _meant(line, name) else None
    return f"{name} takes no text: nothing was done, and nothing was sent" if rest and not _TAKES[name] else None


def _meant(line: str, name: str) -> bool:
    """Whether a line that begins with no command was meant as one: alone, or much like one. A path is none."""
    if line.strip("/") == "":
        return line != ""
    if not name.startswith("/") or "/" in name[1:]:
        return False
    # "/private: ..." is much like one too.
    alone = line == name and name[1:].isalpha()
    return alone or bool(difflib.get_close_matches(name, [one.name for one in COMMANDS], 1, _LIKE))


def names(text: str) -> list[str]:
    """The commands that begin like this."""
    return [one.name for one in COMMANDS if text.startswith("/") and one.name.startswith(text)]


def explained(attempt: Attempt) -> str:
    """One line on an attempt."""
    return f"{attempt.tier:<9}{attempt.outcome:<9} {attempt.latency_ms:6.0f} ms  {attempt.reason}"


def _exchanges(count: int) -> str:
    return counted(count, "exchange")


def _path(command: str, rest: str) -> Path:
    if not rest:
        raise InputError(f"{command} needs a file: {command} talk.json")
    if "\0" in rest:
        raise InputError(f"{command}: a file's name holds no NUL")
    try:
        path = Path(rest).expanduser()
        os.fsencode(path)
    except RuntimeError as error:
        raise InputError(f"{rest}: there is no such user") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{rest}: this locale has no such letters for a file's name") from error
    return path


def _files(word: str) -> list[str]:
    """Names in the folder that a word leads to."""
    folder, _, begun = word.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(f"{folder}/" if folder or word.startswith("/") else ".").expanduser()), key=_name)
    except (OSError, RuntimeError, ValueError):
        return []
    # A name that could drive the terminal is not put on it.
    safe = [one for one in entries if printable(one.name) == one.name]
    shown = [one for one in safe if one.name.startswith(begun) and (begun or not one.name.startswith("."))]
    return [f"{word[: len(word) - len(begun)]}{one.name}{'/' if one.is_dir() else ''}" for one in shown]


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name
