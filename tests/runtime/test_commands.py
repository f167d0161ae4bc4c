"""The commands of a session: what they do to the conversation, to the log and to files, without a terminal."""

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.claude import FakeClaude
from fakes.versions import ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError
from shammah_data.exchange import Exchange, Feedback
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.savings import savings, savings_lines
from shammah_data.settings import PrivacySettings, RoutingSection, Settings
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.commands import Commands
from shammah_runtime.history import History
from shammah_runtime.loading import LOADING
from shammah_runtime.repl import Repl
from shammah_runtime.routing import Routing
from shammah_runtime.starting import Starting
from shammah_runtime.terminal import Terminal
from shammah_trainer.curate import curate
from shammah_trainer.likeness import LEXICAL

Make = Callable[..., Appliance]
SAYS_NO = PrivacySettings(train_on_teacher=False)
OFFLINE = Options(offline=True, watch=False)


def run(appliance: Appliance, *lines: str) -> list[str]:
    """What a session shows, line by line."""
    appliance.models.wait()
    out = io.StringIO()
    typed = iter(lines)

    def read(_: str) -> str:
        if (line := next(typed, None)) is None:
            raise EOFError
        return line

    Repl(Starting(lambda: appliance), Terminal(out), read).run()
    return out.getvalue().splitlines()


def rows(home: Home) -> list[dict[str, object]]:
    """The log, oldest first."""
    return ExchangeLog(home).recent(100)[::-1]


@pytest.mark.parametrize("command", ["/good", "/bad", "/critical", "/fix Bring nothing."])
def test_a_rating_that_is_not_kept_is_not_said_to_be(make_appliance: Make, claude: FakeClaude, command: str) -> None:
    not_kept = "noted for this session only: nothing is kept, so that nothing is learned"
    assert run(make_appliance(Options(no_log=True, watch=False)), TAUGHT, command)[-2] == not_kept
    private = "nothing is kept in private: this is what was said, until /private again" if "/fix" in command else not_kept
    assert run(make_appliance(), "/private", TAUGHT, command)[-2] == private


@pytest.mark.parametrize("command", ["/fix This is a secret.", "/critical This is a secret.", "/teacher"])
def test_what_becomes_of_an_answer_in_private_is_no_context_of_what_is_kept(
    make_appliance: Make, home: Home, claude: FakeClaude, command: str
) -> None:
    said = iter(["So it is.", "This is a secret.", "In private.", "Then this."])
    claude.answers = lambda _: next(said)
    if command != "/teacher":
        said = iter(["So it is.", "In private.", "Then this."])
    run(make_appliance(), "Say that so?", "/private", command, "Who asks?", "/private", "And then?")
    contents = [[turn["content"] for turn in request.body["messages"]] for request in claude.requests]
    assert contents[-2] == ["Say that so?", "This is a secret.", "Who asks?"]
    assert contents[-1] == ["Say that so?", "So it is.", "And then?"]
    assert "secret" not in str(rows(home))


