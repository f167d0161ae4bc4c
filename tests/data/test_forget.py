"""What is forgotten is in no byte of the home and of no copy that was made of the log."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Literal

import duckdb
import pytest
from typer.testing import CliRunner, Result

from fakes.contents import files_in, said_in
from shammah_data.announced import Announced
from shammah_data.cli import app
from shammah_data.copies import backup, export, note, restore
from shammah_data.durable import private_folder
from shammah_data.errors import InputError, LogError, ShammahError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, Rival, RunRecord, named, named_group
from shammah_data.forget import erase, forget, without
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Manifest
from shammah_data.past import RECORD, past_runs
from shammah_data.queries import Selection
from shammah_data.spool import Spool
from shammah_data.store import ModelStore
from shammah_data.tombstones import saw, tombstones, versions_that_saw
from shammah_data.unnamed import UNNAMED
from shammah_data.untold import UNTOLD
from shammah_data.verify import verify

QUERY, ANSWER, BETTER = "Where does Zebulon live?", "At 17 Quagmire Lane.", "At 18 Xylophone Road."
# Root may delete anything, unless it gives that up.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
TELLING = [b"Zebulon", b"Quagmire", b"Xylophone"]
Run = Callable[..., Result]


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SHAMMAH_HOME", str(home.root))
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def doomed(log: ExchangeLog) -> str:
    """One exchange to forget, quoted by a later turn, among others that stay."""
    log.add_many(Exchange(f"Question {n}?", f"Answer {n}.", "teacher") for n in range(30))
    first = Exchange(QUERY, ANSWER, "teacher", session="s")
    log.append(first)
    log.rate(Feedback(first.id, "bad", correction=BETTER))
    quoted = (Message("user", "Hello"), Message("assistant", "Hi."), Message("user", QUERY), Message("assistant", ANSWER))
    log.append(Exchange("And his brother?", "Next door.", "teacher", session="s", turn=1, context=quoted))
    corrected = (Message("user", QUERY), Message("assistant", BETTER))
    log.append(Exchange("And his sister?", "In town.", "teacher", session="s", turn=2, context=corrected))
    return first.id


def traces(*roots: Path) -> list[str]:
    """Every file that holds one of the telling words."""
    return [path.name for path in files_in(*roots) if any(word in said_in(path) for word in TELLING)]


@pytest.mark.parametrize("letters", [40, 60])
def test_a_reason_that_names_it_does_so_no_longer(
    log: ExchangeLog, home: Home, tmp_path: Path, doomed: str, letters: Literal[40, 60]
) -> None:
    """An exchange that was near it says so, and in which words they differ; one that was near another stays as it was."""
    near = f"similarity 0.45 to {named(QUERY, letters)}, but only one is about 'Zebulon'"
    other = f"it's near {named('Question 3?', letters)}, but only one is about 'Hugo'"
    attempts = (Attempt("learned", "declined", near), Attempt("neural", "declined", other), Attempt("teacher", "accepted", ""))
    asked = Exchange("Where does Hugo live?", "Here.", "teacher", attempts=attempts)
    log.append(asked)
    log.compare(Rival(asked.id, "v0001", 0.5, None, same=False, reason=near))
    backup(log, tmp_path / "backup.duckdb")
    assert traces(home.root, tmp_path)
    forget(log, home, Selection(ids=(doomed,)))
    assert traces(home.root, tmp_path) == []
    told = [row["reason"] for row in log.find(str(asked.id))[1]]
    assert told == [UNTOLD, other, ""]


def test_a_run_that_named_it_does_so_no_longer(log: ExchangeLog, home: Home, tmp_path: Path, doomed: str) -> None:
    """A gate names a group by one of its questions: in the reason, in the figures, and in the record in the run's folder."""
    moment = datetime(2026, 10, 1, 3, tzinfo=UTC)

    def reason(question: str) -> str:
        return f"forgot more than 2%: {named_group(question)}: 3 right, v0001 9, of 20"

    records = []
    for n, question in enumerate((QUERY, "Where does Zebulonia lie?")):
        gate = [{"name": "older groups", "told": reason(question), "reason": reason(question)}]
        run = RunRecord(f"2026100{n}T030000000Z", moment, moment, "refused", reason(question), None, {"gate": gate})
        log.record_run(run)
        records.append(private_folder(home.runs / run.id) / RECORD)
        records[-1].write_text(json.dumps(asdict(run), default=str))
    backup(log, tmp_path / "backup.duckdb")
    told = forget(log, home, Selection(ids=(doomed,)))
    assert f"its name in {records[0]}" in told.removed
    assert not [path for path in files_in(home.root, tmp_path) if b"Where does Zebulon live" in said_in(path)]
    other, its = past_runs(home, log)
    assert its.reasons == [its.reason] == [reason(QUERY).replace(named_group(QUERY), UNNAMED)]
    assert other.reason == reason("Where does Zebulonia lie?")
    assert json.loads(records[1].read_text())["reason"] == other.reason


