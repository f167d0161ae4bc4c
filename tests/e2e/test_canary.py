"""Secrets that go through everything leave no trace: served, spooled, corrected, imported, trained on, exported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.claude import FakeClaude
from fakes.contents import files_in, said_in
from fakes.processes import Holder
from fakes.session import Session
from fakes.tiny import TinyHome, exchanges, make_tiny_base
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

# Made up, each of another shape, and each in no other text.
CANARIES = {
    "github-token": "ghp_7Qk2Zt9Lw4Xv6Bn1Hs8Dj3Fr5Gm0Pc2YaTe4",
    "aws-key-id": "AKIAQ7ZK4WM2XV9B6NHD",
    "anthropic-key": "sk-ant-api03-" + "Kq7Zt2Lw9Xv4Bn6Hs1Dj8Fr3Gm5Pc0Ya" * 3 + "-Qw8Rt5AA",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnktNzM5MSJ9.Zx7Kq2Lw9Xv4Bn6Hs1Dj8Fr3Gm5Pc0YaTe4Ru",
    "url-password": "Tr0ubadour7731",
    "password": "correct-Zebra-7731-staple",
}
TEXTS = {
    "github-token": "My token is {} by the way",
    "aws-key-id": "we use {} there",
    "anthropic-key": "the key {} stopped working",
    "jwt": "Authorization: Bearer {}",
    "url-password": "connect to postgres://admin:{}@db.example.org/main",
    "password": 'password = "{}"',
}


@pytest.fixture
def told() -> list[str]:
    return [TEXTS[kind].format(secret) for kind, secret in CANARIES.items()]


@pytest.fixture
def claude(told: list[str]) -> Iterator[FakeClaude]:
    """A Claude that repeats every secret it is told."""
    with FakeClaude({f"Question {n}: {text}": f"You said: {text}" for n, text in enumerate(told)}) as fake:
        yield fake


def traces(root: Path) -> dict[str, list[str]]:
    """Which files hold which canary."""
    found: dict[str, list[str]] = {}
    for path in files_in(root):
        content = said_in(path)
        for kind, secret in CANARIES.items():
            # A part of it is as bad as the whole.
            if any(secret[at : at + 12].encode() in content for at in range(0, len(secret) - 11, 6)):
                found.setdefault(kind, []).append(str(path.relative_to(root)))
    return found


def test_no_byte_that_is_written_holds_a_canary(tmp_path: Path, claude: FakeClaude, told: list[str]) -> None:
    tiny = TinyHome(tmp_path / "home", make_tiny_base(tmp_path / "tiny"))
    tiny.configure(epochs=2)
    home = Home(tiny.root)
    past = tmp_path / "past.jsonl"
    rows = [one.row for one in exchanges()]
    rows += [{"query": f"Imported {n}: {text}", "response": f"Noted: {text}"} for n, text in enumerate(told)]
    past.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tiny.run("shammah-log", "import", str(past)).code == 0

    serving = tiny.environment | {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": claude.url}
    session = Session(serving)
    for n, text in enumerate(told):
        holder = Holder(home.log) if n % 2 else None  # every other one meets a log in other hands
        assert CANARIES[list(CANARIES)[n]] in session.ask(f"Question {n}: {text}")
        session.ask(f"/fix Rather: {text}")
        if n % 3 == 0:
            session.ask("/good")
        if holder:
            spooled = home.spool.read_text()
            holder.let_go()
            assert "[secret:" in spooled
            assert [kind for kind, secret in CANARIES.items() if secret in spooled] == []
    session.close()
    assert claude.calls == len(told)

    log = ExchangeLog(home, wait=5.0)
    assert log.stats().exchanges == len(rows) + len(told)
    trained = tiny.train("--force")
    assert trained.code == 0, trained.err
    assert log.runs()
    assert list(tiny.root.glob("runs/*/snapshot.parquet"))
    for name in ("out.jsonl", "out.md", "out.parquet"):
        assert tiny.run("shammah-log", "export", str(tiny.root / name)).code == 0
    assert tiny.run("shammah-log", "backup", str(tiny.root / "backup.duckdb")).code == 0
    merged = next(tiny.root.glob("runs/*/merged"))
    exported = subprocess.run(
        [sys.executable, "-m", "shammah_trainer.export_cli", str(merged), str(tiny.root / "exported"), "--precision", "int8"],
        env=os.environ | tiny.environment,
        capture_output=True,
        text=True,
    )
    assert exported.returncode == 0, exported.stderr

    assert traces(tiny.root) == {}
    # The rows are there, with a mark for each kind.
    marks = (tiny.root / "out.jsonl").read_text()
    for kind in CANARIES:
        assert f"[secret:{kind}]" in marks or f"[secret:{'token' if kind == 'jwt' else kind}]" in marks, kind
    # And the scan finds what is there to find.
    (tiny.root / "leak.txt").write_text(f"so {CANARIES['password']}")
    assert traces(tiny.root) == {"password": ["leak.txt"]}
