"""The quickstart: import the samples, train on them, and ask held-out questions before and after.

Uses the home of $SHAMMAH_HOME or the default one, and never asks Claude. Run by scripts/quickstart.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from shammah_data.errors import InputError, ShammahError
from shammah_data.home import Home
from shammah_data.judge import judge
from shammah_data.log import ExchangeLog
from shammah_data.settings import Settings
from shammah_data.store import ModelStore
from shammah_runtime.appliance import Appliance, Options

SAMPLES = Path(__file__).resolve().parent.parent / "data" / "samples"
IMPORTED = ("help.jsonl", "greetings.jsonl", "sums.jsonl")


@dataclass(frozen=True)
class Row:
    """One question of the table."""

    question: str
    reference: str | None
    tier: str
    answer: str
    confidence: float | None
    milliseconds: float

    @property
    def right(self) -> bool:
        """Answered with the facts of the reference; a question without one is right when nothing local answers."""
        if self.reference is None:
            return self.tier == "-"
        return self.tier != "-" and bool(judge(self.reference, self.answer))


def main() -> int:
    """Run the whole tour; returns the exit code."""
    began = time.monotonic()
    home = Home.find().create()
    say(f"home: {home.root} (set SHAMMAH_HOME to use another)")
    log = ExchangeLog(home, Settings.load(home.settings))
    sources = {row["source"] for row in log.recent(1_000_000)}
    if sources and not sources & {f"import:{name}" for name in IMPORTED}:
        # Samples would be mixed into somebody's own log, and trained on with it.
        raise InputError(f"{home.root} already holds exchanges of your own: set SHAMMAH_HOME to a new folder")
    environment = {**os.environ, "SHAMMAH_HOME": str(home.root)}
    say("\n1. Import the samples")
    run(environment, "shammah_data.cli", "import", *(str(SAMPLES / name) for name in IMPORTED))
    questions = [json.loads(line) for line in (SAMPLES / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]
    store = ModelStore(home.models)
    champion = store.pointer().champion
    before = None
    if champion is None:
        say(f"\n2. Ask {len(questions)} questions that are not in the samples, before any training")
        before = ask_all(home, questions)
        say(f"   {score(before)}")
    say("\n3. Train (fine-tune, export, evaluate, publish)")
    run(environment, "shammah_trainer.cli")
    if store.pointer().champion is None:
        say("quickstart: the run did not publish a version; its last line says why")
        return 1
    say(f"\n4. Ask the same questions; version {store.pointer().champion} serves")
    after = ask_all(home, questions)
    print_table(before, after)
    if before:
        say(f"before: {score(before)}")
    say(f"after:  {score(after)}")
    minutes = (time.monotonic() - began) / 60
    say(f"\ndone in {minutes:.1f} minutes. Now ask Shammah about Shammah: {Path(sys.executable).parent}/shammah-serve")
    return 0


def say(text: str) -> None:
    """A line, at once: the steps are long."""
    print(text, flush=True)


def run(environment: dict[str, str], module: str, *arguments: str) -> None:
    """Run one of the project's commands with its output on this terminal. Raises ShammahError when it fails."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False)
    if done.returncode:
        raise ShammahError(f"{module} {' '.join(arguments[:1])} ended with exit code {done.returncode}")


def ask_all(home: Home, questions: list[dict[str, str]]) -> list[Row]:
    """Ask each question on its own, as a new user would; nothing is logged."""
    settings = Settings.load(home.settings)
    alone = replace(settings, serve=replace(settings.serve, context_turns=0))
    appliance = Appliance(home, alone, Options(offline=True, no_log=True, watch=False), say)
    appliance.start()
    rows = []
    for question in questions:
        reply = appliance.conversation.ask(question["query"], lambda _: None)
        tier = reply.proposal.attempt.tier if reply.answered else "-"
        sure = next((attempt.confidence for attempt in reply.attempts if attempt.tier == "neural"), None)
        rows.append(Row(question["query"], question["response"], tier, reply.text, sure, reply.latency_ms))
    appliance.close()
    return rows


def print_table(before: list[Row] | None, after: list[Row]) -> None:
    """Question, tier before and after, answer, confidence, milliseconds; ! marks a wrong one."""
    say(f"\n{'question':<44} {'before':<8} {'after':<8} {'answer':<44} {'conf.':>5} {'ms':>5}")
    for n, row in enumerate(after):
        earlier = before[n].tier if before else ""
        sure = "" if row.confidence is None else f"{row.confidence:.2f}"
        shown = row.answer if row.tier != "-" else "(not sure enough: this one would go to Claude)"
        mark = "" if row.right or row.tier == "-" else " !"
        say(f"{cut(row.question):<44} {earlier:<8} {row.tier:<8} {cut(shown):<44} {sure:>5} {row.milliseconds:>5.0f}{mark}")


def cut(text: str) -> str:
    """At most 44 characters of one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 44 else flat[:43] + "…"


def score(rows: list[Row]) -> str:
    """What the table says in one line."""
    known = [row for row in rows if row.reference is not None]
    outside = [row for row in rows if row.reference is None]
    answered = [row for row in known if row.tier != "-"]
    return (
        f"{len(answered)} of {len(known)} questions on Shammah answered locally, {sum(row.right for row in answered)} of "
        f"them right; {sum(row.right for row in outside)} of {len(outside)} questions that it cannot know left to Claude"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ShammahError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("quickstart: interrupted; start it again and it goes on with what is there", file=sys.stderr)
        sys.exit(130)