def test_what_a_damaged_record_of_a_run_says_goes_with_it(log: ExchangeLog, home: Home, doomed: str) -> None:
    folder = private_folder(home.runs / "20261001T030000000Z")
    kept = json.dumps({"kind": "phrasing", "query": "Who?", "reference": "Hugo.", "answer": "Hugo."}).encode()
    torn = b'{"query": "Where does Zebulon li'
    (folder / "heldout.jsonl").write_bytes(b"\n".join((kept, torn, b"[1]", b'{"answer": 3, "repeated": 4}')))
    (folder / RECORD).write_bytes(torn)
    forget(log, home, Selection(ids=(doomed,)))
    assert (folder / "heldout.jsonl").read_bytes() == kept + b"\n"
    assert traces(home.root) == []


def test_no_byte_is_left(log: ExchangeLog, home: Home, tmp_path: Path, doomed: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    export(log, elsewhere / "out.jsonl")
    export(log, elsewhere / "out.parquet")
    export(log, elsewhere / "out.md")
    backup(log, elsewhere / "backup.duckdb")
    folder = home.runs / "20260102T030405000Z"
    folder.mkdir(parents=True)
    log.snapshot(folder / "snapshot.parquet")
    for weights in ("merged", "learned", "checkpoint"):
        (folder / weights).mkdir()
        (folder / weights / "model.safetensors").write_bytes(b"weights that know")
    (folder / "lineage.json").write_text(json.dumps({"learned": {doomed: "digest"}}))
    answers = [
        {"query": QUERY.upper(), "answer": ANSWER},
        {"query": "Question 1?", "answer": "Answer 1.", "repeated": None},
        {"query": "Question 2?", "answer": "Answer 2.", "repeated": {"answer": ANSWER, "right": False}},
        {"query": "Question 3?", "answer": ANSWER.upper(), "reference": "Answer 3."},
        {"query": "Question 4?", "answer": "Answer 4.", "reference": BETTER},
    ]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
    Spool(home.spool).torn.write_text(f'{{"exchange": {{"id": "{doomed}", "query": "{QUERY}"\nanother\n')
    everything = {
        "exchanges.duckdb",
        "out.jsonl",
        "out.parquet",
        "out.md",
        "backup.duckdb",
        "snapshot.parquet",
        "heldout.jsonl",
    }
    assert everything <= set(traces(home.root, elsewhere))

    told = forget(log, home, Selection(ids=(doomed,)))
    assert (told.exchanges, told.quoted, told.remaining) == (1, 2, [])
    assert traces(home.root, elsewhere) == []
    # And nothing else is.
    assert log.stats().exchanges == 32
    kept, _ = log.find(str(log.search(["brother"])[0]["id"]))
    assert [turn["content"] for turn in json.loads(kept["context"])] == ["Hello", "Hi."]
    assert len((elsewhere / "out.jsonl").read_text().splitlines()) == 32
    assert (elsewhere / "out.md").read_text().count("<!-- exchange ") == 32
    assert duckdb.connect().execute(f"SELECT count(*) FROM '{elsewhere / 'out.parquet'}'").fetchone() == (32,)
    assert Spool(home.spool).torn.read_text() == "another\n"
    assert [path.name for path in folder.iterdir()] == ["heldout.jsonl"]
    assert len((folder / "heldout.jsonl").read_text().splitlines()) == 1
    other = ExchangeLog(Home(tmp_path / "other").create())
    assert restore(other, elsewhere / "backup.duckdb") == (32, 0)


def test_a_word_is_found_in_earlier_turns_that_a_client_brought_along(log: ExchangeLog, home: Home, doomed: str) -> None:
    before = (Message("user", 'My friend "Zebulon" is ill'), Message("assistant", "Sorry."))
    brought = Exchange("What flowers do I buy?", "Roses.", "teacher", source="http", context=before)
    log.append(brought)
    log.append(Exchange("What flowers do I buy?", "Roses.", "teacher", session="s", turn=3, context=(Message("user", "Hi"),)))
    told = forget(log, home, Selection(words=("zebulon",)))
    # What only repeats a forgotten exchange stays without it.
    assert (told.exchanges, told.quoted) == (2, 2)
    assert traces(home.root) == []
    assert log.stats().exchanges == 33
    with pytest.raises(LogError):
        log.find(brought.id)


def test_an_empty_word_selects_nothing(run: Run, log: ExchangeLog, doomed: str) -> None:
    for command in (("forget", "--search", " ", "--yes"), ("forget", "--search", "Zebulon", "--search", "", "--yes")):
        with pytest.raises(InputError, match="the word to search for is empty"):
            run(*command)
    with pytest.raises(InputError, match="the word to search for is empty"):
        run("search", "")
    assert log.stats().exchanges == 33


def test_an_audit_that_comes_while_its_exchange_is_forgotten_goes_with_it(log: ExchangeLog, home: Home, doomed: str) -> None:
    row, _ = log.find(doomed)
    about = {"session": row["session"], "turn": row["turn"], "source": "audit"}
    log.append(Exchange(QUERY, ANSWER, "teacher", **about), audit_of=doomed)
    assert log.change(lambda session: erase(session, [doomed], set())) == 0
    log.append(Exchange(QUERY, ANSWER, "teacher", **about), audit_of=doomed)
    assert [row["source"] for row in log.search([QUERY])] == []


def test_what_was_forgotten_does_not_come_back(log: ExchangeLog, home: Home, tmp_path: Path, doomed: str) -> None:
    row, _ = log.find(doomed)
    backup(log, tmp_path / "old.duckdb")
    kept = (tmp_path / "old.duckdb").read_bytes()
    forget(log, home, Selection(ids=(doomed,)))
    (tmp_path / "kept.duckdb").write_bytes(kept)
    assert restore(log, tmp_path / "kept.duckdb") == (0, 33)
    again = Exchange(row["query"], row["answer"], "teacher", id=doomed)
    assert log.append(again) is True
    assert log.add_many([again]) == (0, 1)
    assert log.count_new([again]) == (0, 1)
    assert log.search(["Zebulon"]) == []
    assert log.stats().forgotten == 1


def test_a_copy_that_was_changed_or_moved_is_named(log: ExchangeLog, home: Home, tmp_path: Path, doomed: str) -> None:
    for name in ("changed.jsonl", "moved.jsonl"):
        export(log, tmp_path / name)
    with (tmp_path / "changed.jsonl").open("a") as file:
        file.write("\n")
    (tmp_path / "moved.jsonl").rename(tmp_path / "elsewhere.jsonl")
    told = forget(log, home, Selection(ids=(doomed,)))
    assert len(told.remaining) == 2
    assert "changed.jsonl (json) was changed since it was made" in told.remaining[0]
    assert "was moved or deleted" in told.remaining[1]


@pytest.mark.skipif(
    os.name == "nt" or bool(WITHOUT_RIGHTS and not shutil.which("setpriv")), reason="no folder that can only be read here"
)
@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "closed"])
def test_a_report_that_cannot_be_deleted_is_named(log: ExchangeLog, home: Home, tmp_path: Path, doomed: str, mode: int) -> None:
    """And it is no reason to leave undone what comes after it."""
    away, there = private_folder(tmp_path / "away"), tmp_path / "there.html"
    for path in (away / "page.html", there):
        path.write_text("a page")
        log.change(partial(note, path=path, kind="report"))
    (away / "page.html").chmod(mode)
    away.chmod(0o500)
    command = [*WITHOUT_RIGHTS, sys.executable, "-m", "shammah_data.cli", "forget", "--yes", doomed]
    done = subprocess.run(
        command, env=os.environ | {"SHAMMAH_HOME": str(home.root)}, capture_output=True, text=True, timeout=120
    )
    away.chmod(0o700)
    assert done.returncode in (0, 1)
    assert f"{away / 'page.html'} (report) cannot be " in done.stdout + done.stderr
    assert not there.exists()
    assert not home.forgetting.exists()


