"""The log on a server: real processes, real HTTP on loopback, the server owning the only database file."""

import contextlib
import itertools
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.log_server import Server
from shammah_data import queries
from shammah_data.copies import backup, restore
from shammah_data.errors import LogError, SettingsError
from shammah_data.exchange import Attempt, Audited, Exchange, Feedback, Message, RunRecord
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, context_of, read_snapshot
from shammah_data.polled import Polled
from shammah_data.queries import Selection
from shammah_data.remote import TOKEN_VARIABLE, filled, go_directly, read_token
from shammah_data.session import LogTakenError, fetch
from shammah_data.settings import Settings
from shammah_data.verify import content_digest

Spawn = Callable[..., "subprocess.Popen[str]"]


def can_listen(host: str) -> bool:
    """Whether this machine has an address."""
    with contextlib.suppress(OSError), socket.create_server((host, 0)):
        return True
    return False


def limit_files(server: Server, most: int) -> None:
    """Let no file of the server grow beyond so many bytes, as on a full disk; -1: as far as there is room."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, -1))


class Relay:
    """A port before the server's; while it is `mute`, nothing comes through and nothing is closed: a machine that is gone."""

    def __init__(self, port: int) -> None:
        self.mute = threading.Event()
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"quack:localhost:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._open.append(near)
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if self.mute.is_set():
                    return
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of everything."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        for one in self._open:
            one.close()


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    made = Relay(server.port)
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    running = Server(Home(tmp_path / "server").create())
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


@pytest.fixture
def client(tmp_path: Path, server: Server) -> Callable[..., ExchangeLog]:
    """The log as another home sees it."""

    def make(name: str = "client", wait: float = 5.0) -> ExchangeLog:
        home = Home(tmp_path / name).create()
        home.log_token.write_text(server.home.log_token.read_text())
        home.log_token.chmod(0o600)
        return ExchangeLog(home, Settings(log=server.address), wait=wait)

    return make


def test_everything_that_a_file_can_do(server: Server, client: Callable[..., ExchangeLog], tmp_path: Path) -> None:
    log = client()
    exchange = Exchange(
        "What's 'this'? Really; \\ \0 “👩‍👩‍👧”",
        "That's 'it': '); DROP TABLE exchanges; --",
        "teacher",
        context=(Message("user", "It's?"), Message("assistant", "'?")),
        cost_usd=0.5,
        attempts=(Attempt("neural", "declined", "isn't sure?", 0.25, 0.9, 12.5), Attempt("teacher", "accepted", "asked")),
    )
    assert log.append(exchange) is True
    assert log.append(exchange) is True
    row, attempts = log.find(exchange.id[:8])
    assert (row["query"], row["answer"], row["cost_usd"]) == (exchange.query, exchange.answer, 0.5)
    assert context_of(row) == exchange.context
    assert [(one["tier"], one["reason"], one["threshold"]) for one in attempts] == [
        ("neural", "isn't sure?", 0.9),
        ("teacher", "asked", None),
    ]
    assert log.rate(Feedback(exchange.id, "bad", 3.0, "Bet'ter?")) is True
    assert [(row["target"], row["weight"]) for row in log.learnable()] == [("Bet'ter?", 3.0)]
    assert [str(row["id"]) for row in log.search(["REALLY", "drop"])] == [exchange.id]
    assert log.add_many(Exchange(f"q{n}", "a", "import", source="import:f") for n in range(2500)) == (2500, 0)
    stats = log.stats()
    assert (stats.exchanges, stats.learnable, stats.feedback, stats.spooled) == (2501, 2501, 1, 0)
    log.record_run(RunRecord("r", datetime.now(UTC), datetime.now(UTC), "refused", "it's?", None, {"loss": [1.5]}))
    assert [(run["reason"], run["figures"]) for run in log.runs()] == [("it's?", {"loss": [1.5]})]
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert log.audit(Audited(exchange.id, "v0001", 0.25, False, "isn't", now)) is True
    assert log.audit(Audited(exchange.id, "v0002", 0.25, True, audited_at=now)) is True
    assert log.audit(Audited(exchange.id, "v0002", 0.25, False)) is True
    found = log.outcomes(["v0001", "v0002", "v0003"])
    assert [(one.version, one.agrees, one.reason) for one in found] == [("v0001", False, "isn't"), ("v0002", True, "")]
    assert log.local_share(100) == [(1, 0)]
    assert log.news(datetime(2020, 1, 1)) == 2502
    assert log.news(datetime(2040, 1, 1, tzinfo=UTC)) == 0
    assert log.set_trainable(Selection(source="import:f"), False) == 2500
    _, count, until = log.snapshot(tmp_path / "s.parquet")
    assert (count, [row["target"] for row in read_snapshot(tmp_path / "s.parquet")]) == (1, ["Bet'ter?"])
    assert log.learnable_count(until) == 0
    assert backup(log, tmp_path / "b.duckdb") == 2501
    told = forget(log, Home(tmp_path / "client"), Selection(words=("drop",)))
    assert told.exchanges == 1
    assert any("shammah-log compact" in line for line in told.remaining)
    assert log.append(exchange) is True
    assert log.stats().exchanges == 2500
    assert restore(log, tmp_path / "b.duckdb") == (0, 2500)

    digest = log.read(content_digest)
    assert server.stop() == 0
    assert ExchangeLog(server.home).read(content_digest) == digest


