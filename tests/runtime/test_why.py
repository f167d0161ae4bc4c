"""shammah-serve why: a past answer explained from the log, whatever there is of it."""

import dataclasses
import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from fakes.claude import FakeClaude
from fakes.gpu import stand_in
from fakes.versions import QUESTION, TAUGHT, Tiny
from shammah_data.auditing import is_drawn
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Audited, Exchange, Feedback, Rival
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cli import app
from shammah_runtime.why import why

Make = Callable[..., Appliance]


def lines(home: Home, wanted: str | None = None) -> dict[str, str]:
    """What is said, by the name at the beginning; what several lines say in one text."""
    found: dict[str, str] = {}
    name = ""
    for line in why(home, ExchangeLog(home), wanted):
        name = line[:10].strip() or name
        found[name] = f"{found[name]}\n{line[11:]}" if name in found else line[11:]
    return found


def test_a_local_answer(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    log = ExchangeLog(home)
    log.append(Exchange("When does the museum open?", "At ten.", "teacher", id="11111111-1111-4111-8111-111111111111"))
    appliance = make_appliance(Options(offline=True, watch=False))
    appliance.conversation.ask(QUESTION, lambda _: None)
    last = appliance.conversation.last
    assert last is not None
    exchange_id = last[0].id
    log.rate(Feedback(exchange_id, "bad", 10.0, "At ten."))
    log.audit(Audited(exchange_id, "v0001", 0.5, False, "other numbers"))
    told = lines(home, exchange_id[:8])
    assert told == lines(home)
    assert told["exchange"].startswith(exchange_id)
    assert told["exchange"].endswith(", turn 1, from serve")
    assert told["question"] == QUESTION
    assert told["by"].startswith("neural, v0001, ")
    parts = r"\(mean -\d\.\d\d, least -\d+\.\d\d, opening -\d\.\d\d, support \d\.\d\d, near \d\.\d\d, gap -\d\.\d\d"
    parts += r", relevance -\d\.\d\d, odds -\d\.\d\d\)"
    assert re.fullmatch(rf"neural   accepted +\d+ ms  confidence 0\.50 {parts}, at least \d\.\d\d", told["tried"])
    assert "neural: confidence 0.500, at least" in told["threshold"]
    assert "10 of 10 accepted held-out answers were right" in told["threshold"]
    assert told["nearest"].startswith("11111111 of those known now, similarity 0.")
    assert told["rated"] == "bad, it counts 10 times; it should have been: At ten."
    assert told["audit"] == "v0001 disagreed with the teacher (other numbers)"
    assert told["cost"].startswith("nothing: it was answered here, ")


def test_an_answer_by_a_graph_for_the_gpu_is_explained_by_what_holds_for_that_graph(
    make_appliance: Make, tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    calibration = Calibration({"mean": 1.0}, 0.0, 0.25, 0.95, 40, 31, 30, certified=False)
    own = dataclasses.replace(calibration, threshold=0.2, accepted=12, accepted_right=11)
    tiny.publish(home, graphs=[{"calibration": own}, {"provider": "cuda", "calibration": calibration}])
    appliance = make_appliance(Options(offline=True, watch=False))
    appliance.conversation.ask(QUESTION, lambda _: None)
    assert lines(home)["by"].startswith("neural, v0001, ")
    assert "answers from 0.25 on for 95% precision: 30 of 31 accepted" in lines(home)["threshold"]


def test_the_teachers_answer(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    make_appliance().conversation.ask(TAUGHT, lambda _: None)
    told = lines(home)
    assert [line.split()[0] for line in told["tried"].splitlines()] == ["neural", "learned", "template", "teacher"]
    assert told["by"].startswith("teacher, claude-sonnet-5-5, ")
    assert told["nearest"] == "nothing known now is similar"
    assert (told["rated"], told["audit"]) == ("not rated", "none: it was not to be audited")
    assert re.fullmatch(r"\$0\.\d{5}, \d+ tokens read, \d+ tokens written", told["cost"])


def test_what_nobody_answered_and_what_a_version_that_is_gone_did(home: Home) -> None:
    log = ExchangeLog(home)
    log.append(Exchange("q?", "", "teacher", complete=False))
    assert (lines(home)["answer"], lines(home)["by"], lines(home)["tried"]) == ("none", "nobody", "nothing is recorded")
    log.append(Exchange("r?", "a", "neural", model_version="v0009", complete=True, teacher_probability=1.0))
    assert lines(home)["threshold"] == "v0009 is no longer here"
    assert lines(home)["audit"] == "none so far: it was drawn for one, with probability 1.00"


def test_why_there_is_no_audit(home: Home) -> None:
    log = ExchangeLog(home)
    ids = [f"{n:08d}-1111-4111-8111-111111111111" for n in range(100)]
    drawn, undrawn = (next(one for one in ids if is_drawn(one, 0.3) is which) for which in (True, False))
    for one in (drawn, undrawn):
        log.append(Exchange(f"q {one}", "a", "neural", session="s", id=one, complete=True, teacher_probability=0.3))
    assert lines(home, undrawn)["audit"] == "none: it was not drawn for one, with probability 0.30"
    assert lines(home, drawn)["audit"] == "none so far: it was drawn for one, with probability 0.30"
    # In a trial more are drawn.
    log.compare(Rival(undrawn, "v0002", 1.0, "b", False, 0.9, "x"))
    assert lines(home, undrawn)["audit"] == "none so far: it was drawn for one, with probability 1.00"
    log.append(Exchange(f"q {drawn}", "", "teacher", session="s", source="audit", complete=False), audit_of=drawn)
    assert lines(home, drawn)["audit"] == "none: it was asked, and the teacher gave no whole answer"
    log.append(Exchange("r", "a", "neural", source="import:other.jsonl", complete=True, teacher_probability=1.0))
    assert lines(home)["audit"] == "none: it was not to be audited"


def test_what_is_known_of_the_cost_of_an_answer_that_broke_off(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    claude.fault = "cut"
    make_appliance().conversation.ask(TAUGHT, lambda _: None)
    assert re.fullmatch(r"at least \$0\.000\d\d", lines(home)["cost"])


def test_errors_are_one_line(home: Home) -> None:
    with pytest.raises(InputError, match="the log is empty"):
        why(home, ExchangeLog(home), None)
    ExchangeLog(home).append(Exchange("q?", "\x1b[31ma", "teacher"))
    with pytest.raises(LogError, match="no exchange 'zzz'"):
        why(home, ExchangeLog(home), "zzz")


def test_the_command(home: Home) -> None:
    ExchangeLog(home).append(Exchange("q?", "a", "teacher"))
    done = CliRunner().invoke(app, ["why"])
    assert done.exit_code == 0
    assert "question   q?\n" in done.stdout