def test_versions_that_saw_it_are_named_and_later_ones_are_not(
    log: ExchangeLog, home: Home, store: ModelStore, doomed: str, describe: Callable[..., Manifest]
) -> None:
    def publish(made: datetime, until: datetime) -> str:
        def described(*given: object) -> Manifest:
            manifest = describe(*given)
            return replace(manifest, created=made.isoformat(), snapshot_until=until.replace(tzinfo=None).isoformat())

        staging = store.staging()
        (staging / "int8").mkdir()
        for name in ("int8/model.onnx", "int8/weights.bin", "tokenizer.json"):
            (staging / name).write_bytes(b"content")
        return store.publish(staging, described)

    now = datetime.now(UTC)
    publish(now - timedelta(days=2), now - timedelta(days=2))  # before it was logged
    trained = publish(now, now)
    publish(now + timedelta(days=1), now + timedelta(days=1))  # after it was forgotten
    assert forget(log, home, Selection(ids=(doomed,))).versions == [trained]


def test_a_version_whose_times_name_their_zone_is_told_from_others(
    log: ExchangeLog, home: Home, doomed: str, describe: Callable[..., Manifest]
) -> None:
    manifest, now = describe("v0001", ()), datetime.now(UTC)
    forget(log, home, Selection(ids=(doomed,)))
    stones = log.read(tombstones)
    for days, seen in ((-2, False), (0, True), (1, False)):
        moment = (now + timedelta(days=days)).astimezone(timezone(timedelta(hours=5))).isoformat()
        assert saw(replace(manifest, created=moment, snapshot_until=moment), stones) is seen