def test_what_another_home_rates_is_new_once(server: Server, client: Callable[..., ExchangeLog]) -> None:
    log, other = client(), client("other")
    exchange = Exchange("Who?", "Ann.", "teacher")
    other.append(exchange)
    other.rate(Feedback(exchange.id, "good"))
    assert log.stats().feedback == 1
    now = 0.0
    polled = Polled(log, lambda: now)
    polled.begin()
    feedback = Feedback(exchange.id, "bad", correction="Zoe.")
    other.rate(feedback)
    assert polled.fresh() == []
    now = 10.0
    assert polled.fresh() == [feedback.id]
    now = 20.0
    assert polled.fresh() == []
    (row,) = log.read(lambda session: queries.rated_by(session, [feedback.id]))
    assert row["target"] == "Zoe."


def test_what_another_home_forgets_is_told_once(server: Server, client: Callable[..., ExchangeLog]) -> None:
    log, other = client(), client("other")
    before, after = (Exchange(text, "Ann.", "teacher") for text in ("Who?", "Who else?"))
    for exchange in (before, after):
        other.append(exchange)
    forget(other, other.home, Selection(ids=(before.id,)))
    now = 0.0
    polled = Polled(log, lambda: now)
    polled.begin()
    # Whenever it was forgotten: a version that this home has may hold it still.
    assert polled.forgotten() == [before.id]
    forget(other, other.home, Selection(ids=(after.id,)))
    polled.fresh()
    assert polled.forgotten() == []
    now = 10.0
    polled.fresh()
    assert polled.forgotten() == [after.id]
    now = 20.0
    polled.fresh()
    assert polled.forgotten() == []


def test_while_the_server_is_away_everything_is_spooled_and_drained_once(
    server: Server, client: Callable[..., ExchangeLog], tmp_path: Path
) -> None:
    log = client()
    assert log.append(Exchange("before", "a", "teacher")) is True
    server.stop(signal.SIGKILL)
    away = [Exchange(f"away {n}", "a", "teacher") for n in range(5)]
    assert [log.append(exchange) for exchange in away] == [False] * 5
    with pytest.raises(LogTakenError, match="is away"):
        log.recent()
    assert log.spooled() == 5
    server.start()
    log = client()  # a moment later
    assert log.append(Exchange("after", "a", "teacher")) is True
    assert sorted(row["query"] for row in log.recent()) == sorted(["before", *(each.query for each in away), "after"])
    assert log.spooled() == 0


def test_a_server_that_hangs_costs_no_more_than_the_wait(server: Server, client: Callable[..., ExchangeLog]) -> None:
    log = client()
    assert log.append(Exchange("before", "a", "teacher")) is True
    quick = client(wait=0.2)
    assert isinstance(quick.stats().exchanges, int)
    server.process.send_signal(signal.SIGSTOP)
    exchange = Exchange("hanging", "a", "teacher")
    assert quick.append(exchange) is False
    assert quick.append(Exchange("hanging too", "a", "teacher")) is False
    server.process.send_signal(signal.SIGCONT)
    # What hung may have arrived after all: it is there once.
    assert log.append(Exchange("after", "a", "teacher")) is True
    assert sorted(row["query"] for row in log.recent()) == ["after", "before", "hanging", "hanging too"]


