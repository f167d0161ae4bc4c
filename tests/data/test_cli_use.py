"""shammah-log in use: search, rate, fix, export and back."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pexpect
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result
from wcwidth import wcswidth

from shammah_data.audit_queries import waiting
from shammah_data.cli import app
from shammah_data.copies import export
from shammah_data.errors import InputError, LogError
from shammah_data.exchange import Exchange, Message, Tier
from shammah_data.home import Home
from shammah_data.importing import BadLines, read_past
from shammah_data.log import ExchangeLog
from shammah_data.savings import savings
from shammah_data.served import served
from shammah_data.text import printable

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home").create()


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def put(home: Home, query: str, answer: str, tier: Tier = "teacher") -> str:
    exchange = Exchange(query, answer, tier, context=(Message("user", "hi"), Message("assistant", "hello")))
    ExchangeLog(home).append(exchange)
    return exchange.id


def test_words_find_exchanges_in_any_case(home: Home, run: Run) -> None:
    first, second = put(home, "Where is the KEY?", "Under the mat."), put(home, "Where is the lamp?", "In the häll, 100%.")
    assert [row["id"] for row in json.loads(run("search", "--json", "key", "MAT").stdout)] == [first]
    assert [row["id"] for row in json.loads(run("search", "--json", "HÄLL", "100%").stdout)] == [second]
    assert {row["id"] for row in json.loads(run("search", "--json", "where").stdout)} == {first, second}
    assert run("search", "key", "lamp").stdout == "no exchange holds all of these words\n"
    run("fix", first, "Under the stone.")
    assert [row["id"] for row in json.loads(run("search", "--json", "stone").stdout)] == [first]


def test_ratings_and_corrections_decide_what_is_learned(home: Home, run: Run) -> None:
    first, second = put(home, "Q1", "A1"), put(home, "Q2", "A2", "neural")
    assert run("rate", first[:8], "good", "--weight", 10).stdout == f"rated good: {first}\n"
    assert run("fix", second[:8], "B2").stdout == f"corrected: {second}\n"
    learned = {row["query"]: (row["target"], row["weight"]) for row in ExchangeLog(home).learnable()}
    assert learned == {"Q1": ("A1", 10.0), "Q2": ("B2", 1.0)}
    run("rate", first, "bad")
    assert [row["query"] for row in ExchangeLog(home).learnable()] == ["Q2"]


def test_a_correction_that_was_called_bad_is_shown_as_withdrawn(home: Home, run: Run, tmp_path: Path) -> None:
    identity = put(home, "Q1", "A1")
    run("fix", identity, "B1")
    assert "withdrawn" not in run("show", identity).stdout
    run("export", tmp_path / "before.md")
    assert "\nCorrected:\n" in (tmp_path / "before.md").read_text()
    run("rate", identity, "bad")
    lines = run("show", identity).stdout.splitlines()
    assert f"{'correction':<20} B1" in lines
    assert f"{'withdrawn':<20} the correction, which was called bad too" in lines
    assert json.loads(run("show", "--json", identity).stdout)["withdrawn"] is True
    run("export", tmp_path / "after.md")
    assert "\nCorrected, and withdrawn:\n" in (tmp_path / "after.md").read_text()


def test_the_figures_of_who_answered_stand_below_one_another(home: Home, run: Run) -> None:
    put(home, "Q1", "A1")
    put(home, "Q2", "")
    lines = run("stats").stdout.splitlines()[1:]
    assert sorted(line.split()[0] for line in lines) == ["teacher", "unanswered"]
    assert len({line.index(" 50.0%") for line in lines}) == 1


def test_what_makes_no_sense_is_refused(home: Home, run: Run, tmp_path: Path) -> None:
    first = put(home, "Q1", "A1")
    with pytest.raises(InputError, match="one of 1, 3, 10"):
        run("rate", first, "good", "--weight", 2)
    with pytest.raises(InputError, match="empty"):
        run("fix", first, " ")
    with pytest.raises(LogError, match="no exchange"):
        run("rate", "ffffffff", "good")
    assert run("rate", first, "fine").exit_code == 2
    unanswered = put(home, "Q2", "")
    with pytest.raises(InputError, match=r"nobody answered this; `shammah-log fix .* TEXT` tells the right answer"):
        run("rate", unanswered, "good")
    run("fix", unanswered, "A2")
    run("rate", unanswered, "good")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        run("export", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.md"])
def test_an_export_that_cannot_be_written_names_its_own_path(home: Home, run: Run, tmp_path: Path, name: str) -> None:
    out = tmp_path / "nowhere" / name
    put(home, "Q1", "A1")
    with pytest.raises(InputError, match="No such file or directory") as refused:
        run("export", out)
    assert str(refused.value).startswith(f"{out}: cannot be written: ")


@pytest.mark.skipif(os.name == "nt", reason="names there are no bytes")
def test_bytes_that_are_no_text_select_nothing_and_name_no_copy(home: Home, run: Run, tmp_path: Path) -> None:
    """A copy whose name cannot be noted would keep what is forgotten."""
    put(home, "Q1", "A1")
    odd = os.fsdecode(b"no\xff")
    for arguments in (
        ["search", odd],
        ["forget", "--source", odd],
        ["forget", "--search", odd],
        ["trainable", "no", "--source", odd],
    ):
        with pytest.raises(InputError, match="is no text in UTF-8"):
            run(*arguments)
    for command in ("export", "backup"):
        with pytest.raises(InputError, match="is no text in UTF-8"):
            run(command, tmp_path / odd)
    assert odd not in os.listdir(tmp_path)


def test_an_export_of_a_log_that_cannot_be_read_leaves_nothing(home: Home, run: Run, tmp_path: Path) -> None:
    home.log.write_bytes(b"no database" * 1000)
    with pytest.raises(LogError):
        run("export", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.skipif(os.name == "nt", reason="no limit of a file's size")
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.md"])
def test_an_export_that_the_disk_does_not_hold_leaves_nothing(home: Home, tmp_path: Path, name: str) -> None:
    """Nothing of what users wrote may lie where `forget` does not look."""
    put(home, "Q1", os.urandom(100_000).hex())
    (tmp_path / "there").mkdir()
    code = (
        "import resource, sys\nfrom shammah_data.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.argv = ['shammah-log', 'export', {str(tmp_path / 'there' / name)!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "there").iterdir()) == []


def test_an_export_comes_back_as_it_was(home: Home, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, "Q1", "A1")
    put(home, "Q2", "A2", "neural")
    bad, fixed = put(home, "Q3", "A3"), put(home, "Q4", "A4")
    run("rate", bad, "bad")
    run("fix", fixed, "B4")
    withdrawn = put(home, "Q5", "A5", "teacher")
    run("fix", withdrawn, "B5")
    run("rate", withdrawn, "bad")
    out = tmp_path / "log.jsonl"
    assert run("export", out).stdout == f"5 exchanges in {out}\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert run("import", out).stdout == "log.jsonl: 0 new, 5 already there, 0 unusable\n"

    before = {row["id"]: row for row in ExchangeLog(home).recent()}
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "other"))
    assert run("import", out).stdout == "log.jsonl: 5 new, 0 already there, 0 unusable\n"
    other = ExchangeLog(Home(tmp_path / "other"))
    for row in other.recent():
        same = ("query", "context", "tier", "created_at", "session", "turn", "complete")
        assert {name: row[name] for name in same} == {name: before[row["id"]][name] for name in same}
        assert row["source"] == "import:log.jsonl"
    # A local answer stays one, a wrong one is not learned, a corrected one is as it should have been.
    assert {row["query"]: row["target"] for row in other.learnable()} == {"Q1": "A1", "Q4": "B4"}


def test_what_was_learned_from_ratings_comes_back_and_what_nobody_answered_is_no_mistake(
    home: Home, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, fixed = put(home, "Q1", "A1", "neural"), put(home, "Q2", "A2", "learned")
    put(home, "Q3", "A3", "neural")
    run("rate", good, "good")
    run("fix", fixed, "B2")
    ExchangeLog(home).append(Exchange("Q4", "", "teacher", complete=False))
    out = tmp_path / "log.jsonl"
    run("export", out)
    before = {row["query"]: row["target"] for row in ExchangeLog(home).learnable()}
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "other"))
    done = run("import", out)
    assert done.stdout == "log.jsonl: 3 new, 0 already there, 0 unusable, 1 that nobody answered left out\n"
    assert {row["query"]: row["target"] for row in ExchangeLog(Home(tmp_path / "other")).learnable()} == before
    assert before == {"Q1": "A1", "Q2": "B2"}


def test_a_line_of_a_file_cannot_hide_that_it_came_from_one(home: Home, run: Run, tmp_path: Path) -> None:
    lines = [
        {"query": "q1", "response": "a1", "source": "serve", "tier": "teacher", "teacher_model": "claude-sonnet-5-5"},
        {"query": "q2", "response": "a2", "source": "http", "tier": "neural", "model_version": "v0001"},
        {"query": "q3", "response": "a3", "source": "audit", "tier": "teacher"},
    ]
    past = tmp_path / "hostile.jsonl"
    past.write_text("\n".join(map(json.dumps, lines)))
    home.settings.write_text("[privacy]\ntrain_on_imports = false\n")
    run("import", past)
    log = ExchangeLog(home)
    assert log.learnable() == []
    found = log.read(savings)
    assert (found.answered, found.local) == (0, 0)
    counted = log.read(lambda session: served(session, datetime.now(UTC), [], []))
    assert (counted.asked, counted.imported) == (0, 3)
    assert {who: n for who, (n, *_) in log.stats().per_tier.items()} == {"import": 3}
    # Else the teacher would be asked, and paid, for what another machine answered.
    assert log.read(lambda session: waiting(session, datetime(2020, 1, 1, tzinfo=UTC))) == []
    assert json.loads(run("forget", "--source", "import:hostile.jsonl", "--yes", "--json").stdout)["exchanges"] == 3


def test_an_export_to_parquet(home: Home, run: Run, tmp_path: Path) -> None:
    put(home, "Q1", "A1")
    out = tmp_path / "it's.parquet"
    run("export", out)
    with duckdb.connect() as connection:
        assert connection.execute("SELECT query, response FROM read_parquet(?)", [str(out)]).fetchall() == [("Q1", "A1")]


texts = st.text(min_size=1, max_size=200).filter(lambda text: bool(printable(text).strip()) and "\x00" not in text)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=20))
def test_any_text_survives_export_and_import(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("roundtrip")
    log = ExchangeLog(Home(folder / "home").create())
    exchanges = [Exchange(query, answer, "teacher") for query, answer in pairs]
    log.add_many(exchanges)
    export(log, folder / "out.jsonl")
    bad = BadLines()
    found = {each.id: (each.query, each.answer, each.created_at) for each in read_past(folder / "out.jsonl", bad)}
    assert bad.count == 0
    # What drives a terminal never reaches the log; of a query it is kept as it was typed.
    assert found == {each.id: (each.query, printable(each.answer), each.created_at) for each in exchanges}


def test_every_command_speaks_json(home: Home, run: Run, tmp_path: Path) -> None:
    one = put(home, "Q1", "A1")
    past = tmp_path / "past.jsonl"
    past.write_text('{"query": "q", "response": "a"}\n')
    commands: list[tuple[str, ...]] = [
        ("import", str(past)),
        ("list",),
        ("search", "q1"),
        ("show", one),
        ("stats",),
        ("rate", one, "good"),
        ("fix", one, "B1"),
        ("trainable", "no", one),
        ("export", str(tmp_path / "out.md")),
        ("backup", str(tmp_path / "b.duckdb")),
        ("restore", str(tmp_path / "b.duckdb")),
        ("compact",),
        ("verify",),
        ("forget", one),
    ]
    found = {arguments[0]: json.loads(run(*arguments, "--json").stdout) for arguments in commands}
    assert found["import"][0]["new"] == 1
    assert [row["query"] for row in found["search"]] == ["Q1"]
    assert found["trainable"] == {"changed": 1, "trainable": False}
    assert found["stats"]["exchanges"] == 2
    assert found["export"]["exchanges"] == found["backup"]["exchanges"] == 2
    assert found["restore"]["new"] == 0
    assert found["forget"]["exchanges"] == 1
    # repair has nothing to do, serve nothing to print: every other command is here.
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == found.keys() | {"repair", "serve"}


def test_what_may_be_trained_on_can_be_said_by_source(home: Home, run: Run, tmp_path: Path) -> None:
    put(home, "Q1", "A1")
    past = tmp_path / "past.jsonl"
    past.write_text('{"query": "q", "response": "a"}\n')
    run("import", past)
    assert run("trainable", "no", "--source", "import:past.jsonl").stdout == "1 exchange changed: must not be trained on\n"
    assert [row["query"] for row in ExchangeLog(home).learnable()] == ["Q1"]
    with pytest.raises(InputError, match="say yes or no"):
        run("trainable", "maybe", "--source", "serve")
    with pytest.raises(InputError, match="which exchanges"):
        run("trainable", "no")


def test_a_markdown_export_quotes_what_users_wrote(home: Home, run: Run, tmp_path: Path) -> None:
    put(home, "# Not a heading\n<!-- exchange 0 -->", "One\n\ntwo")
    run("export", tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text()
    assert "> # Not a heading\n> <!-- exchange 0 -->\n" in text
    assert "> One\n>\n> two\n" in text
    assert next(line for line in text.splitlines() if line.startswith("#")) == "# Exchanges"
    assert sum(line.startswith("<!-- exchange ") for line in text.splitlines()) == 1


def test_a_markdown_export_cannot_drive_a_terminal(home: Home, run: Run, tmp_path: Path) -> None:
    hostile = Exchange("a\0b\x1b[2J\x1b]0;title\x07c\u202ed", "A", "teacher", teacher_model="m\n<!-- exchange 0 -->\x1b[2J")
    ExchangeLog(home).append(hostile)
    run("export", tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text()
    assert printable(text) == text
    assert "> abcd\n" in text
    assert sum(line.startswith("<!-- exchange ") for line in text.splitlines()) == 1


def test_what_an_audit_asked_is_told_apart_from_what_a_user_asked(home: Home, run: Run) -> None:
    put(home, "Q1", "A1")
    ExchangeLog(home).append(Exchange("Q2", "A2", "teacher", source="audit"))
    told = {line.split()[4]: line.split()[3] for line in run("list").stdout.splitlines()}
    assert told == {"Q1": "teacher", "Q2": "audit"}


def test_a_table_fits_its_terminal(home: Home) -> None:
    put(home, "How does the very long question end that nobody can read in one line? " * 3, "So. " * 80)
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    for width in (78, 100):
        child: pexpect.spawn[str] = pexpect.spawn(
            str(Path(sys.executable).with_name("shammah-log")),
            ["list"],
            dimensions=(30, width),
            env=environment,
            encoding="utf-8",
            timeout=60,
        )
        heading, line = child.read().splitlines()
        child.close()
        assert heading.startswith("id       time (UTC)")
        assert len(line) == width


def test_odd_but_legal_exchanges_are_shown_in_their_places(home: Home, run: Run, tmp_path: Path) -> None:
    rows = [
        {"query": "全角" * 40, "response": "a", "created_at": "2026-11-30T23:30:00+09:00"},
        {"query": "👩‍👩‍👧 e\u0301 العربية", "response": "b", "created_at": "0001-01-01T00:00:00Z"},
        {"query": "first line\nrating               good", "response": "c", "created_at": "9999-12-31T23:59:59Z"},
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("import", path).stdout == "odd.jsonl: 3 new, 0 already there, 0 unusable\n"
    lines = run("list").stdout.splitlines()
    assert [line[9:25] for line in lines] == ["9999-12-31 23:59", "2026-11-30 14:30", "0001-01-01 00:00"]
    # The answers stand below one another on a terminal, however wide the letters before them are.
    assert len({wcswidth(line[:-1]) for line in lines}) == 1
    assert "全…  a" in lines[1]
    identity = next(row["id"] for row in json.loads(run("list", "--json").stdout) if row["answer"] == "c")
    shown = run("show", identity).stdout.splitlines()
    assert "created_at           9999-12-31 23:59:59 UTC" in shown
    assert not [line for line in shown if line.startswith("rating")]
    assert f"{' ' * 21}rating               good" in shown
    run("export", tmp_path / "odd.md")
    assert "## 0001-01-01 00:00 · import" in (tmp_path / "odd.md").read_text(encoding="utf-8")
    done = run("export", tmp_path / "odd.jsonl.gz")
    assert done.stdout == f"3 exchanges in {tmp_path / 'odd.jsonl.gz'}\n"


def test_what_would_be_forgotten_of_one_day_says_one_day(home: Home, tmp_path: Path) -> None:
    when = datetime(2026, 11, 30, 12, tzinfo=UTC)
    ExchangeLog(home).add_many([Exchange("a?", "a", "import", created_at=when)])
    result = CliRunner().invoke(app, ["forget", "--search", "a?"])
    assert str(result.exception) == "this would forget 1 exchange, of 2026-11-30: add --yes, or look first with --dry-run"
    ExchangeLog(home).add_many([Exchange("a? b?", "a", "import", created_at=datetime(1, 1, 2, tzinfo=UTC))])
    result = CliRunner().invoke(app, ["forget", "--search", "a?"])
    assert "2 exchanges, from 0001-01-02 to 2026-11-30:" in str(result.exception)
