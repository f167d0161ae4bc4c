"""Backup, restore, compact, repair and verify: as functions and as commands."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from shammah_data import schema
from shammah_data.cli import app
from shammah_data.copies import backup, restore
from shammah_data.database import FileDatabase
from shammah_data.errors import InputError, LogError, ShammahError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.repair import repair
from shammah_data.session import LogTakenError
from shammah_data.store import ModelStore
from shammah_data.verify import content_digest, verify

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SHAMMAH_HOME", str(home.root))
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def filled(log: ExchangeLog) -> ExchangeLog:
    """A log with something in every table."""
    attempts = (Attempt("neural", "declined", "unsure", 0.1, 0.9, 5.0), Attempt("teacher", "accepted", "asked"))
    context = (Message("user", "Hi"), Message("assistant", "Hello"))
    exchanges = [
        Exchange(f"Wo? {n}\0 “👩‍👩‍👧”", f"'{n}'", "teacher", context=context, cost_usd=0.1, attempts=attempts)
        for n in range(40)
    ]
    log.add_many(exchanges)
    log.rate(Feedback(exchanges[0].id, "bad", 10.0, "Better."))
    log.record_run(RunRecord("r", NOW, NOW, "refused", "no", None, {"loss": 1.5}))
    return log


def everything(log: ExchangeLog) -> object:
    sql = {
        "exchanges": "SELECT * EXCLUDE (logged_at) FROM exchanges ORDER BY id",
        "attempts": "SELECT * FROM attempts ORDER BY ALL",
        "feedback": "SELECT * FROM feedback ORDER BY id",
        "runs": "SELECT * FROM runs",
    }
    return {name: log.read(lambda s, one=one: s.execute(one).fetchall()) for name, one in sql.items()}  # type: ignore[misc]


# -- backup and restore --------------------------------------------------------------------------------------------------


def test_a_backup_restores_everything_into_another_home(filled: ExchangeLog, tmp_path: Path) -> None:
    path = tmp_path / "it's a backup.duckdb"
    assert backup(filled, path) == 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if "shammah-backup" in each.name] == []
    other = ExchangeLog(Home(tmp_path / "other").create())
    before = path.read_bytes()
    assert restore(other, path) == (40, 0)
    assert restore(other, path) == (0, 40)
    assert everything(other) == everything(filled)
    assert other.read(content_digest) == filled.read(content_digest)
    assert path.read_bytes() == before


def test_restoring_changes_nothing_that_is_there(filled: ExchangeLog, tmp_path: Path) -> None:
    backup(filled, tmp_path / "b.duckdb")
    newest = filled.recent(1)[0]
    filled.rate(Feedback(str(newest["id"]), "good"))
    filled.append(Exchange("later", "a", "teacher"))
    assert restore(filled, tmp_path / "b.duckdb") == (0, 40)
    assert filled.stats().exchanges == 41
    assert filled.find(str(newest["id"]))[0]["rating"] == "good"


def test_a_backup_of_an_older_schema_is_restored(log: ExchangeLog, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "old.duckdb")) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
        connection.execute(schema.MIGRATIONS[0] + "INSERT INTO schema_version VALUES (1, now()::TIMESTAMP)")
        connection.execute(
            "INSERT INTO exchanges SELECT uuid(), TIMESTAMP '2026-01-02', TIMESTAMP '2026-01-02', 's', 0, 'q', '[]', 'a', "
            "'teacher', 'serve', NULL, NULL, true, true, NULL, NULL, NULL, NULL, NULL, NULL FROM range(7)"
        )
    assert restore(log, tmp_path / "old.duckdb") == (7, 0)


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_what_is_no_backup_is_refused_in_one_line(log: ExchangeLog, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "b.duckdb"
    if content is not None:
        path.write_bytes(content)
    log.append(Exchange("q", "a", "teacher"))
    with pytest.raises(InputError, match=r"cannot be read|not a backup") as caught:
        restore(log, path)
    assert "repair" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert log.stats().exchanges == 1


def test_a_backup_that_cannot_be_written_says_so(filled: ExchangeLog, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be written"):
        backup(filled, tmp_path / "missing" / "b.duckdb")


def test_backup_and_restore_as_commands(run: Run, filled: ExchangeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.duckdb"
    assert run("backup", path).stdout.startswith(f"40 exchanges in {path} (")
    with pytest.raises(InputError, match="is there already"):
        run("backup", path)
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "other"))
    assert run("restore", path).stdout == "b.duckdb: 40 exchanges restored, 0 already there or forgotten\n"
    assert json.loads(run("restore", path, "--json").stdout) == {"file": str(path), "new": 0, "known": 40}


# -- compact -------------------------------------------------------------------------------------------------------------


def test_compacting_keeps_everything_and_takes_less_room(run: Run, log: ExchangeLog, home: Home) -> None:
    log.add_many(Exchange(f"q{n}", os.urandom(500).hex(), "teacher") for n in range(3000))
    log.change(lambda session: session.execute("DELETE FROM exchanges WHERE query NOT LIKE '%7%'"))
    before = everything(log)
    sizes = json.loads(run("compact", "--json").stdout)
    assert sizes["bytes_after"] < sizes["bytes_before"]
    assert everything(log) == before
    assert home.log.stat().st_size == sizes["bytes_after"]
    assert sorted(path.name for path in home.root.iterdir() if "exchanges" in path.name) == [
        "exchanges.duckdb",
        "exchanges.duckdb.lock",
    ]
    assert home.log.stat().st_mode & 0o777 == 0o600
    assert log.append(Exchange("after", "a", "teacher"))


def test_a_rewrite_killed_between_its_renames_is_undone(filled: ExchangeLog, home: Home) -> None:
    before = everything(filled)
    old = home.log.with_name(".exchanges.duckdb.old")
    shutil.copyfile(home.log, home.log.with_name(".exchanges.duckdb.new"))
    home.log.rename(old)
    assert everything(filled) == before
    assert not old.exists()


APPENDS = """
import sys
from pathlib import Path
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