def test_a_server_that_hangs_keeps_no_command_and_no_end_of_a_process(
    server: Server, client: Callable[..., ExchangeLog], tmp_path: Path, spawn: Spawn
) -> None:
    client().append(Exchange("before", "a", "teacher"))
    (tmp_path / "client" / "config.toml").write_text(f'log = "{server.address}"\n')
    server.process.send_signal(signal.SIGSTOP)
    environment = {**os.environ, "SHAMMAH_HOME": str(tmp_path / "client")}
    command = [sys.executable, "-m", "shammah_data.cli", "list"]
    listing = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (listing.returncode, listing.stdout) == (2, "")
    assert re.fullmatch(r"shammah-log: quack:localhost:\d+: the log server does not answer\n", listing.stderr)
    writing = spawn(WRITE_ONE, tmp_path / "client", server.address)
    out, error = writing.communicate(timeout=100)
    assert (out, error) == ("spooled\n", "")


def test_a_call_that_nobody_will_ever_answer_holds_up_none_after_it(
    client: Callable[..., ExchangeLog], relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shammah_data.remote._STUCK_SECONDS", 0.0)
    client()
    # Its clock runs fast: that the server was away a moment ago is long past at the next write.
    clock = itertools.count(0, 10).__next__
    log = ExchangeLog(Home(tmp_path / "client"), Settings(log=relay.address), wait=1.5, clock=clock)
    log.stats(wait=30.0)
    relay.mute.set()
    assert log.append(Exchange("lost on the way", "a", "teacher")) is False
    assert log.append(Exchange("while nobody answers", "a", "teacher")) is False
    relay.mute.clear()
    assert log.stats().exchanges == 2
    assert log.spooled() == 0


def test_on_a_private_network_a_server_can_be_spoken_to_without_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not this machine by its name, which is spoken to in plain HTTP anyway.
    if not can_listen("127.0.0.2"):
        pytest.skip("this system has one address of its own")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    running = Server(Home(tmp_path / "server").create(), "--host", "127.0.0.2")
    try:
        home = Home(tmp_path / "client").create()
        home.log_token.write_text(running.home.log_token.read_text())
        home.log_token.chmod(0o600)
        home.settings.write_text(f'log = "quack:http://127.0.0.2:{running.port}"\n')
        assert running.said[1].startswith(f'in the other homes: log = "quack:http://127.0.0.2:{running.port}" in config.toml')
        assert ExchangeLog(home, Settings.load(home.settings), wait=30.0).append(Exchange("plain", "a", "teacher")) is True
        encrypted = ExchangeLog(home, Settings(log=f"quack:127.0.0.2:{running.port}"), wait=30.0)
        assert encrypted.append(Exchange("encrypted", "a", "teacher")) is False
    finally:
        running.stop()


def test_the_servers_own_home_may_name_its_server(server: Server) -> None:
    server.home.settings.write_text(f'log = "{server.address}"\n')
    log = ExchangeLog(server.home, Settings.load(server.home.settings), wait=5.0)
    assert log.append(Exchange("served", "a", "teacher")) is True

    def compact() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "shammah_data.cli", "compact"]
        environment = {**os.environ, "SHAMMAH_HOME": str(server.home.root)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)

    assert (compact().returncode, "in use by process" in compact().stderr) == (2, True)
    server.stop()
    assert log.append(Exchange("while it is away", "a", "teacher")) is False
    done = compact()
    assert (done.returncode, done.stdout.startswith(f"{server.home.log}: ")) == (0, True)
    assert log.spooled() == 1, "what waits for the server is the server's to take"
    server.start()
    again = ExchangeLog(server.home, Settings(log=server.address), wait=5.0)
    assert sorted(row["query"] for row in again.recent()) == ["served", "while it is away"]