def test_a_local_answer_that_nobody_rated_was_in_no_training(log: ExchangeLog, home: Home) -> None:
    exchange = Exchange("q", "a", "neural")
    log.append(exchange)
    forget(log, home, Selection(ids=(exchange.id,)))
    assert [each.learnable for each in log.read(tombstones)] == [False]
    assert versions_that_saw(ModelStore(home.models), log.read(tombstones)) == []


def test_a_running_session_hears_of_it_once(log: ExchangeLog, home: Home, doomed: str) -> None:
    announced = Announced(home.tombstones)
    assert announced.fresh() == []
    forget(log, home, Selection(ids=(doomed,)))
    with home.tombstones.open("ab") as file:
        file.write(b'{"id": "half')
    assert announced.fresh() == [doomed]
    assert announced.fresh() == []


@pytest.mark.parametrize(
    ("turns", "left"),
    [
        ([("user", "q"), ("assistant", "a")], []),
        ([("user", "x"), ("assistant", "y"), ("user", "q"), ("assistant", "a")], ["x", "y"]),
        ([("user", "q"), ("assistant", "another")], None),
        ([("assistant", "q"), ("user", "a")], None),
        ([("user", "q")], None),
        ([], None),
    ],
)
def test_contexts_lose_whole_exchanges_only(turns: list[tuple[str, str]], left: list[str] | None) -> None:
    context = json.dumps([{"role": role, "content": content} for role, content in turns])
    found = without(context, {("q", "a")})
    assert (found if found is None else [turn["content"] for turn in json.loads(found)]) == left


