"""The loop with the real base model, at default settings: minutes of training, so it runs with the slow tests only."""

import json
import os
import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.blocked import block
from fakes.claude import FakeClaude
from fakes.session import Session
from fakes.tiny import script
from shammah_data.judge import judge
from shammah_trainer.base import make_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
TRAINING = {"torch", "transformers", "onnx", "peft", "accelerate"}
SUMS, HELDOUT_SUMS = 400, 50


class RealHome:
    """A SHAMMAH_HOME at default settings, and the commands as processes."""

    def __init__(self, root: Path, claude: FakeClaude) -> None:
        self.root = root
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
        self.environment = kept | {
            "SHAMMAH_HOME": str(root),
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ANTHROPIC_BASE_URL": claude.url,
        }

    def run(self, command: str, *arguments: str, **more: str) -> str:
        """What a command prints; it must end well."""
        done = subprocess.run(
            [script(command), *arguments],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def import_rows(self, rows: Iterable[dict[str, str]]) -> None:
        """Fill the log."""
        path = self.root / "import.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.run("shammah-log", "import", str(path))

    def ask(self, query: str, *options: str, **more: str) -> dict[str, Any]:
        """The JSON of `shammah-serve ask`, whether or not there is an answer."""
        done = subprocess.run(
            [script("shammah-serve"), "ask", "--json", *options, query],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        # 3: nothing was sure enough and there is nobody else to ask.
        assert done.returncode in (0, 3), done.stderr
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default base, made once for all homes."""
    folder = tmp_path_factory.mktemp("real") / "bases"
    make_base(None, folder, print)
    return folder


@pytest.fixture
def claude() -> Iterator[FakeClaude]:
    """A Claude whose calls are counted."""
    with FakeClaude() as fake:
        yield fake


@pytest.fixture
def home(tmp_path: Path, bases: Path, claude: FakeClaude) -> RealHome:
    """An empty home that has its base already."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bases").symlink_to(bases)
    return RealHome(tmp_path / "home", claude)


@pytest.fixture
def lean(tmp_path: Path) -> dict[str, str]:
    """What keeps the training libraries out of a process; no fallback could hide an attempt."""
    return {"PYTHONPATH": str(block(tmp_path / "blocked", TRAINING, "RuntimeError"))}


def lines(name: str) -> list[dict[str, Any]]:
    """The rows of a sample file."""
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines() if line.strip()]


def test_the_samples_are_learned(home: RealHome, claude: FakeClaude, lean: dict[str, str]) -> None:
    trained = [row for name in ("help", "greetings", "sums") for row in lines(f"{name}.jsonl")]
    claude.answers = {row["query"]: row["response"] for row in trained}
    by_hand = lines("help.jsonl")[::60]
    home.import_rows(row for row in trained if row not in by_hand)
    session = Session(home.environment)
    for row in by_hand:
        said = session.ask(row["query"])
        assert row["response"] in said
        assert "teacher · " in said or "learned · " in said
    assert claude.calls >= 1

    # The session stays open while the night runs, and answers from the new version as soon as it is there.
    assert home.run("shammah-train").startswith("published: v0001")
    session.wait_for("v0001")
    session.close()

    heldout = [row for row in lines("heldout.jsonl") if row["kind"] == "paraphrase"]
    outside = [row for row in lines("heldout.jsonl") if row["kind"] == "outside"]
    before = claude.calls
    replies = [home.ask(row["query"], "--offline", **lean) for row in heldout]
    assert claude.calls == before
    local = [(reply, row) for reply, row in zip(replies, heldout, strict=True) if reply["tier"] == "neural"]
    right = [reply for reply, row in local if judge(row["response"], reply["answer"])]
    assert len(local) >= len(heldout) // 4
    assert len(right) >= 0.85 * len(local)
    # Without --offline, at a terminal, a question that it is sure of does not cost a call either.
    session = Session(home.environment | lean)
    said = session.ask(local[0][1]["query"])
    assert local[0][1]["response"] in said
    assert "neural · confidence" in said
    session.close()
    assert claude.calls == before
    # What nobody taught it goes to Claude.
    answered = [home.ask(row["query"], "--offline", **lean)["tier"] for row in outside]
    assert answered.count(None) >= len(outside) - 1


def sums() -> tuple[list[dict[str, str]], list[tuple[int, int]]]:
    """400 sums to learn and 50 held out, two digits each; 15 + 27 is in neither, in neither order."""
    rng = random.Random(0)
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100) if {a, b} != {15, 27}]
    drawn = rng.sample(pairs, SUMS + HELDOUT_SUMS)
    rows = [{"query": f"What is {a} + {b}?", "response": f"{a} + {b} = {a + b}"} for a, b in drawn[:SUMS]]
    return rows, drawn[SUMS:]


def test_sums_are_learned(home: RealHome, claude: FakeClaude, lean: dict[str, str]) -> None:
    rows, heldout = sums()
    assert len({row["query"] for row in rows}) == SUMS
    assert not {f"What is {a} + {b}?" for a, b in [*heldout, (15, 27), (27, 15)]} & {row["query"] for row in rows}
    home.import_rows(rows)
    # Carrying over takes more passes than telling questions apart, in larger batches and smaller steps. At the default target
    # (0.95) a model that gets 31 of 33 held-out sums right must decline some that it knows: nine in ten will do.
    settings = {
        "epochs": 8,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "target_precision": 0.9,
    }
    lines_of = [f"{name} = {value}" for name, value in settings.items()]
    (home.root / "config.toml").write_text("\n".join(["[train]", *lines_of, ""]), encoding="utf-8")
    assert home.run("shammah-train").startswith("published: v0001")

    reply = home.ask("What is 15 + 27?", "--offline", **lean)
    assert reply["tier"] == "neural", reply
    assert reply["answer"] == "15 + 27 = 42"
    right = 0
    for a, b in heldout:
        reply = home.ask(f"What is {a} + {b}?", "--offline", **lean)
        right += (reply["tier"], reply["answer"]) == ("neural", f"{a} + {b} = {a + b}")
    print(f"{right} of {HELDOUT_SUMS} held-out sums answered right by tier neural")
    assert right >= 0.85 * HELDOUT_SUMS
    assert claude.calls == 0
