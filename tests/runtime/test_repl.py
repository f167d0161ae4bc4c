"""The terminal session without a terminal: commands, errors, Ctrl-C."""

import errno
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.versions import ANSWER, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError
from shammah_data.exchange import Attempt
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration
from shammah_data.store import ModelStore
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.commands import HELP, explained
from shammah_runtime.proposal import Proposal, Query
from shammah_runtime.repl import Repl
from shammah_runtime.starting import Starting
from shammah_runtime.template import TemplateTier
from shammah_runtime.terminal import Terminal

Make = Callable[..., Appliance]
OFFLINE = Options(offline=True, watch=False)


class Typist:
    """Types lines, then the end of input; an exception among the lines is raised instead of typed."""

    def __init__(self, *lines: str | BaseException) -> None:
        self._lines: Iterator[str | BaseException] = iter(lines)

    def __call__(self, prompt: str) -> str:
        assert prompt == "> "
        line = next(self._lines, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line


def run(appliance: Appliance, *lines: str | BaseException) -> list[str]:
    """What a session shows, line by line."""
    appliance.models.wait()
    out = io.StringIO()
    Repl(Starting(lambda: appliance), Terminal(out), Typist(*lines)).run()
    return out.getvalue().splitlines()


def test_an_answer_and_a_line_on_where_it_came_from(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    answer, source, end = run(make_appliance(OFFLINE), "When does it open?")
    assert answer == ANSWER
    assert source.startswith("neural · confidence 0.50 · v0001 · ")
    assert source.endswith(" ms")
    assert end == ""


def test_the_teachers_line_names_its_model(make_appliance: Make, claude: FakeClaude) -> None:
    shown = run(make_appliance(), TAUGHT, "/quit", "never read")
    assert shown[0] == TAUGHT_ANSWER
    assert shown[1].startswith("teacher · claude-sonnet-5-5 · ")
    assert len(shown) == 2
    assert claude.calls == 1


def test_an_answer_cut_short_is_called_incomplete(make_appliance: Make, claude: FakeClaude) -> None:
    claude.fault = "max_tokens"
    assert "incomplete (cut short: max_tokens)" in run(make_appliance(), TAUGHT)[1]


def test_why_tells_every_attempt(make_appliance: Make) -> None:
    before, _, _, *attempts, _ = run(make_appliance(OFFLINE), "/why", "hello", "/why")
    assert before == "nothing has been asked yet"
    assert [line.split()[:2] for line in attempts[:-1]] == [
        ["neural", "declined"],
        ["learned", "declined"],
        ["template", "accepted"],
    ]
    assert attempts[-1].startswith("more: shammah-serve why ")
    assert "no model has been trained yet" in attempts[0]
    assert attempts[2].endswith("a courtesy")


def test_why_is_one_line_an_attempt() -> None:
    assert explained(Attempt("neural", "declined", "no", latency_ms=12.3)) == "neural   declined      12 ms  no"


def test_what_the_context_had_no_room_for_is_told(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, context_examples=1000)
    appliance = make_appliance(OFFLINE)
    long = "Say what is wide, wide, wide, wide, wide, wide, wide, wide, wide, wide, wide, wide, wide now?"
    shown = run(appliance, long, long, long, "/why", long, "/why")
    answers = [line for line in shown if line.startswith("neural · ")]
    assert [" left out" in line for line in answers] == [False, False, True, True]
    assert " · 1 earlier exchange left out · " in answers[2]
    assert " · 2 earlier exchanges left out · " in answers[3]
    told = [line for line in shown if line.startswith("neural   accepted")]
    assert told[0].endswith("; 1 earlier exchange left out: the context holds 256 tokens")
    assert told[1].endswith("; 2 earlier exchanges left out: the context holds 256 tokens")


def test_ratings_and_corrections_reach_the_log(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    shown = run(appliance, TAUGHT, "/good", "/bad", "/fix", "/fix   Bring nothing.  ")
    assert shown[2:6] == [
        "noted: right",
        "noted: wrong, never trained on; /fix TEXT tells the right answer",
        "/fix needs the right answer: /fix The office opens at nine.",
        "noted: this is what it will learn",
    ]
    (row,) = ExchangeLog(home).recent()
    assert (row["rating"], row["correction"]) == ("bad", "Bring nothing.")


@pytest.mark.parametrize("command", ["/good", "/bad", "/fix It opens at ten."])
def test_nothing_to_rate_is_an_error_that_keeps_the_session(make_appliance: Make, command: str) -> None:
    shown = run(make_appliance(OFFLINE), command, "hello")
    assert shown[0] == "error: there is no answer to rate: nothing has been asked yet"
    assert shown[1].startswith("Hello!")


@pytest.mark.parametrize("line", ["/godo", "/", "//"])
def test_an_unknown_command_is_not_a_question(make_appliance: Make, home: Home, line: str) -> None:
    assert run(make_appliance(OFFLINE), line)[0] == f"unknown command {line}; /help lists the commands"
    assert ExchangeLog(home).recent() == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/privat my salary is 100", "unknown command /privat; /help lists the commands"),
        ("/private: my salary is 100", "unknown command /private:; /help lists the commands"),
        ("/fxi It opens at ten.", "unknown command /fxi; /help lists the commands"),
        ("/quit now", "/quit takes no text: nothing was done, and nothing was sent"),
        ("/private what is my salary", "/private takes no text: nothing was done, and nothing was sent"),
    ],
)
def test_text_behind_what_takes_none_or_is_no_command_goes_nowhere(
    line: str, told: str, make_appliance: Make, home: Home
) -> None:
    appliance = make_appliance(OFFLINE)
    assert run(appliance, line)[0] == told
    assert not appliance.conversation.private
    assert ExchangeLog(home).recent() == []


def test_a_path_is_a_question(make_appliance: Make, home: Home) -> None:
    run(make_appliance(OFFLINE), "/etc/hosts is what?")
    assert [row["query"] for row in ExchangeLog(home).recent()] == ["/etc/hosts is what?"]


def test_help_names_every_command(make_appliance: Make) -> None:
    shown = run(make_appliance(OFFLINE), "/help")
    assert shown[:-1] == HELP.splitlines()
    commands = {line.split()[0] for line in shown[:-1]}
    assert commands == set(
        "/why /good /bad /critical /fix /private /retry /teacher /local /model /stats /set /save /load /clear /status /help "
        "/quit".split()
    )
    answers = run(make_appliance(OFFLINE), *sorted(commands - {"/quit"}), "/quit")
    assert not [line for line in answers if "unknown" in line]


def test_blank_lines_ask_nothing(make_appliance: Make, home: Home) -> None:
    assert run(make_appliance(OFFLINE), "", "   ") == [""]
    assert ExchangeLog(home).recent() == []


def test_a_question_that_nobody_can_answer_keeps_the_session(make_appliance: Make) -> None:
    shown = run(make_appliance(OFFLINE), TAUGHT, "hello")
    assert shown[0] == "error: no local answer is sure enough, and Claude was not asked: offline"
    assert shown[1].startswith("Hello!")


def test_an_oversized_question_keeps_the_session(make_appliance: Make) -> None:
    shown = run(make_appliance(OFFLINE), "x" * 100_001, "hello")
    assert shown[0].startswith("error: the question has 100001 characters")
    assert shown[1].startswith("Hello!")


@pytest.mark.parametrize(
    ("raised", "shown"), [(KeyboardInterrupt(), "stopped"), (InputError("no\x1b[31m way"), "error: no way")]
)
def test_what_a_tier_raises_keeps_the_session(
    make_appliance: Make, monkeypatch: pytest.MonkeyPatch, raised: BaseException, shown: str
) -> None:
    real = TemplateTier.propose

    def propose(self: TemplateTier, query: Query) -> Proposal:
        if query.text == "raise":
            raise raised
        return real(self, query)

    monkeypatch.setattr(TemplateTier, "propose", propose)
    lines = run(make_appliance(OFFLINE), "raise", "hello")
    assert lines[0] == shown
    assert lines[1].startswith("Hello!")


def test_a_folder_that_cannot_be_read_keeps_the_session(make_appliance: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    appliance = make_appliance(OFFLINE)

    def refused() -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", "models")

    monkeypatch.setattr(appliance.store, "versions", refused)
    shown = run(appliance, "/model", "hello")
    assert "error: Permission denied: models" in shown
    assert any(line.startswith("Hello!") for line in shown)


def test_ctrl_c_at_the_prompt_keeps_the_session(make_appliance: Make) -> None:
    shown = run(make_appliance(OFFLINE), KeyboardInterrupt(), KeyboardInterrupt(), "hello")
    assert shown[:2] == ["", ""]
    assert shown[2].startswith("Hello!")


def test_a_refused_version_is_said_before_the_first_prompt(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    (home.models / "v0001" / "tokenizer.json").unlink()
    assert run(make_appliance(OFFLINE))[0].startswith("v0001 is refused: ")


def test_a_new_version_is_said_after_its_first_answer(make_appliance: Make, tiny: Tiny, other_tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    appliance = make_appliance(OFFLINE)

    class Publisher(Typist):
        def __call__(self, prompt: str) -> str:
            line = super().__call__(prompt)
            if line == "What is new today?":
                other_tiny.publish(home)
                appliance.models.start(watch=False)
                appliance.models.close()
            return line

    out = io.StringIO()
    Repl(Starting(lambda: appliance), Terminal(out), Publisher("When does it open?", "What is new today?", "/quit")).run()
    shown = out.getvalue().splitlines()
    assert shown[2:4] == ["It opens at noon.", "now answering with v0002 (int8, cpu), before with v0001"]


def test_status_counts_what_the_log_holds(make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    empty = run(make_appliance(), "/status")
    assert empty[0] == "model      none: no model has been trained yet: run shammah-train"
    assert empty[1] == "exchanges  0, of which 0 wait for training"
    tiny.publish(home, threshold=2.0, snapshot_until="2020-01-01T00:00:00")
    appliance = make_appliance()
    shown = run(appliance, TAUGHT, TAUGHT, "hello", "/status")
    status = shown[[line.startswith("model ") for line in shown].index(True) :]
    assert status[0] == "model      v0001 (int8, cpu), base tiny, trained on 20 exchanges"
    assert status[1] == "graph      int8 on cpu: the only one for the CPU"
    assert status[2] == "threshold  no answers: no threshold reached 95% precision"
    assert status[3] == "exchanges  3, of which 1 waits for training"
    assert sorted(line.split()[:3] for line in status[4:7]) == [[t, "1", "(33%),"] for t in ("learned", "teacher", "template")]
    (teacher,) = [line for line in status if "teacher" in line]
    assert "$0.00" in teacher
    claude.fault = "unauthorized"
    unanswered = [line for line in run(make_appliance(), "who knows?", "/status") if line.startswith("  ")][1:]
    assert "unanswered" in {line.split()[0] for line in unanswered}
    assert len({line.index("1 (25%)") for line in unanswered}) == 1


def test_a_version_of_a_time_beyond_the_calendar_is_refused_in_one_line(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    path = ModelStore(home.models).folder(tiny.publish(home)) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "snapshot_until": "0001-01-01T00:00:00+14:00"}))
    told, *status = run(make_appliance(), "/status")
    assert told.startswith("v0001 is refused: ")
    assert told.endswith("snapshot_until '0001-01-01T00:00:00+14:00' is not a time")
    assert status[0] == f"model      none: {told}"
    assert status[1] == "exchanges  0, of which 0 wait for training"


class Terminal80(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "styled"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": ""}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], styled: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal80()
    terminal = Terminal(out)
    terminal.remark("a")
    assert out.getvalue() == ("\033[2ma\033[0m\n" if styled else "a\n")


def test_a_line_is_finished_before_a_remark_begins() -> None:
    out: Any = io.StringIO()
    terminal = Terminal(out)
    for piece in ("a\x1b[", "", "0mb", "\x9b"):
        terminal.stream(piece)
    terminal.remark("c")
    terminal.stream("d\n")
    terminal.line("e")
    assert out.getvalue() == "ab\nc\nd\ne\n"


# -- /set -------------------------------------------------------------------------------------------------------------


def test_set_shows_what_config_toml_can_say(make_appliance: Make) -> None:
    shown = dict(line.split(None, 1) for line in run(make_appliance(OFFLINE, top_k=7, stop=("é",)), "/set")[:-1])
    assert shown == {
        "temperature": "0.0",
        "top_k": "7",
        "top_p": "1.0",
        "seed": "0",
        "max_tokens": "24",
        "min_p": "0.0",
        "repetition_penalty": "1.0",
        "stop": '["é"]',
        "beams": "1",
        "length_penalty": "1.0",
    }


def test_set_changes_the_answers_that_follow(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    cut = ANSWER[: ANSWER.index("nine")]
    first, second, third = "When does the library open?", "What does a library ticket cost?", "Where does the library stand?"
    shown = run(make_appliance(OFFLINE), first, "/set stop nine", second, "/set stop []", "/set beams 3", third)
    answers = [line for line in shown if " · " not in line]
    assert answers[:2] == [ANSWER, 'stop               ["nine"]']
    assert answers[2:] == [cut, "stop               []", "beams              3", ANSWER, ""]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/set temprature 1", "unknown setting temprature; did you mean temperature?"),
        ("/set threads 1", "unknown setting threads; known: temperature, top_k,"),
        ("/set logprobs 1", "unknown setting logprobs; "),
        ("/set top_k 1.5", "top_k '1.5' is not a whole number"),
        ("/set top_p", "top_p '' is not a number"),
        ("/set top_p 2", "top_p 2.0 is out of range: 0.0 to 1.0"),
        ("/set temperature nan", "temperature nan is out of range"),
        ("/set stop", "stop needs a text, or a list of texts: "),
        ("/set stop [3]", "stop [3] is not a list of texts"),
        ("/set stop [", "stop [ is not a list of texts"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_changes_nothing(make_appliance: Make, command: str, says: str) -> None:
    appliance = make_appliance(OFFLINE)
    before = appliance.decoding
    shown = run(appliance, command)
    assert shown[0].startswith(f"error: {says}")
    assert len(shown) == 2
    assert appliance.decoding == before


def test_settings_that_contradict_each_other_are_refused_in_a_session(make_appliance: Make) -> None:
    shown = run(make_appliance(OFFLINE), "/set temperature 0.5", "/set beams 2", '/set stop ["a", "\\n"]')
    assert shown[1].startswith("error: beams 2 and temperature 0.5: a beam search draws nothing")
    assert shown[2] == 'stop               ["a", "\\n"]'


def test_a_beam_search_is_not_given_up_before_it_has_found_anything(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    # The least log-probability of no token at all is as low as can be.
    calibration = Calibration({"least": 1.0}, 3.0, 0.5, 0.95, examples=20, accepted=10, accepted_right=10, certified=False)
    tiny.publish(home, graphs=[{"calibration": calibration}])
    assert run(make_appliance(OFFLINE, beams=3), "When does the library open?")[0] == ANSWER