def test_what_was_forgotten_cannot_be_rated(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    appliance = make_appliance()
    run(appliance, TAUGHT)
    assert appliance.conversation.last is not None
    forget(ExchangeLog(home), home, Selection(ids=(appliance.conversation.last[0].id,)))
    for command in ("/good", "/fix Bring nothing."):
        assert (
            run(appliance, command)[0]
            == "error: there is no answer to rate: the last one was forgotten, and nothing has been asked since"
        )
    assert "Bring nothing." not in str(appliance.index.nearest(TAUGHT))


def test_a_correction_that_is_called_bad_is_told_to_be_learned_no_more(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    told = run(make_appliance(), TAUGHT, "/fix Bring nothing.", "/bad")
    assert told[3] == "noted: your correction is wrong too, never trained on; /fix TEXT tells the right answer"
    assert ExchangeLog(home).learnable() == []


@pytest.mark.parametrize("command", ["/good", "/critical"])
def test_a_rating_after_a_correction_says_what_stays_in_force(
    make_appliance: Make, home: Home, claude: FakeClaude, command: str
) -> None:
    appliance = make_appliance()
    told = run(appliance, TAUGHT, "/fix Bring nothing.", command, "hello", "/good")
    counts = "; it counts 10 times" if command == "/critical" else ""
    assert told[3] == f"noted: your correction is still what it will learn{counts}"
    assert told[-2] == "noted: right"
    (learned,) = [row for row in ExchangeLog(home).learnable() if row["query"] == TAUGHT]
    assert learned["target"] == "Bring nothing."


@pytest.mark.parametrize(
    ("command", "rating", "correction", "told"),
    [
        ("/critical", "good", None, "noted: right; it counts 10 times"),
        ("/critical Bring  nothing.", "bad", "Bring  nothing.", "noted: this is what it will learn; it counts 10 times"),
    ],
)
def test_critical_counts_ten_times(
    make_appliance: Make, home: Home, claude: FakeClaude, command: str, rating: str, correction: str | None, told: str
) -> None:
    assert run(make_appliance(), TAUGHT, command)[2] == told
    (row,) = rows(home)
    assert (row["rating"], row["correction"], row["weight"]) == (rating, correction, 10.0)


def test_retry_asks_again_whoever_answered(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    shown = run(make_appliance(), "/retry", "Say that so?", "/retry", "/retry", "thanks", "/retry")
    assert shown[0] == "error: nothing has been asked yet"
    asked = [[turn["content"] for turn in request.body["messages"]] for request in claude.requests]
    assert asked == [["Say that so?"]] * 3
    logged = rows(home)
    assert [row["tier"] for row in logged] == ["teacher", "teacher", "teacher", "template", "template"]
    assert [row["context"] for row in logged[:3]] == ["[]"] * 3
    assert logged[3]["context"] == logged[4]["context"]


def test_an_answer_stands_until_a_retry_has_brought_another(
    make_appliance: Make, home: Home, claude: FakeClaude, tmp_path: Path
) -> None:
    claude.answers = {"Say that so?": "So it is."}
    appliance, path = make_appliance(), tmp_path / "talk.json"
    run(appliance, "Say that so?")
    claude.fault = "unauthorized"
    run(appliance, "/retry", "/teacher", f"/save {path}")
    claude.fault = "ok"
    run(appliance, "And then?")
    asked = [[turn["content"] for turn in request.body["messages"]] for request in claude.requests]
    # Asked again it was as at first; what follows follows the answer that there is.
    assert asked == [["Say that so?"]] * 3 + [["Say that so?", "So it is.", "And then?"]]
    saved = json.loads(path.read_text(encoding="utf-8"))["messages"]
    assert [turn["content"] for turn in saved] == ["Say that so?", "So it is."]
    claude.answers = {"Say that so?": "So it is.", "And then?": "Then this."}
    run(appliance, "/retry", "Then?")
    assert [turn["content"] for turn in claude.requests[-1].body["messages"]] == [
        *("Say that so?", "So it is."),
        *("And then?", "Then this."),
        "Then?",
    ]


def test_a_correction_after_a_retry_without_an_answer_is_what_was_said(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    appliance = make_appliance()
    run(appliance, "Say that so?")
    claude.fault = "unauthorized"
    run(appliance, "/retry", "/bad", "/fix So it is not.")
    claude.fault = "ok"
    run(appliance, "/private", "/retry", "And then?")
    contents = [turn["content"] for turn in claude.requests[-1].body["messages"]]
    assert contents == ["Say that so?", "So it is not.", "And then?"]
    again = make_appliance()
    again.resume(None)
    run(again, "And then?")
    assert [turn["content"] for turn in claude.requests[-1].body["messages"]] == contents


def test_retry_after_a_fix_gives_the_correction_which_claude_does_not_undo(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    lines = [TAUGHT, "/fix Bring nothing.", "/retry", "/teacher", TAUGHT, "/fix Bring all.", "/retry", "/teacher", TAUGHT]
    shown = [line for line in run(make_appliance(), *lines) if " · " not in line and line and not line.startswith("noted")]
    assert shown == [
        TAUGHT_ANSWER,
        "Bring nothing.",
        *[TAUGHT_ANSWER, "Bring nothing."],
        "Bring all.",
        *[TAUGHT_ANSWER, "Bring all."],
    ]
    assert [row["correction"] for row in rows(home)] == ["Bring all.", None, None, "Bring all.", None, None, None]
    assert run(make_appliance(OFFLINE), TAUGHT)[0] == "Bring all."


def test_teacher_asks_claude_at_once(make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home)
    claude.answers = {QUESTION: "At ten.", "Who?": "You."}
    shown = run(make_appliance(), QUESTION, "/teacher", "/teacher Who?")
    assert [line for line in shown if " · " not in line] == [ANSWER, "At ten.", "You.", ""]
    assert [row["tier"] for row in rows(home)] == ["neural", "teacher", "teacher"]


def test_local_asks_claude_nothing(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    shown = run(make_appliance(), "/local", TAUGHT, TAUGHT, "/local on", "One?", "Two?", "/local off", "Three?", "/local maybe")
    declined = "error: no local answer is sure enough, and Claude was not asked: only a local answer was asked for"
    assert shown[0] == "Claude is not asked for the next question"
    assert shown[1] == declined
    assert shown[2] == TAUGHT_ANSWER
    assert shown.count(declined) == 3
    assert claude.calls == 2
    assert shown[-2] == "error: /local maybe: on, off, or nothing for the next question"


def test_clear_begins_a_new_conversation(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    run(make_appliance(), TAUGHT, "/clear", "And then?")
    first, second = rows(home)
    assert second["context"] == "[]"
    assert first["session"] != second["session"]
    assert second["turn"] == 0


def test_model_tells_what_there_is(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    assert run(make_appliance(OFFLINE), "/model")[0].startswith("none: no model has been trained yet")
    tiny.publish(home)
    tiny.publish(home)
    shown = run(make_appliance(OFFLINE), "/model")
    assert shown[0].startswith("v0002 (int8, cpu): ")
    assert shown[1] == "also here: v0001 (shammah-train promote VERSION)"


# -- savings ----------------------------------------------------------------------------------------------------------


def test_savings_are_counted_and_their_assumptions_said(make_appliance: Make, home: Home) -> None:
    assert run(make_appliance(OFFLINE), "/stats")[0] == "the log is empty: nothing has been answered yet"
    log = ExchangeLog(home)
    for answer, tier, usd, source, complete in (
        ("a", "teacher", 0.02, "serve", True),
        ("b", "teacher", 0.04, "http", True),
        ("part", "teacher", 0.01, "serve", False),
        ("c", "teacher", 0.005, "audit", True),
        ("d", "import", None, "import", True),
        ("e", "neural", None, "serve", True),
        ("f", "learned", None, "http", True),
        ("", "teacher", None, "serve", False),
    ):
        log.append(Exchange("q", answer, tier, cost_usd=usd, source=source, complete=complete))  # type: ignore[arg-type]
    wrong = Exchange("q", "g", "template")
    log.append(wrong)
    log.rate(Feedback(wrong.id, "bad"))
    found = log.read(savings)
    assert (found.answered, found.local, found.priced) == (5, 2, 2)
    assert found.mean_usd == pytest.approx(0.03)
    assert found.spent_usd == pytest.approx(0.07)
    assert found.audits_usd == pytest.approx(0.005)
    assert found.saved_usd == pytest.approx(2 * 0.03 - 0.005)
    shown = run(make_appliance(OFFLINE), "/stats")
    assert shown[:2] == [
        "saved      2 of 5 answers needed no call to Claude (40%)",
        "money      $0.0550 saved: 2 x $0.03000, the mean of 2 answers of Claude in the log, less $0.0050 for audits",
    ]
    assert shown[:-1] == savings_lines(found)


def test_what_was_asked_again_is_continued_with_its_last_answer_only(
    make_appliance: Make, home: Home, claude: FakeClaude
) -> None:
    run(make_appliance(), "thanks", TAUGHT, "/retry", "/teacher")
    again = make_appliance()
    again.resume(None)
    run(again, "And then?")
    assert [turn["content"] for turn in claude.requests[-1].body["messages"]] == [
        *("thanks", rows(home)[0]["answer"]),
        *(TAUGHT, TAUGHT_ANSWER),
        "And then?",
    ]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_conversation_is_saved_and_loaded(make_appliance: Make, home: Home, claude: FakeClaude, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    shown = run(make_appliance(), TAUGHT, "/private", "thanks", "/private", f"/save {path}", f"/save {path}", "/save")
    assert f"saved: 1 exchange in {path}" in shown
    assert f"error: {path} is there already: name a new file" in shown
    assert "error: /save needs a file: /save talk.json" in shown
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "messages": [{"role": "user", "content": TAUGHT}, {"role": "assistant", "content": TAUGHT_ANSWER}]
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = run(make_appliance(), f"/load {path}", "And then?", f"/load {tmp_path}/none", f"/load {home.log}")
    assert shown[0] == "loaded: 1 exchange; a new conversation goes on from there"
    assert [turn["content"] for turn in claude.requests[-1].body["messages"]] == [TAUGHT, TAUGHT_ANSWER, "And then?"]
    assert f"error: {tmp_path}/none: No such file or directory" in shown
    assert [line for line in shown if line.startswith(f"error: {home.log}")]


def test_what_names_no_file_ends_no_session(make_appliance: Make, tmp_path: Path) -> None:
    folder = str(tmp_path)
    for command in ("/save", "/load"):
        # Of a letter and half of one, which no locale has.
        files = ("~no-such-user/x", "a\0b", "caf\u00e9\ud800", folder)
        shown = run(make_appliance(OFFLINE), "hello", *(f"{command} {file}" for file in files))
        assert [line for line in shown if "this locale has no such letters" in line]
        assert "error: ~no-such-user/x: there is no such user" in shown
        assert f"error: {command}: a file's name holds no NUL" in shown
        assert f"error: {folder}" in shown[-2]


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_what_may_never_end_is_not_loaded(make_appliance: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    shown = run(make_appliance(OFFLINE), f"/load {tmp_path}/pipe", "/load /dev/zero")
    assert shown[:2] == [f"error: {tmp_path}/pipe: it is no file", "error: /dev/zero: it is no file"]


@pytest.mark.parametrize(
    ("raised", "told"), [(OSError(errno.ENOSPC, "No space left on device"), "No space left"), (KeyboardInterrupt(), "stopped")]
)
def test_nothing_is_left_of_a_file_that_could_not_be_written(
    make_appliance: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, told: str
) -> None:
    def fail(_: object) -> str:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr("shammah_data.sessions.written", fail)
        appliance = make_appliance(OFFLINE)
        assert told in "\n".join(run(appliance, "hello", f"/save {tmp_path}/talk.json"))
    assert f"saved: 1 exchange in {tmp_path}/talk.json" in run(appliance, f"/save {tmp_path}/talk.json")


def test_what_nobody_answered_can_be_corrected_and_not_rated(make_appliance: Make, home: Home) -> None:
    shown = run(make_appliance(OFFLINE), "When is it?", "/good", "/bad", "/critical", "/fix At nine.", "/good")
    assert shown[1:4] == ["error: there is no answer to rate: nobody answered; /fix TEXT tells the right answer"] * 3
    assert shown[4:6] == ["noted: this is what it will learn", "noted: your correction is still what it will learn"]


def test_there_is_nothing_to_save_before_the_first_answer(make_appliance: Make, home: Home, tmp_path: Path) -> None:
    ExchangeLog(home).append(Exchange("of another session", "a", "teacher"))
    shown = run(make_appliance(OFFLINE), f"/save {tmp_path}/x", "hello", f"/save {tmp_path}/x")
    assert shown[0] == "error: nothing has been answered in this session yet"
    assert shown[-2] == f"saved: 1 exchange in {tmp_path}/x"


def test_what_is_not_logged_cannot_be_saved(make_appliance: Make, tmp_path: Path) -> None:
    shown = run(make_appliance(Options(offline=True, no_log=True, watch=False)), "hello", f"/save {tmp_path}/x")
    assert shown[-2] == "error: nothing of this session is logged, so that there is nothing to save"


# -- sessions that go on ----------------------------------------------------------------------------------------------


def test_a_session_goes_on_from_the_log(make_appliance: Make, home: Home, claude: FakeClaude) -> None:
    first = make_appliance()
    with pytest.raises(InputError, match="there is no session to continue"):
        first.resume(None)
    run(first, TAUGHT, "/fix Bring nothing.")
    session = first.conversation.session
    for wanted in (None, session[:8]):
        again = make_appliance()
        assert (
            again.resume(wanted)
            == f"continued: session {session[:8]}, {len(rows(home))} so far; last: {rows(home)[-1]['query']}"
        )
        run(again, "And then?")
        assert claude.requests[-1].body["messages"][1]["content"] == "Bring nothing."
    assert [(row["session"], row["turn"]) for row in rows(home)] == [(session, 0), (session, 1), (session, 2)]
    with pytest.raises(InputError, match="no session 'zz'"):
        make_appliance().resume("zz")


# -- what is typed ----------------------------------------------------------------------------------------------------


def test_what_is_forgotten_is_not_in_the_history_either(home: Home) -> None:
    log, history = ExchangeLog(home), History(home.history, str, print)
    log.append(Exchange("Where is the\nkey?", "Under the mat.", "teacher", id="11111111-1111-4111-8111-111111111111"))
    for line in ("Where is the\nkey?", "/fix Under the mat.", "/teacher Where is the\nkey?", "hello"):
        history.add(line)
    told = forget(log, home, Selection(ids=("11111111-1111-4111-8111-111111111111",)))
    assert f"3 lines of {home.history}" in told.removed
    assert history.lines() == ["hello"]


def test_completion(make_appliance: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(make_appliance(OFFLINE), Terminal(io.StringIO()), lambda text, which: None)
    folder = tmp_path / "folder"
    (folder / "talks").mkdir(parents=True)
    (folder / ".hidden").touch()
    # It could drive the terminal: ESC, and what stands for ESC [ (ECMA-48, 5.3).
    (folder / "tall\x1b]0;x\x07\x9b31m").touch()
    monkeypatch.chdir(folder)
    for text, known in {
        "/s": ["/set", "/stats", "/status", "/save"],
        "/set te": ["temperature"],
        "/set temperature 0": [],
        "/local o": ["on", "off"],
        "/load t": ["talks/"],
        "/load ": ["talks/"],
        f"/save {folder}/.h": [f"{folder}/.hidden"],
        "/save /no/such/folder/x": [],
        "/save ~no-such-user/x": [],
        "/save a\0b/x": [],
        "hello /s": [],
        "/fix te": [],
    }.items():
        assert commands.complete(text) == known, text


def test_a_correction_of_what_is_not_trained_on_says_so(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude
) -> None:
    tiny.publish(home)
    appliance = make_appliance()
    appliance.conversation.desk._cascade.routing = Routing.of(RoutingSection(always_local=("library",)))
    said = run(appliance, "When does the library open?", "/teacher And how much is it?", "/fix Nothing.")
    noted = [line.removeprefix("> ") for line in said if "noted" in line]
    assert noted == ["noted, and not trained on: it came after what stays here, or is forgotten by now"]


@pytest.mark.parametrize(
    ("privacy", "command", "told"),
    [
        (
            PrivacySettings(train_on_teacher=False),
            "/fix Nothing.",
            "noted, and not trained on: [privacy] in config.toml says so",
        ),
        (
            PrivacySettings(train_on_teacher=False),
            "/critical",
            "noted: right, and not trained on: [privacy] in config.toml says so",
        ),
        (
            PrivacySettings(train_on_teacher=False),
            "/critical Nothing.",
            "noted, and not trained on: [privacy] in config.toml says so",
        ),
        (
            PrivacySettings(),
            "/fix I'm sorry, I can't help with that.",
            "noted, and not trained on: it only says that there is no answer",
        ),
        (PrivacySettings(), "/critical", "noted: right; it counts 10 times"),
        (PrivacySettings(), "/fix Nothing.", "noted: this is what it will learn"),
    ],
)
def test_what_no_night_will_learn_is_not_promised(
    home: Home, claude: FakeClaude, privacy: PrivacySettings, command: str, told: str
) -> None:
    with contextlib.closing(Appliance(home, Settings(privacy=privacy), Options(watch=False), print)) as appliance:
        appliance.start()
        assert run(appliance, TAUGHT, command)[2] == told
    assert bool(curate(ExchangeLog(home).learnable(), LEXICAL).kept) == ("not trained" not in told)


# -- the first query --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "tier"), [("wait", "neural"), ("forward", "teacher")])
def test_the_first_query_waits_for_the_model_or_goes_on(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch, policy: str, tier: str
) -> None:
    tiny.publish(home)
    claude.answers = {QUESTION: "At ten."}
    appliance = make_appliance(Options(), first_query=policy)
    loaded = [False, False]
    appliance.models.wait()
    monkeypatch.setattr("shammah_runtime.loading.until", lambda ready, stop: True)
    for part in appliance.conversation.desk._cascade._local:
        if hasattr(part, "_ready"):
            monkeypatch.setattr(part, "_ready", lambda _: loaded.pop() if loaded else True)
    reply = appliance.conversation.ask(QUESTION, lambda _: None)
    assert reply.proposal.attempt.tier == tier
    assert (reply.attempts[0].reason == LOADING) is (policy == "forward")


def test_a_first_query_that_may_not_go_on_waits_in_any_case(
    make_appliance: Make, tiny: Tiny, home: Home, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    appliance = make_appliance(Options(), first_query="forward")
    appliance.models.wait()
    monkeypatch.setattr("shammah_runtime.loading.until", lambda ready, stop: True)
    for part in appliance.conversation.desk._cascade._local:
        if hasattr(part, "_ready"):
            monkeypatch.setattr(part, "_ready", lambda _: False)
    reply = appliance.conversation.ask(QUESTION, lambda _: None, "local")
    assert reply.proposal.attempt.tier == "neural"
    monkeypatch.setattr(appliance._teacher, "why_not", lambda: "the day's budget is spent")
    assert appliance.conversation.ask(QUESTION, lambda _: None).proposal.attempt.tier == "neural"
    assert claude.calls == 0