def audited(log: ExchangeLog) -> tuple[str, str]:
    """Two local answers to one question in one session, each with its audit; their ids."""
    ids = []
    for turn in range(2):
        given = Exchange(QUERY, f"Given {turn}.", "neural", session="s", turn=turn)
        log.append(given)
        log.append(Exchange(QUERY, f"{ANSWER} {turn}", "teacher", session="s", turn=turn, source="audit"))
        ids.append(given.id)
    return ids[0], ids[1]


def test_the_audits_of_it_go_with_it(log: ExchangeLog, home: Home) -> None:
    first, other = audited(log)
    assert forget(log, home, Selection(ids=(first,))).exchanges == 2
    assert sorted(str(row["answer"]) for row in log.recent()) == [f"{ANSWER} 1", "Given 1."]
    assert b"Quagmire Lane. 0" not in said_in(home.log)
    forget(log, home, Selection(ids=(other,)))
    assert log.recent() == []


def test_the_audits_of_it_are_not_trained_on_either(log: ExchangeLog) -> None:
    first, _ = audited(log)
    assert log.set_trainable(Selection(ids=(first,)), False) == 2
    assert [row["answer"] for row in log.recent() if row["trainable"]] != []
    assert {str(row["answer"]) for row in log.recent() if not row["trainable"]} == {f"{ANSWER} 0", "Given 0."}
    assert [row["target"] for row in log.learnable()] == [f"{ANSWER} 1"]
    assert log.set_trainable(Selection(ids=(first,)), True) == 1
    assert [row["target"] for row in log.learnable()] == [f"{ANSWER} 1"]


def test_only_whole_lines_leave_the_history(log: ExchangeLog, home: Home) -> None:
    exchange = Exchange("hi", "Yes.\nNo.", "teacher")
    log.append(exchange)
    unanswered = Exchange("who?", "", "teacher", complete=False)
    log.append(unanswered)
    kept = ["what is this thing?", "/fix hi there", "say hi", "/why hi", "Yes.", "who? him?", "/fix"]
    gone = ["hi", " hi ", "/fix Yes.\nNo.", "/teacher  hi", "/critical hi", "who?"]
    typed = [line for pair in zip(kept, [*gone, gone[0]], strict=True) for line in pair]
    home.history.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in typed) + '"torn hi')
    told = forget(log, home, Selection(ids=(exchange.id, unanswered.id)))
    assert [json.loads(line) for line in home.history.read_text().splitlines()] == kept
    assert f"8 lines of {home.history}" in told.removed


def test_what_a_backup_had_forgotten_is_forgotten_by_restoring(
    run: Run, log: ExchangeLog, home: Home, tmp_path: Path, doomed: str
) -> None:
    backup(log, tmp_path / "all.duckdb")
    there = Home(tmp_path / "there").create()
    other = ExchangeLog(there)
    restore(other, tmp_path / "all.duckdb")
    forget(other, there, Selection(ids=(doomed,)))
    backup(other, tmp_path / "less.duckdb")
    log.snapshot(private_folder(private_folder(home.runs) / "r") / "snapshot.parquet")

    told = run("restore", tmp_path / "less.duckdb").stdout.splitlines()
    assert told[:2] == [
        "less.duckdb: 0 exchanges restored, 32 already there or forgotten",
        "forgotten, as in the backup: 1 exchange",
    ]
    assert log.stats().exchanges == 32
    assert log.stats().forgotten == 1
    assert [finding for finding in verify(log, home) if finding.level == "problem"] == []
    assert traces(home.root, tmp_path) == []
    assert json.loads(run("restore", tmp_path / "less.duckdb", "--json").stdout).keys() == {"file", "new", "known"}


STEPS = (
    "shammah_data.forget.erase",
    "shammah_data.database.FileDatabase.rewrite",
    "shammah_data.forget._runs",
    "shammah_data.forget._typed",
    "shammah_data.forget.shutil.rmtree",
    "shammah_data.forget._copy",
    "shammah_data.forget.versions_that_saw",
)


