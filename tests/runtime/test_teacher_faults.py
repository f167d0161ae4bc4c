"""Everything that can go wrong between here and Claude, as a user meets it: one clear line, in time, and never the key."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from fakes.claude import FakeClaude, Fault
from fakes.versions import TAUGHT, TAUGHT_ANSWER
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.cli import app

KEY = "sk-ant-test-0123456789-not-a-real-key"
# The deadlines, 20 s to the first word and 45 s in all, shortened for the cases that would wait for them.
FIRST, WHOLE = 0.6, 1.2
WAITING = frozenset({"slow_headers", "stall"})
SLACK = 10.0  # a loaded machine; what it must catch hangs for far longer


class Case(NamedTuple):
    """What goes wrong, how often it is asked at most, what is said, and whether a part of the answer had come."""

    name: str
    calls: int
    said: str
    fault: Fault = "ok"
    address: str = "{url}"
    partial: bool = False


CASES = (
    Case("refused", 0, "Claude cannot be reached at http://127.0.0.1:", address="http://127.0.0.1:{closed}"),
    Case("TLS", 0, "Claude cannot be reached at https://127.0.0.1:", address="https://127.0.0.1:{port}"),
    Case("DNS", 0, "Claude cannot be reached at http://claude.invalid", address="http://claude.invalid"),
    Case("401", 1, "Claude refused the API key (401): check ANTHROPIC_API_KEY", "unauthorized"),
    Case("a proxy's page", 1, "answered for Claude with a page (403): check the network and ANTHROPIC_BASE_URL", "blocked"),
    Case("429 for a day", 1, "Claude is rate limited (429): it asks to wait 86400 s", "rate_limited"),
    Case("spend limit", 1, "Claude reports a billing problem (400): check the plan and the spend limit", "spend_limit"),
    Case("529 again and again", 2, "Claude is overloaded (529): ask again in a minute", "overloaded"),
    Case("500", 2, "Claude had an error of its own (500)", "server_error"),
    Case("slow headers", 1, f"Claude sent nothing within {FIRST:g} s", "slow_headers"),
    Case("a stall in mid-answer", 1, f"Claude did not finish within {WHOLE:g} s", "stall", partial=True),
    Case("an error event", 1, "Claude is overloaded (overloaded_error in mid-answer)", "error_event", partial=True),
    Case("a cut socket", 1, "The connection to Claude broke in mid-answer", "cut", partial=True),
    Case("a clean close without an end", 1, "Claude's answer broke off before its end", "no_stop", partial=True),
    Case("malformed events", 1, "is not a Claude answer (JSONDecodeError)", "malformed", partial=True),
)


@pytest.fixture
def ended() -> Iterator[None]:
    """Whatever a case leaves behind has ended."""
    yield
    for thread in threading.enumerate():
        if thread.name in ("learned-index", "shammah-teacher"):
            thread.join(30.0)


def _addresses(claude: FakeClaude) -> Iterator[dict[str, str]]:
    with socket.socket() as taken:  # bound and not listening: refused, and nobody else can take it
        taken.bind(("127.0.0.1", 0))
        yield {"url": claude.url, "port": claude.url.rpartition(":")[2], "closed": str(taken.getsockname()[1])}


@pytest.fixture
def addresses(claude: FakeClaude) -> Iterator[dict[str, str]]:
    """What an address may be made of."""
    yield from _addresses(claude)


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_one_clear_line_in_time(
    case: Case, home: Home, claude: FakeClaude, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.fault in WAITING:
        home.settings.write_text(f"[teacher]\nfirst_token_seconds = {FIRST}\ntotal_seconds = {WHOLE}\n", encoding="utf-8")
    claude.fault = case.fault
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", case.address.format(**addresses))
    if case.name == "DNS":
        real = socket.getaddrinfo

        def nobody(host: Any, *rest: Any, **options: Any) -> Any:
            # Where there is no network, a resolver may take its time to say so.
            if "claude.invalid" in str(host):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(host, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", nobody)
    began = time.monotonic()
    done = CliRunner().invoke(app, ["ask", TAUGHT])
    elapsed = time.monotonic() - began

    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("shammah-serve: ")
    assert case.said in line
    assert elapsed < WHOLE + SLACK
    assert claude.calls == case.calls <= 2
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    assert KEY[:12] not in shown
    partial = done.stdout.removesuffix("\n")
    assert bool(partial) is case.partial
    assert TAUGHT_ANSWER.startswith(partial)

    # It is kept as what it is: no answer to learn from, with its reason and without the key.
    log = ExchangeLog(home)
    (row,) = log.recent()
    assert (row["query"], row["answer"].strip(), row["complete"]) == (TAUGHT, partial.strip(), False)
    assert log.learnable_count() == 0
    _, attempts = log.find(str(row["id"]))
    assert (attempts[-1]["tier"], attempts[-1]["outcome"]) == ("teacher", "failed")
    assert attempts[-1]["reason"] in line
    kept = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    assert KEY[:12].encode() not in kept