def test_no_proxy_gets_what_goes_to_this_machine(
    server: Server, client: Callable[..., ExchangeLog], spawn: Spawn, tmp_path: Path
) -> None:
    client("writer")  # gives the home its token
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        named = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), f"http://127.0.0.1:{proxy.getsockname()[1]}")
        process = spawn(WRITE, tmp_path / "writer", server.address, 1, **named, NO_PROXY="example.org", no_proxy="")
        out, error = process.communicate(timeout=120)
        assert (error, out.split()[1:]) == ("", ["0"])
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize(
    ("given", "wanted"), [("", "here"), ("example.org", "example.org,here"), ("a, here", "a, here"), ("*", "*")]
)
def test_a_host_is_added_to_those_without_a_proxy(given: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", given)
    monkeypatch.setenv("no_proxy", "")
    go_directly("here")
    assert os.environ["NO_PROXY"] == wanted


def test_a_server_that_claims_what_it_did_not_do_is_not_believed(
    client: Callable[..., ExchangeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = client()
    with monkeypatch.context() as patch:
        patch.setattr("shammah_data.rows.insert", lambda session, records: len(records))
        with pytest.raises(LogError, match=r"1 of them are not there.*kept in"):
            log.append(Exchange("claimed", "a", "teacher"))
    assert log.spooled() == 1
    assert log.append(Exchange("after", "a", "teacher")) is True
    assert sorted(row["query"] for row in log.recent()) == ["after", "claimed"]


WRITE_ONE = """
import sys
from pathlib import Path
from shammah_data import command
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
log = ExchangeLog(Home(Path(sys.argv[1])), Settings(log=sys.argv[2]))
command.leave_threads_behind(lambda: print("spooled" if not log.append(Exchange("q", "a", "teacher")) else "stored"), "tool")
"""
WRITE = """
import sys
# Else DuckDB takes it for a dialogue and draws a bar on standard output for what takes two seconds.
sys.modules["__main__"].__file__ = "write.py"
from pathlib import Path
from shammah_data.exchange import Attempt, Audited, Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
home = Home(Path(sys.argv[1]))
log = ExchangeLog(home, Settings(log=sys.argv[2]))
log.stats(wait=30.0)
for number in range(int(sys.argv[3])):
    exchange = Exchange(query=f"{home.root.name} {number}", answer="a", tier="teacher",
                        attempts=(Attempt("teacher", "accepted", "asked"),))
    log.append(exchange)
    print(exchange.id, flush=True)
# What was spooled because the others were faster.
log.read(lambda session: None, wait=30.0)
print(log.spooled(), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are Linux")
def test_a_server_whose_disk_is_full_costs_no_row_and_can_be_read(
    server: Server, client: Callable[..., ExchangeLog], tmp_path: Path
) -> None:
    log = client()
    assert log.append(Exchange("before", "a", "teacher")) is True
    limit_files(server, (server.home.root / "exchanges.duckdb").stat().st_size)
    asked = [Exchange(f"full {n}", "x" * 400_000, "teacher") for n in range(7)]
    assert log.append(asked[0]) is True
    for exchange in asked[-5:]:
        with contextlib.suppress(LogError):
            log.append(exchange)
    with pytest.raises(LogError, match=r"[Cc]ould not write.*the exchange is kept in"):
        log.append(asked[1])
    waiting = log.spooled()
    assert waiting >= 2
    assert len(log.recent()) == 8 - waiting, "what is there can be read"
    limit_files(server, -1)
    assert log.append(Exchange("after", "a", "teacher")) is True
    assert {row["query"] for row in log.recent()} == {"before", *(each.query for each in asked), "after"}
    assert not list(tmp_path.rglob("*.torn"))


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are Linux")
def test_a_server_whose_database_has_failed_ends_and_says_why(server: Server, client: Callable[..., ExchangeLog]) -> None:
    log = client()
    log.append(Exchange("before", "x" * 400_000, "teacher"))
    limit_files(server, (server.home.root / "exchanges.duckdb").stat().st_size)
    with pytest.raises(LogError, match=r"[Cc]ould not write"):
        log.change(lambda session: session.execute("CHECKPOINT"))
    assert log.append(Exchange("while it is of no use", "a", "teacher")) is False
    _, error = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    (line,) = error.splitlines()
    assert re.search(r"exchanges.duckdb: failed, start the server again: .*[Cc]ould not write", line)
    server.start()
    assert client().append(Exchange("after", "a", "teacher")) is True
    assert {row["query"] for row in client().recent()} == {"before", "while it is of no use", "after"}


def test_four_writers_and_a_trainer_that_takes_snapshots(
    server: Server, client: Callable[..., ExchangeLog], spawn: Spawn, tmp_path: Path
) -> None:
    trainer = client("trainer")
    trainer.append(Exchange("first", "a", "teacher"))
    writers = []
    for name in ("w1", "w2", "w3", "w4"):
        client(name)  # gives the home its token
        writers.append(spawn(WRITE, tmp_path / name, server.address, 25))
    snapshots: list[tuple[datetime, set[str]]] = []
    while any(process.poll() is None for process in writers) or not snapshots:
        path = tmp_path / f"{len(snapshots)}.parquet"
        _, count, until = trainer.snapshot(path)
        rows = read_snapshot(path)
        assert len(rows) == count
        assert all(row["logged_at"] <= until for row in rows)
        snapshots.append((until, {row["id"] for row in rows}))
    acknowledged = set()
    for process in writers:
        out, error = process.communicate()
        assert error == "", error
        *ids, spooled = out.split()
        assert (len(ids), spooled) == (25, "0")
        acknowledged |= set(ids)
    assert not list(tmp_path.rglob("*.torn"))
    found = trainer.read(lambda session: fetch(session, "SELECT id, logged_at FROM exchanges ORDER BY logged_at"))
    ids = [str(row["id"]) for row in found]
    assert len(ids) == len(set(ids)) == 101
    assert set(ids) >= acknowledged
    for until, snapshot in snapshots:
        assert snapshot == {str(row["id"]) for row in found if row["logged_at"] <= until}, "a prefix of the log"
    assert len(snapshots) > 1


def test_a_wrong_token_is_refused_in_one_line(server: Server, client: Callable[..., ExchangeLog], tmp_path: Path) -> None:
    log = client()
    Home(tmp_path / "client").log_token.write_text("not the token\n")
    with pytest.raises(LogError, match="refuses the token") as caught:
        log.recent()
    assert "\n" not in str(caught.value)
    with pytest.raises(LogError, match="the exchange is kept in"):
        log.append(Exchange("kept", "a", "teacher"))
    assert log.spooled() == 1


def test_who_has_the_token_reaches_the_log_and_nothing_else(server: Server, client: Callable[..., ExchangeLog]) -> None:
    log = client()
    secret = server.home.root / "config.toml"
    secret.write_text("[serve]\n")
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY exchanges TO '{server.home.root / 'copy.csv'}'",
        f"ATTACH '{server.home.root / 'other.duckdb'}' AS other",
        "SET enable_external_access = true",
    ):
        with pytest.raises(LogError):
            log.read(lambda session, sql=sql: fetch(session, sql))  # type: ignore[misc]
    assert log.stats().exchanges == 0


def test_the_token_file_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    path = tmp_path / "log-token"
    with pytest.raises(SettingsError, match="wants a token"):
        read_token(path)
    path.write_text("a token\n")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="readable by others: chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == "a token"
    monkeypatch.setenv(TOKEN_VARIABLE, " from the environment ")
    assert read_token(path) == "from the environment"


def test_the_server_keeps_its_token_and_database_to_itself(server: Server) -> None:
    assert server.home.log_token.stat().st_mode & 0o777 == 0o600
    assert len(server.home.log_token.read_text().strip()) >= 32
    before = server.home.log_token.read_text()
    assert server.stop() == 0
    server.start()
    assert server.home.log_token.read_text() == before
    with pytest.raises(LogTakenError, match="in use by"):
        ExchangeLog(server.home).recent()


@pytest.mark.parametrize(
    ("sql", "parameters", "text"),
    [
        ("SELECT ?", [None], "SELECT NULL"),
        ("SELECT ?, ?", [1, True], "SELECT 1, True"),
        ("SELECT '?', ?", ["it's ?"], "SELECT '?', 'it''s ?'"),
        ("SELECT 'it''s ?', ?", [0.5], "SELECT 'it''s ?', 0.5"),
        ("SELECT 1", [], "SELECT 1"),
    ],
)
def test_parameters_become_literals(sql: str, parameters: list[object], text: str) -> None:
    assert filled(sql, parameters) == text


def test_a_session_of_a_file_takes_the_same_statements(log: ExchangeLog) -> None:
    log.append(Exchange("q", "a", "teacher"))
    assert [row["query"] for row in log.read(lambda session: queries.recent(session, 5))] == ["q"]
