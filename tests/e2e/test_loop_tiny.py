"""The whole loop, everything real but the size of the model and Claude: ask, log, train, hot swap, answer locally."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.blocked import block
from fakes.claude import FakeClaude
from fakes.session import Session
from fakes.tiny import TinyHome, exchanges, make_tiny_base, other_phrasings, script
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

ASKED_BY_HAND = 6
TRAINING = {"torch", "transformers", "onnx", "peft", "accelerate"}


@pytest.fixture
def claude() -> Iterator[FakeClaude]:
    """A Claude that knows every answer."""
    with FakeClaude({one.query: one.response for one in (*exchanges(), *other_phrasings())}) as fake:
        yield fake


@pytest.fixture
def home(tmp_path: Path) -> TinyHome:
    """An empty home for the tiny model."""
    made = TinyHome(tmp_path / "home", make_tiny_base(tmp_path / "tiny"))
    made.configure()
    # Whether an answer is audited is drawn, and Claude's calls are counted here.
    config = made.root / "config.toml"
    config.write_text(config.read_text(encoding="utf-8") + "[audit]\nshare = 0.0\nnew_share = 0.0\n", encoding="utf-8")
    return made


@pytest.fixture
def lean(tmp_path: Path) -> dict[str, str]:
    """What keeps the training libraries out of a process; no fallback could hide an attempt."""
    return {"PYTHONPATH": str(block(tmp_path / "blocked", TRAINING, "RuntimeError"))}


def test_the_loop(home: TinyHome, claude: FakeClaude, lean: dict[str, str]) -> None:
    serving = home.environment | {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": claude.url}
    everything = exchanges()
    # Every sixteenth is asked by hand and answered by Claude, the rest is a past log.
    by_hand = everything[:: len(everything) // ASKED_BY_HAND]
    home.import_(one for one in everything if one not in by_hand)

    session = Session(serving)
    for one in by_hand:
        said = session.ask(one.query)
        assert one.response in said
        assert "teacher · " in said
    assert claude.calls == len(by_hand)
    assert ExchangeLog(Home(home.root), wait=5.0).learnable_count() == len(everything)

    # A second session is open while the night runs: it has to find the new version by itself.
    session.close()
    session = Session(serving)
    assert "none" in session.ask("/status").splitlines()[0]
    trained = home.train("--force")
    assert trained.code == 0, trained.err
    assert trained.out.startswith("published: v0001")

    session.wait_for("v0001")
    # Held-out phrasings, the surest first: the next query is answered by the new version.
    surest = held_out(home)
    before = claude.calls
    said = session.ask(surest[0]["query"])
    assert surest[0]["reference"] in said
    assert "neural · confidence" in said
    assert "v0001" in said
    session.close()
    assert claude.calls == before

    # The same questions in words that were in no file at all, in processes that could not train.
    sure = list(dict.fromkeys(line["reference"] for line in surest))[:6]
    asked = [one for one in other_phrasings()[1::2] if one.response in sure]
    replies = [ask(one.query, serving | lean) for one in asked]
    assert all(reply["answer"] == one.response for reply, one in zip(replies, asked, strict=True))
    local = [reply for reply in replies if reply["tier"] == "neural"]
    assert len(local) >= 4
    assert {reply["model_version"] for reply in local} == {"v0001"}
    # Claude was called for the others, and for nothing else.
    assert claude.calls - before == len(asked) - len(local)


def held_out(home: TinyHome) -> list[dict[str, Any]]:
    """The held-out phrasings that the run would answer, the surest first."""
    (path,) = (home.root / "runs").glob("*/heldout.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    accepted = [line for line in found if line["kind"] == "phrasing" and line["accepted"] and line["right"]]
    assert len(accepted) >= 6
    return sorted(accepted, key=lambda line: -float(line["features"]["least"]))


def ask(query: str, environment: dict[str, str]) -> dict[str, Any]:
    """The JSON of `shammah-serve ask` in a new process."""
    done = subprocess.run(
        [script("shammah-serve"), "ask", "--json", query],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def test_the_blocked_libraries_are_blocked(home: TinyHome, lean: dict[str, str]) -> None:
    """Else the loop above would prove nothing."""
    for name in sorted(TRAINING):
        done = subprocess.run([sys.executable, "-c", f"import {name}"], env=os.environ | lean, capture_output=True, text=True)
        assert f"{name} is blocked" in done.stderr
