"""What a session keeps and what it does not: privacy, a log in other hands, and what another process forgot."""

import errno
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.processes import Holder
from fakes.versions import ACCEPT_NOTHING, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Exchange, Feedback
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.session import fetch
from shammah_data.spool import Spool
from shammah_data.untold import UNTOLD
from shammah_runtime import failures
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Reply
from shammah_runtime.doctor import examine
from shammah_runtime.repl import Repl
from shammah_runtime.starting import Starting
from shammah_runtime.status import status_lines
from shammah_runtime.template import TemplateTier
from shammah_runtime.terminal import Terminal

Make = Callable[..., Appliance]
OFFLINE = Options(offline=True, watch=False)
KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def ask(appliance: Appliance, text: str) -> Reply:
    return appliance.conversation.ask(text, lambda _: None)


def tier_of(reply: Reply) -> str:
    return reply.proposal.attempt.tier


# -- private -------------------------------------------------------------------------------------------------------------


def test_nothing_private_is_kept_or_repeated(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    ask(appliance, "Which shop sells bread?")
    appliance.conversation.set_private(True)
    assert ask(appliance, TAUGHT).text == TAUGHT_ANSWER
    appliance.conversation.rate("bad", "Bring a llama.")
    assert any("nothing is kept" in line for line in status_lines(appliance))
    # Within the private part the conversation goes on as usual.
    ask(appliance, "And what else?")
    assert [turn["content"] for turn in claude.requests[2].body["messages"]][-3:] == [
        TAUGHT,
        "Bring a llama.",
        "And what else?",
    ]
    appliance.conversation.set_private(False)
    assert appliance.conversation.last is None
    ask(appliance, "And that one?")
    sent = [turn["content"] for turn in claude.requests[3].body["messages"]]
    assert TAUGHT not in sent
    assert sent[0] == "Which shop sells bread?"
    rows = ExchangeLog(home).recent()
    assert [row["query"] for row in rows] == ["And that one?", "Which shop sells bread?"]
    assert TAUGHT not in rows[0]["context"]
    assert len(appliance.index) == 1
    written = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    assert b"llama" not in written


def test_private_is_a_switch_in_the_session(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    typed = iter(["/private", TAUGHT, "/good", "/private", "/good", "/why", "/quit"])
    out = io.StringIO()
    Repl(Starting(make_appliance), Terminal(out), lambda _: next(typed)).run()
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("private: nothing of what follows is kept")
    assert lines[-3].startswith("no longer private")
    gone = "what was asked in private is gone, and nothing has been asked since"
    assert lines[-2:] == [f"error: there is no answer to rate: {gone}", gone]
    assert ExchangeLog(home).recent() == []


def test_the_last_answer_is_still_the_last_after_private_in_which_nothing_was_asked(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    typed = iter([TAUGHT, "/private", "/private", "/why", "/good", "/quit"])
    out = io.StringIO()
    Repl(Starting(make_appliance), Terminal(out), lambda _: next(typed)).run()
    (row,) = ExchangeLog(home).recent()
    assert row["rating"] == "good"
    assert out.getvalue().splitlines()[-2:] == [f"more: shammah-serve why {str(row['id'])[:8]}", "noted: right"]


# -- secrets -------------------------------------------------------------------------------------------------------------


def test_what_was_told_with_a_secret_is_repeated_without_it(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    query = "What branch does the repository build from?"
    claude.answers = {query: f"From trunk; your key is {KEY}."}
    appliance = make_appliance()
    assert KEY in ask(appliance, query).text
    again = ask(appliance, query)
    assert tier_of(again) == "learned"
    assert again.text == "From trunk; your key is [secret:github-token]."
    ask(appliance, f"{query} I log in with {KEY}")
    written = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    said = json.dumps([ExchangeLog(home).find(str(row["id"])) for row in ExchangeLog(home).recent()], default=str)
    assert KEY.encode() not in written
    assert KEY[:16] not in said


# -- a log in other hands ------------------------------------------------------------------------------------------------


def test_a_log_that_is_taken_at_the_start_is_read_when_it_is_free(
    make_appliance: Make, home: Home, claude: FakeClaude, warnings: list[str]
) -> None:
    ExchangeLog(home).append(Exchange("Who is the boss?", "Ann.", "import"))
    holder = Holder(home.log)
    appliance = make_appliance(Options(offline=True))
    assert ask(appliance, "Who is the boss?").error is not None
    assert any("not counted" in line and "1 record waits in the spool" in line for line in status_lines(appliance))
    assert [check.level for check in examine(home) if check.name == "log"] == ["warn"]
    holder.let_go()
    for _ in range(600):
        if len(appliance.index):
            break
        appliance._closed.wait(0.05)
    assert ask(appliance, "Who is the boss?").text == "Ann."
    assert warnings == []
    assert [row["query"] for row in ExchangeLog(home).recent()] == ["Who is the boss?"] * 3
    assert not home.spool.exists()


def test_one_warning_for_a_log_that_cannot_be_written(make_appliance: Make, home: Home, warnings: list[str]) -> None:
    appliance = make_appliance(OFFLINE)
    ask(appliance, "hello")
    good = home.log.read_bytes()
    home.log.write_bytes(b"no database" * 1000)
    for _ in range(3):
        assert ask(appliance, "thanks").answered
    assert len(warnings) == 1
    assert "is kept in" in warnings[0]
    home.log.write_bytes(good)
    ask(appliance, "thanks")
    assert len(ExchangeLog(home).recent()) == 5
    home.log.write_bytes(b"no database" * 1000)
    ask(appliance, "thanks")
    assert len(warnings) == 2


class Full:
    """A disk without room: neither the log nor its spool can be written, until there is room again."""

    def __init__(self, home: Home) -> None:
        self._home = home
        ExchangeLog(home).stats()
        self._good = home.log.read_bytes()
        home.log.write_bytes(b"no database" * 1000)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(Spool, "append", full)

    def has_room(self) -> None:
        """Let it be written."""
        self._patch.undo()
        self._home.log.write_bytes(self._good)


@pytest.fixture
def full(home: Home) -> Iterator[Full]:
    """A disk that is full."""
    made = Full(home)
    yield made
    made.has_room()


def orphans(home: Home) -> int:
    """Ratings of what is not in the log."""
    sql = "SELECT count(*) AS n FROM feedback WHERE exchange_id NOT IN (SELECT id FROM exchanges)"
    return int(ExchangeLog(home).read(lambda session: fetch(session, sql))[0]["n"])


def test_a_rating_is_stored_with_the_answer_that_could_not_be(
    make_appliance: Make, home: Home, claude: FakeClaude, full: Full, warnings: list[str]
) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    with pytest.raises(LogError, match=r"could not be stored when it was given, and .*No space left on device"):
        appliance.conversation.rate("bad", "Bring a llama.")
    assert len(warnings) == 2  # the learned answers, and the exchange
    full.has_room()
    appliance.conversation.rate("bad", "Bring a llama.")
    assert orphans(home) == 0
    (row,) = ExchangeLog(home).recent()
    assert (row["query"], row["rating"], row["correction"]) == (TAUGHT, "bad", "Bring a llama.")


def test_what_was_repeated_and_could_not_be_stored_is_stored_with_its_rating(
    make_appliance: Make, home: Home, claude: FakeClaude, full: Full
) -> None:
    appliance = make_appliance()
    ask(appliance, TAUGHT)
    full.has_room()
    assert tier_of(ask(appliance, TAUGHT)) == "learned"
    appliance.conversation.rate("bad")
    assert orphans(home) == 0
    assert [(row["tier"], row["rating"]) for row in ExchangeLog(home).recent()] == [("learned", "bad"), ("teacher", "bad")]


def test_what_could_not_be_stored_is_not_stored_later_with_a_turn_that_was_forgotten(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    appliance, log = make_appliance(), ExchangeLog(home)
    ask(appliance, "Who is ill?")
    gone = str(log.recent()[0]["id"])
    full = Full(home)
    ask(appliance, "Who is away?")
    full.has_room()
    forget(log, home, Selection(ids=(gone,)))
    with pytest.raises(LogError, match="could not be stored"):
        appliance.conversation.rate("good")
    assert log.recent() == []
    assert orphans(home) == 0


# -- what another process forgot -----------------------------------------------------------------------------------------


def test_what_is_forgotten_elsewhere_is_not_repeated(make_appliance: Make, home: Home, warnings: list[str]) -> None:
    log = ExchangeLog(home)
    exchange = Exchange("Who is the boss?", "Ann.", "import")
    log.append(exchange)
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").text == "Ann."
    forget(log, home, Selection(ids=(exchange.id,)))
    assert ask(appliance, "Who is the boss?").error is not None
    assert warnings == []


def test_what_is_forgotten_elsewhere_is_dropped_before_the_next_question(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    exchange = Exchange("Who is the boss?", "Ann.", "import")
    log.append(exchange)
    appliance = make_appliance(Options(offline=True))
    assert ask(appliance, "Who is the boss?").text == "Ann."
    forget(log, home, Selection(ids=(exchange.id,)))
    deadline = time.monotonic() + 30.0
    while len(appliance.index):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_why_names_no_question_that_is_forgotten_by_now(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    exchange = Exchange("Who is the boss in Rome?", "Ann.", "import")
    log.append(exchange)
    before, out = [0], io.StringIO()

    def typed() -> Iterator[str]:
        yield "Who is the cook in Oslo?"
        yield "/why"
        before[0] = len(out.getvalue())
        forget(log, home, Selection(ids=(exchange.id,)))
        yield "/why"
        forget(log, home, Selection(words=("cook",)))
        yield "/why"
        yield "/quit"

    lines = typed()
    Repl(Starting(lambda: make_appliance(OFFLINE)), Terminal(out), lambda _: next(lines)).run()
    told, later = out.getvalue()[: before[0]], out.getvalue()[before[0] :]
    assert "'Who is the boss in Rome?'" in told
    assert "Rome" not in later
    assert later.count(UNTOLD) == 1
    assert later.splitlines()[-1] == "the last one was forgotten, and nothing has been asked since"


def test_what_is_forgotten_while_a_question_is_under_way_is_named_by_no_reason_in_the_log(
    make_appliance: Make, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ExchangeLog(home)
    exchange = Exchange("Who is the boss in Rome?", "Ann.", "import")
    log.append(exchange)
    told = TemplateTier.propose

    def forgets(*given: Any) -> Any:
        forget(log, home, Selection(ids=(exchange.id,)))
        return told(*given)

    monkeypatch.setattr(TemplateTier, "propose", forgets)
    reply = ask(make_appliance(OFFLINE), "Who is the cook in Oslo?")
    assert UNTOLD in [one.reason for one in reply.attempts]
    (row,) = log.recent()
    assert UNTOLD in [one["reason"] for one in log.find(str(row["id"]))[1]]
    assert b"Rome" not in home.log.read_bytes()


@pytest.mark.parametrize("continued", [False, True])
def test_what_is_forgotten_elsewhere_is_no_earlier_turn(
    make_appliance: Make, home: Home, claude: FakeClaude, continued: bool
) -> None:
    log, appliance = ExchangeLog(home), make_appliance()
    for text in ("Who is ill?", "Who is well?", "Who is away?"):
        ask(appliance, text)
    if continued:
        appliance.resume(None)
    _, middle, first = log.recent()
    forget(log, home, Selection(ids=(str(middle["id"]),)))
    ask(appliance, "Who is here?")
    sent = [turn["content"] for turn in claude.requests[-1].body["messages"]]
    assert "Who is well?" not in sent
    assert [text for text in sent if text.startswith("Who")] == ["Who is ill?", "Who is away?", "Who is here?"]
    assert "well" not in log.recent(1)[0]["context"]
    # In private, what is forgotten from before it shortens nothing else.
    appliance.conversation.set_private(True)
    ask(appliance, "Who is in private?")
    forget(log, home, Selection(ids=(str(first["id"]),)))
    ask(appliance, "Who else is in private?")
    appliance.conversation.set_private(False)
    ask(appliance, "Who is last?")
    sent = [turn["content"] for turn in claude.requests[-1].body["messages"]]
    assert [text for text in sent if text.startswith("Who")] == ["Who is away?", "Who is here?", "Who is last?"]


def test_what_is_forgotten_elsewhere_is_neither_rated_nor_asked_again(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    log, appliance = ExchangeLog(home), make_appliance()
    ask(appliance, "Who is ill?")
    forget(log, home, Selection(ids=(str(log.recent()[0]["id"]),)))
    for use in (lambda: appliance.conversation.rate("good"), appliance.conversation.take_back):
        with pytest.raises(InputError, match="the last one was forgotten"):
            use()
    assert log.stats().feedback == 0


@pytest.mark.parametrize("when", ["before Claude is asked", "while Claude answers"])
def test_what_is_forgotten_elsewhere_while_a_question_is_under_way_is_quoted_as_little_as_can_be(
    make_appliance: Make, home: Home, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    log, appliance = ExchangeLog(home), make_appliance()
    for text in ("Who is ill?", "Who is well?"):
        ask(appliance, text)
    gone = str(log.recent()[1]["id"])

    def forgets(told: Any) -> Any:
        def during(*given: Any) -> Any:
            forget(log, home, Selection(ids=(gone,)))
            return told(*given)

        return during

    if when == "while Claude answers":
        monkeypatch.setattr(claude, "answer", forgets(claude.answer))
    else:
        monkeypatch.setattr(TemplateTier, "propose", forgets(TemplateTier.propose))
    ask(appliance, "Who is away?")
    sent = [turn["content"] for turn in claude.requests[-1].body["messages"] if turn["content"].startswith("Who")]
    before = [] if when == "before Claude is asked" else ["Who is ill?"]
    assert sent == [*before, "Who is well?", "Who is away?"]
    (row,) = log.recent(1)
    assert [turn["content"] for turn in json.loads(row["context"]) if turn["role"] == "user"] == ["Who is well?"]
    # Its answer may say what was forgotten.
    assert row["query"] == "Who is away?"
    assert not row["trainable"]
    monkeypatch.undo()
    ask(appliance, "Who is here?")
    assert log.recent(1)[0]["trainable"]


@pytest.mark.parametrize("logged", ["in the log", "in the spool"])
def test_what_is_forgotten_elsewhere_before_claude_is_asked_again_is_not_sent_again(
    make_appliance: Make, home: Home, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch, logged: str
) -> None:
    log, appliance = ExchangeLog(home), make_appliance()
    for text in ("Who is ill?", "Who is well?"):
        ask(appliance, text)
    gone = str(log.recent()[1]["id"])
    holders = []
    told = failures.status_failure

    def forgets(*given: Any) -> Any:
        forget(log, home, Selection(ids=(gone,)))
        if logged == "in the spool":
            holders.append(Holder(home.log))
        return told(*given)

    # Between the two requests.
    monkeypatch.setattr("shammah_runtime.claude.status_failure", forgets)
    claude.requests.clear()
    claude.fault = "overloaded_once"
    ask(appliance, "Who is away?")
    sent = [
        [turn["content"] for turn in request.body["messages"] if turn["content"].startswith("Who")]
        for request in claude.requests
    ]
    assert sent == [["Who is ill?", "Who is well?", "Who is away?"], ["Who is well?", "Who is away?"]]
    if logged == "in the spool":
        (line,) = home.spool.read_text().splitlines()
        assert "Who is away?" in line
        assert "ill" not in json.loads(line)["exchange"]["context"]
        holders[0].let_go()
    (row,) = log.recent(1)
    assert row["query"] == "Who is away?"
    assert "ill" not in row["context"]


# -- what another process rated ------------------------------------------------------------------------------------------


def boss(log: ExchangeLog, answer: str = "Ann.") -> Exchange:
    exchange = Exchange("Who is the boss?", answer, "teacher")
    log.append(exchange)
    return exchange


def test_what_is_corrected_elsewhere_is_given_from_then_on(make_appliance: Make, home: Home, warnings: list[str]) -> None:
    log = ExchangeLog(home)
    exchange = boss(log)
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").text == "Ann."
    log.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").text == "Zoe."
    log.rate(Feedback(exchange.id, "bad"))
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").error is not None
    log.rate(Feedback(exchange.id, "good"))
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").text == "Zoe."
    assert warnings == []


def test_what_is_rated_elsewhere_while_a_session_is_open_is_taken_in_by_itself(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    exchange = boss(log)
    appliance = make_appliance(Options(offline=True))
    assert ask(appliance, "Who is the boss?").text == "Ann."
    log.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    deadline = time.monotonic() + 20.0
    while ask(appliance, "Who is the boss?").text != "Zoe.":
        assert time.monotonic() < deadline


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_an_older_answer_stands_again_once_the_newest_is_called_bad(
    make_appliance: Make, home: Home, claude: FakeClaude, where: str
) -> None:
    log = ExchangeLog(home)
    boss(log, "Ann.")
    if where == "elsewhere":
        newest = boss(log, "Zoe.")
    appliance = make_appliance()
    if where == "here":
        claude.answers = {"who is the boss": "Zoe."}
        appliance.conversation.ask("who is the boss", lambda _: None, "teacher")
        assert ask(appliance, "Who is the boss?").text == "Zoe."
        appliance.conversation.rate("bad")
    else:
        assert ask(appliance, "Who is the boss?").text == "Zoe."
        log.rate(Feedback(newest.id, "bad"))
    appliance.heeding.look()
    reply = ask(appliance, "Who is the boss?")
    assert (tier_of(reply), reply.text) == ("learned", "Ann.")
    reply = ask(make_appliance(OFFLINE), "Who is the boss?")
    assert (tier_of(reply), reply.text) == ("learned", "Ann.")


def test_an_older_answer_that_says_what_was_called_bad_does_not_stand_again(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    for answer in ("Bob.", "Ann.", "ann"):
        newest = boss(log, answer)
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").text == "ann"
    log.rate(Feedback(newest.id, "bad"))
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").error is not None


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_log_that_cannot_be_read_for_a_while_is_told_once_and_heeded_again(
    make_appliance: Make, home: Home, warnings: list[str], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("shammah_runtime.appliance._RETRY_SECONDS", 0.01)
    log = ExchangeLog(home)
    exchange = boss(log)
    good = home.log.read_bytes()
    if when == "at the start":
        home.log.write_bytes(b"no database" * 1000)
    appliance = make_appliance(Options(offline=True))
    if when == "later":
        assert ask(appliance, "Who is the boss?").text == "Ann."
        good = home.log.read_bytes()
        home.log.write_bytes(b"no database" * 1000)
    with pytest.raises(LogError, match="is kept in"):
        log.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    tried, read = 0, ExchangeLog.read

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal tried
        tried += 1
        return read(*given, **named)

    monkeypatch.setattr(ExchangeLog, "read", counted)
    deadline = time.monotonic() + 20.0
    # It says nothing at the second look.
    while tried < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    home.log.write_bytes(good)
    while (known := appliance.index.get(exchange.id)) is None or known.answer != "Zoe.":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (line,) = warnings
    assert line.startswith("the learned answers are not available: ")
    assert ask(appliance, "Who is the boss?").text == "Zoe."


def test_a_local_answer_that_is_called_bad_elsewhere_is_not_given_to_that_question(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    boss(log)
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").text == "Ann."
    log.rate(Feedback(str(log.recent(1)[0]["id"]), "bad"))
    appliance.heeding.look()
    assert appliance.index.refused("Who is the boss?", "Ann.")
    again = make_appliance(OFFLINE)
    ask(again, "thanks")
    assert appliance.index.record("Ann.", "v0001") == again.index.record("Ann.", "v0001")


def test_what_is_corrected_while_the_log_is_taken_is_taken_in_later(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home, wait=0.0)
    exchange = boss(log)
    appliance = make_appliance(OFFLINE)
    assert ask(appliance, "Who is the boss?").text == "Ann."
    holder = Holder(home.log)
    assert not log.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").text == "Ann."
    holder.let_go()
    appliance.heeding.look()
    assert ask(appliance, "Who is the boss?").text == "Zoe."


def test_a_rating_of_its_own_counts_once(make_appliance: Make, home: Home) -> None:
    boss(ExchangeLog(home))
    appliance = make_appliance(OFFLINE)
    ask(appliance, "Who is the boss?")
    appliance.conversation.rate("good")
    before = appliance.index.record("Ann.", "v0001")
    appliance.heeding.look()
    assert appliance.index.record("Ann.", "v0001") == before


def test_what_was_rated_and_forgotten_since_is_waited_for_no_more(make_appliance: Make, home: Home) -> None:
    log = ExchangeLog(home)
    exchange = boss(log)
    appliance = make_appliance(OFFLINE)
    log.rate(Feedback(exchange.id, "bad", correction="Zoe."))
    forget(log, home, Selection(ids=(exchange.id,)))
    appliance.heeding.look()
    home.log.write_bytes(b"not read again")
    appliance.heeding.look()


def test_with_a_new_version_comes_what_other_processes_logged_before(make_appliance: Make, home: Home, tiny: Tiny) -> None:
    log = ExchangeLog(home)
    boss(log)
    # Its model answers nothing.
    tiny.publish(home, ACCEPT_NOTHING)
    appliance = make_appliance(Options(offline=True))
    assert ask(appliance, "Who is the boss?").text == "Ann."
    log.append(Exchange("Where is the stapler?", "In drawer 3.", "teacher"))
    assert ask(appliance, "Where is the stapler?").error is not None
    tiny.publish(home, ACCEPT_NOTHING)
    deadline = time.monotonic() + 30.0
    while ask(appliance, "Where is the stapler?").error is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(appliance, "Where is the stapler?").text == "In drawer 3."


@pytest.fixture(autouse=True)
def _no_private_paths(tmp_path: Path) -> Any:
    """Nothing is written beside the home."""
    yield
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] in (["home"], [])


def test_a_warning_begins_a_line_of_its_own_behind_one_answer(home: Home) -> None:
    home.log.write_bytes(b"no database" * 1000)
    command = [sys.executable, "-m", "shammah_runtime.cli", "ask", "--offline", "hello"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all("shammah-serve:" not in line[1:] for line in lines), lines
    assert any(line.startswith("shammah-serve: ") and "the exchange is kept in" in line for line in lines), lines
    assert "" not in lines