@pytest.mark.parametrize(
    ("step", "again"),
    [*((step, "the id") for step in STEPS), *((STEPS[3], again) for again in ("the words", "nothing", "others"))],
)
def test_what_was_interrupted_is_finished_by_the_next_call(
    run: Run, log: ExchangeLog, home: Home, tmp_path: Path, doomed: str, monkeypatch: pytest.MonkeyPatch, step: str, again: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    export(log, tmp_path / "out.jsonl")
    log.snapshot(private_folder(private_folder(home.runs) / "r") / "snapshot.parquet")
    (private_folder(home.runs / "r" / "merged") / "weights").write_bytes(b"Zebulon")
    (home.runs / "r" / "merged" / "weights").chmod(0o600)
    home.history.write_text(json.dumps(QUERY) + "\n")
    home.history.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(OSError, match="No space"):
            run("forget", doomed)
    assert home.forgetting.stat().st_mode & 0o777 == 0o600
    problems = [finding.told for finding in verify(log, home) if finding.level == "problem"]
    assert any("`shammah-log forget` finishes it" in told for told in problems)
    assert run("forget", doomed[:8], "--dry-run").exit_code == 0
    assert home.forgetting.exists()

    other = str(log.search(["Question 7?"])[0]["id"])
    asked = {"the id": [doomed[:8]], "the words": ["--search", "zebulon", "--yes"], "nothing": [], "others": [other]}
    told = run("forget", *asked[again]).stdout
    assert told.startswith("forgotten: ")
    assert (doomed in told) == (again in ("the id", "others"))
    assert traces(home.root, tmp_path) == []
    assert not home.forgetting.exists()
    assert [finding for finding in verify(log, home) if finding.level == "problem"] == []
    assert log.stats().forgotten == (2 if again == "others" else 1)


def test_what_is_still_to_be_forgotten_must_be_readable(log: ExchangeLog, home: Home, doomed: str) -> None:
    home.forgetting.write_text("{}")
    with pytest.raises(LogError, match=r"forgetting\.json: cannot be read"):
        forget(log, home, Selection(ids=(doomed,)))
    assert log.stats().forgotten == 0


# -- the command ---------------------------------------------------------------------------------------------------------


def test_forgetting_by_words_wants_a_yes(run: Run, log: ExchangeLog, doomed: str) -> None:
    assert "1 exchange would be forgotten" in run("forget", "--search", "zebulon", "--dry-run").stdout
    with pytest.raises(InputError, match="add --yes"):
        run("forget", "--search", "zebulon")
    assert log.stats().forgotten == 0
    told = run("forget", "--search", "zebulon", "--yes").stdout.splitlines()
    assert told == ["forgotten: 1 exchange", "taken out of what 2 later turns quoted"]
    assert run("forget", "--search", "zebulon", "--yes").stdout == "no exchange is selected\n"


def test_forgetting_by_time_and_source(run: Run, log: ExchangeLog, doomed: str) -> None:
    log.append(Exchange("old", "a", "import", created_at=datetime(2020, 5, 1, tzinfo=UTC), source="import:x.jsonl"))
    found = json.loads(run("forget", "--source", "import:x.jsonl", "--dry-run", "--json").stdout)["would_forget"]
    assert [row["query"] for row in found] == ["old"]
    assert run("forget", "--before", "2021-01-01", "--yes").stdout == "forgotten: 1 exchange\n"
    assert json.loads(run("forget", "--since", "1h", "--yes", "--json").stdout)["exchanges"] == 33
    assert log.stats().exchanges == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which exchanges"),
        (["--since", "yesterday"], "is no time"),
        (["--before", "2026-13-01"], "is no time"),
        (["--since", "999999w"], "is no time"),
        (["--before", "9999-12-31T23:59-12:00"], "is no time"),
        (["ffff"], "no exchange"),
    ],
)
def test_what_selects_nothing_is_refused(run: Run, log: ExchangeLog, arguments: list[str], says: str) -> None:
    with pytest.raises(ShammahError, match=says):
        run("forget", *arguments, "--yes")