log = ExchangeLog(Home(Path(sys.argv[1])))
for n in range(int(sys.argv[2])):
    print(log.append(Exchange(f"appended {n}", "a", "teacher")), flush=True)
"""
POLLS = """
import sys
from pathlib import Path
from shammah_data.database import FileDatabase

print("begins", flush=True)
count = lambda session: session.execute("SELECT count(*) FROM exchanges").fetchall()[0][0]
print(FileDatabase(Path(sys.argv[1])).run(count, write=sys.argv[2] == "write", wait=20.0), flush=True)
"""


@pytest.mark.parametrize("purpose", ["write", "read"])
def test_who_waits_for_a_rewrite_neither_makes_a_database_between_its_renames_nor_fails(
    purpose: str, filled: ExchangeLog, home: Home, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(filled.read(lambda session: session.execute("SELECT id FROM exchanges").fetchall()))
    others: list[subprocess.Popen[str]] = []
    replace = os.replace

    def begin(_: Path) -> None:
        """While the rewrite has the database open, so that the other one tries again and again."""
        others.append(spawn(POLLS, home.log, purpose))
        assert others[0].stdout is not None
        assert others[0].stdout.readline() == "begins\n"
        time.sleep(0.5)

    def slow_replace(source: Path, target: Path) -> None:
        replace(source, target)
        if str(target).endswith(".old"):
            time.sleep(0.5)
            assert not home.log.exists()

    monkeypatch.setattr("shammah_data.database.fsync_file", begin)
    monkeypatch.setattr("shammah_data.database.os.replace", slow_replace)
    assert filled.file is not None
    filled.file.rewrite(10.0)
    said, wrong = others[0].communicate(timeout=30)
    assert (said, wrong) == (f"{count}\n", "")


def test_rewrites_beside_a_writer_lose_nothing(filled: ExchangeLog, home: Home, spawn: Spawn) -> None:
    writer = spawn(APPENDS, home.root, 150)
    rewrites = 0
    assert filled.file is not None
    while writer.poll() is None:
        with contextlib.suppress(LogTakenError):
            filled.file.rewrite(10.0)
            rewrites += 1
    assert writer.returncode == 0
    assert rewrites > 3
    found = filled.read(lambda session: session.execute("SELECT id FROM exchanges WHERE query LIKE 'appended %'").fetchall())
    assert len(found) == 150


# -- repair --------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import duckdb
connection = duckdb.connect(sys.argv[1])
for number in range(20):
    connection.execute("INSERT INTO exchanges SELECT uuid(), now()::TIMESTAMP, now()::TIMESTAMP, 's', 0, ?, '[]', 'a', "
        "'teacher', 'serve', NULL, NULL, true, true, NULL, NULL, NULL, NULL, NULL, NULL", [f"in the wal {number}"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def with_wal(filled: ExchangeLog, home: Home, spawn: Spawn) -> Path:
    """A write-ahead log with twenty transactions that a kill left behind."""
    spawn(KILLED, home.log).wait()
    wal = FileDatabase(home.log).wal
    assert wal.stat().st_size > 1000
    return wal


def damage(wal: Path, at: int) -> bytes:
    content = bytearray(wal.read_bytes())
    content[at] ^= 0xFF
    wal.write_bytes(content)
    return bytes(content)


def test_a_write_ahead_log_that_replays_needs_no_repair(filled: ExchangeLog, home: Home, with_wal: Path) -> None:
    assert filled.stats().exchanges == 60
    with pytest.raises(InputError, match="nothing to repair"):
        repair(home)


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_a_damaged_write_ahead_log_is_never_deleted_and_serving_goes_on(
    filled: ExchangeLog, home: Home, with_wal: Path, where: str
) -> None:
    wal = with_wal.read_bytes()
    content = damage(
        with_wal, 1 if where == "start" else wal.index(b"in the wal 10" if where == "middle" else b"in the wal 19")
    )
    database = home.log.read_bytes()
    for use in (filled.recent, lambda: filled.append(Exchange("meanwhile", "a", "teacher"))):
        with pytest.raises(LogError, match="write-ahead log cannot be replayed") as caught:
            use()
        assert "shammah-log repair" in str(caught.value)
    assert (with_wal.read_bytes(), home.log.read_bytes()) == (content, database)
    assert filled.spooled() == 1

    told = repair(home)
    assert (told.aside / with_wal.name).read_bytes() == content
    assert (told.aside / home.log.name).read_bytes() == database
    found = {row["query"] for row in filled.recent(1000)}
    assert "meanwhile" in found
    assert len(found) == told.saved + 1
    rescued = sorted(int(query.split()[-1]) for query in found if query.startswith("in the wal"))
    # Whole transactions up to the damaged one.
    assert rescued == list(range(len(rescued)))
    assert len(rescued) == {"start": 0, "middle": 10, "end": 19}[where]


def test_a_damaged_database_is_set_aside_and_a_new_one_begins(
    run: Run, filled: ExchangeLog, home: Home, tmp_path: Path
) -> None:
    backup(filled, tmp_path / "b.duckdb")
    home.log.write_bytes(b"no database" * 1000)
    assert "0 exchanges saved" in run("repair").stdout
    assert [path.read_bytes() for path in home.damaged.glob("*/*.duckdb")] == [b"no database" * 1000]
    assert restore(filled, tmp_path / "b.duckdb") == (40, 0)
    assert "holds a damaged database" in run("verify").stdout


def test_a_newer_database_is_not_damaged(filled: ExchangeLog, home: Home) -> None:
    filled.change(lambda session: session.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)"))
    with pytest.raises(LogError, match="newer Shammah"):
        repair(home)
    assert home.log.exists()


# -- verify --------------------------------------------------------------------------------------------------------------


def problems(log: ExchangeLog, home: Home) -> list[str]:
    return [finding.told for finding in verify(log, home) if finding.level == "problem"]


def test_a_whole_home_has_no_problem(run: Run, filled: ExchangeLog, home: Home, publish: Callable[[], str]) -> None:
    publish()
    done = run("verify")
    assert done.exit_code == 0, done.stdout
    assert "40 exchanges, every row read, digest " in done.stdout
    assert {each["level"] for each in json.loads(run("verify", "--json").stdout)} == {"ok"}


def test_the_digest_is_of_what_the_log_says(filled: ExchangeLog) -> None:
    before = filled.read(content_digest)
    assert filled.file is not None
    filled.file.rewrite(5.0)
    assert filled.read(content_digest) == before
    filled.rate(Feedback(str(filled.recent(1)[0]["id"]), "good"))
    assert filled.read(content_digest) != before


def test_every_problem_is_named(filled: ExchangeLog, home: Home, store: ModelStore, publish: Callable[[], str]) -> None:
    name = publish()
    gone = str(filled.recent(1)[0]["id"])
    filled.change(lambda session: session.execute("DELETE FROM exchanges WHERE id = ?", [gone]))
    filled.change(lambda session: session.execute("UPDATE exchanges SET context = '[' WHERE turn = 0 AND query LIKE 'Wo? 1%'"))
    weights = store.folder(name) / "int8" / "weights.bin"
    weights.write_bytes(b"wrong!!")
    home.spool.with_suffix(".torn").write_text("torn\n")
    home.settings.write_text("")
    home.settings.chmod(0o644)
    folder = home.runs / "r"
    folder.mkdir(parents=True, mode=0o700)
    home.runs.chmod(0o700)
    digest, _, _ = filled.snapshot(folder / "snapshot.parquet")
    (folder / "run.json").write_text(json.dumps({"figures": {"snapshot_sha256": digest[::-1]}}))
    (folder / "run.json").chmod(0o600)
    home.spool.with_suffix(".torn").chmod(0o600)
    found = problems(filled, home)
    kept, other_bytes = "1 line that could not be used is kept in", "not the bytes that were trained on"
    for words in ("2 attempts", "1 unreadable context", kept, other_bytes, "weights.bin"):
        assert any(words in told for told in found), (words, found)
    assert any("config.toml can be read by others" in told for told in found), found


def test_a_log_that_cannot_be_opened_is_one_problem(run: Run, filled: ExchangeLog, home: Home) -> None:
    home.log.write_bytes(b"no database" * 1000)
    done = run("verify")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].startswith("problem log")


def test_what_cannot_be_looked_at_is_a_problem_and_hides_no_other(filled: ExchangeLog, home: Home) -> None:
    home.spool.with_suffix(".torn").mkdir()
    # Whatever this process's umask is by now.
    home.spool.with_suffix(".torn").chmod(0o755)
    found = problems(filled, home)
    assert f"Is a directory: {home.spool.with_suffix('.torn')}" in found
    assert any("can be read by others" in told for told in found)


def test_bad_command_lines_of_upkeep_are_one_line(run: Run, home: Home) -> None:
    home.settings.write_text('log = "quack:localhost:1"\n')
    for arguments in (["serve"], ["compact"]):
        with pytest.raises(ShammahError, match="server"):
            run(*arguments)
    home.settings.write_text('log = "postgres://x"\n')
    with pytest.raises(ShammahError, match="must name a server"):
        run("list")
