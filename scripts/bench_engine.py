"""scripts/bench engine: this engine beside others on the same model, tokens and threads, taking turns in one run.

Every contestant is a process of its own and only one works at a time; a ratio is that of two turns of the same round. The
peers need an environment of their own, which nothing of Shammah needs:

    python3 -m venv PEERS
    CMAKE_ARGS=-DGGML_NATIVE=ON PEERS/bin/pip install --no-binary llama-cpp-python -r scripts/bench-peers.txt
    scripts/bench engine --peers PEERS --gguf FILE

FILE is the GGUF file that the base was made from; it is quantized to Q8_0 and Q4_0 here, by llama.cpp itself. A peer that is
not there is named and left out; --llama names llama.cpp's own command. docs/benchmarks.md says what is measured.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import engine_command
from engine_files import FILE_TYPES, Peers, export, publish

ROOT = Path(__file__).resolve().parent
QUESTION = "How do I make good coffee at home, step by step?"
CANCEL = "Ctrl-C until the answer has ended"
# In every round.
CANCELS = 12
COLD = "command to first token"


class Contestant:
    """A running engine."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.start = self._answer()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have one workload run."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with exit code {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def run(contestants: list[Contestant], rounds: int, prompt: list[int]) -> dict[str, dict[str, list[float]]]:
    """Seconds of every workload and contestant, one per round; the order turns from round to round."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(workload: str, name: str, *values: float) -> None:
        found.setdefault(workload, {}).setdefault(name, []).extend(values)

    for number in range(rounds):
        for contestant in contestants[number % len(contestants) :] + contestants[: number % len(contestants)]:
            name = contestant.name
            for context in (64, 512):
                note(f"decode, {context} before", name, contestant.ask(do="decode", context=context, tokens=32)["seconds"])
            note("prefill 512", name, contestant.ask(do="prefill", tokens=512)["seconds"])
            note("first token, 488 cached + 24", name, contestant.ask(do="prefill", tokens=24, cached=488)["seconds"])
            if name.startswith("shammah"):
                for label, changed in (("draft verbatim", 0.0), ("draft, 1 in 10 changed", 0.1)):
                    drafted = contestant.ask(do="drafts", prompt=prompt, tokens=128, changed=changed, seed=number)
                    if not drafted["same"]:
                        sys.exit(f"{name}: the answer with a draft is another one: that is a fault, not a figure")
                    note(f"{label}: plain", name, drafted["plain"])
                    note(label, name, drafted["drafted"])
                note(CANCEL, name, *contestant.ask(do="cancel", times=CANCELS, seed=number)["seconds"])
    return found


def ratio(found: dict[str, dict[str, list[float]]], slow: tuple[str, str], fast: tuple[str, str]) -> list[float]:
    """How many times faster the second is, per round; each is a workload and a contestant."""
    pairs = zip(found[slow[0]][slow[1]], found[fast[0]][fast[1]], strict=True)
    return [one / other for one, other in pairs]


def bars(found: dict[str, dict[str, list[float]]], peaks: dict[str, float]) -> list[tuple[str, list[float], float]]:
    """What is to be reached: label, measured ratios, least ratio."""
    rows: list[tuple[str, list[float], float]] = []
    near, verbatim, changed = "decode, 64 before", "draft verbatim", "draft, 1 in 10 changed"
    for mine, least in (("shammah int8", 4.0), ("shammah int4", 0.0)):
        rows.append(
            (f"{mine}, verbatim draft against none", ratio(found, (f"{verbatim}: plain", mine), (verbatim, mine)), least)
        )
    for mine, least in (("shammah int8", 2.0), ("shammah int4", 1.4)):
        rows.append(
            (f"{mine}, 1 in 10 changed against none", ratio(found, (f"{changed}: plain", mine), (changed, mine)), least)
        )
    cached = "first token, 488 cached + 24"
    for mine in ("shammah int8", "shammah int4"):
        rows.append((f"30 ms over {cached}, {mine}", [0.030 / value for value in found[cached][mine]], 1.0))
        rows.append((f"50 ms over the longest {CANCEL}, {mine}", [0.050 / max(found[CANCEL][mine])], 1.0))
    for precision in ("int8", "int4"):
        mine, theirs = f"shammah {precision}", f"genai {precision}"
        if theirs in peaks:
            rows.append((f"decode, {mine} against {theirs}", ratio(found, (near, theirs), (near, mine)), 1.2))
    if "llama.cpp q8_0" not in peaks:
        return rows
    for mine, theirs, decode, prefill in (
        ("shammah int8", "llama.cpp q8_0", 1.0, 1.6),
        ("shammah int4", "llama.cpp q4_0", 1.25, 1.0),
    ):
        rows.append((f"decode, {mine} against {theirs}", ratio(found, (near, theirs), (near, mine)), decode))
        rows.append(
            (f"prefill 512, {mine} against {theirs}", ratio(found, ("prefill 512", theirs), ("prefill 512", mine)), prefill)
        )
        rows.append((f"peak memory, {theirs} over {mine}", [peaks[theirs] / peaks[mine]], 1.0))
    for workload in (near, "prefill 512"):
        pair = (workload, "llama.cpp q4_0 pure"), (workload, "shammah int4")
        rows.append((f"{workload}, shammah int4 against llama.cpp q4_0 pure", ratio(found, *pair), 0.0))
    best = min(("llama.cpp q8_0", "llama.cpp q4_0"), key=lambda name: statistics.median(found[near][name]))
    rows.append((f"verbatim draft, shammah int8 against {best}", ratio(found, (near, best), (verbatim, "shammah int8")), 3.0))
    return rows


def peers_commands(peers: Peers, base: Path, gguf: Path, made: Path) -> dict[str, list[str]]:
    """Commands of the peers that are there, whose model files are made for it."""
    names = ("llama-cpp-python", "onnxruntime-genai", "openvino-genai")
    there = [name for name in names if peers.has(name)]
    print("peers: " + ", ".join(f"{name} {peers.versions[name]}" for name in there))
    start = [peers.python, str(ROOT / "engine_contestant.py")]
    commands: dict[str, list[str]] = {}
    if "llama-cpp-python" in there:
        for kind in FILE_TYPES:
            target = made / f"{kind.replace(' ', '-')}.gguf"
            commands[f"llama.cpp {kind}"] = [*start, "llama", str(peers.gguf(gguf, kind, target))]
    if "onnxruntime-genai" in there:
        for precision in ("int8", "int4"):
            if folder := peers.genai(base, precision, made / f"genai-{precision}"):
                commands[f"genai {precision}"] = [*start, "genai", str(folder)]
    # It reads llama.cpp's files.
    if "openvino-genai" in there and "llama.cpp q8_0" in commands:
        for kind in ("q8_0", "q4_0"):
            commands[f"openvino {kind}"] = [*start, "openvino", commands[f"llama.cpp {kind}"][-1]]
    return commands


def cold_starts(
    homes: dict[str, Path], commands: dict[str, list[str]], program: Path | None, prompt: tuple[list[int], str], rounds: int
) -> dict[str, list[float]]:
    """Seconds from the start of a whole command to its first token, in turns; `prompt`: ids, and the same as text."""
    from engine_contestant import CONTEXT, THREADS

    ids, text = prompt
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, home in homes.items():
            found.setdefault(f"{name} ask", []).append(engine_command.ask(home, QUESTION))
        for name, command in commands.items():
            if not name.startswith("shammah"):
                found.setdefault(f"{name} binding", []).append(engine_command.binding(command, ids))
            if program and name.startswith("llama.cpp"):
                taken = engine_command.llama(program, command[-1], text, THREADS, CONTEXT)
                found.setdefault(f"{name} command", []).append(taken)
    return found


def cold_bars(cold: dict[str, list[float]]) -> list[tuple[str, list[float], float]]:
    """`ask` against the faster of llama.cpp's ways, per round."""
    rows: list[tuple[str, list[float], float]] = []
    for mine, kind in (("shammah int8", "llama.cpp q8_0"), ("shammah int4", "llama.cpp q4_0")):
        theirs = [values for name, values in cold.items() if name in (f"{kind} binding", f"{kind} command")]
        if theirs:
            best = [min(round_) for round_ in zip(*theirs, strict=True)]
            ratios = [other / one for other, one in zip(best, cold[f"{mine} ask"], strict=True)]
            rows.append((f"{COLD}, {mine} ask against {kind}", ratios, 1.0))
    return rows


def imports(repeats: int = 5) -> list[float]:
    """Seconds that importing the command of the runtime takes, by python -X importtime, without those of starting Python."""
    found = []
    for _ in range(repeats):
        command = [sys.executable, "-X", "importtime", "-c", "import shammah_runtime.cli"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
        # "import time: self [us] | cumulative | name": the last line is the module that was asked for.
        found.append(int(told[-1].split("|")[1]) / 1e6)
    return found


def machine() -> str:
    """What the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    flags = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if f" {flag} " in Path("/proc/cpuinfo").read_text()
    ]
    return f"{os.cpu_count()} cores of {model} ({', '.join(flags)}), load {os.getloadavg()[0]:.2f}, {platform.system()}"


def main() -> None:
    """Parse, prepare, measure, print."""
    from shammah_data.home import Home
    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_trainer.base import Base

    default = Home.find().bases / "smollm2-135m-instruct"
    parser = argparse.ArgumentParser(prog="scripts/bench engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, default=default, help=f"a base folder of scripts/make-base (default: {default})")
    parser.add_argument("--peers", type=Path, help="a virtual environment with the peers; without it none runs")
    parser.add_argument("--gguf", type=Path, help="the GGUF file of the same model, for the peer")
    parser.add_argument("--llama", type=Path, help="llama.cpp's llama-completion, for its cold start")
    parser.add_argument("--version", type=Path, help="the folder of a published version, whose graphs are then measured")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contestant (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    chosen = parser.parse_args()
    if not (chosen.base / "config.json").exists():
        parser.error(f"{chosen.base} is no base folder: make it with scripts/make-base, or name one with --base")
    if (chosen.peers is None) != (chosen.gguf is None):
        parser.error("--peers and --gguf go together")
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    print(f"{machine()}; onnxruntime {metadata.version('onnxruntime')}, Python {platform.python_version()}")
    if os.getloadavg()[0] > 0.5:
        print("warning: something else is running: these figures are not worth keeping")
    base = Base.open(chosen.base)
    prompt = ChatTokenizer(chosen.base / "tokenizer.json", base.chat).prompt(QUESTION)
    as_text = f"{base.chat.start}{base.chat.user_prefix}{QUESTION}{base.chat.user_suffix}{base.chat.assistant_prefix}"
    worker = str(ROOT / "engine_contestant.py")
    with tempfile.TemporaryDirectory(prefix="shammah-bench-") as made:
        commands: dict[str, list[str]] = {}
        homes: dict[str, Path] = {}
        for precision in ("int8", "int4"):
            folder, homes[f"shammah {precision}"] = Path(made) / precision, Path(made) / f"home-{precision}"
            export(chosen.base, precision, folder, chosen.version)
            publish(base, precision, folder, Home(homes[f"shammah {precision}"]).create())
            commands[f"shammah {precision}"] = [sys.executable, worker, "shammah", str(folder)]
        if chosen.peers:
            commands |= peers_commands(Peers(chosen.peers), chosen.base, chosen.gguf, Path(made))
        # Started again each time: what one process reads from the disk is in memory for the next.
        starts: dict[str, list[float]] = {}
        peaks: dict[str, float] = {}
        for _ in range(3):
            for name, command in commands.items():
                once = Contestant(name, command)
                once.close()
                starts.setdefault(name, []).append(once.start["first_token"])
                peaks[name] = max(peaks.get(name, 0.0), once.start["peak"])
        cold = cold_starts(homes, commands, chosen.llama, (prompt, as_text), chosen.rounds)
        contestants = [Contestant(name, command) for name, command in commands.items()]
        found = run(contestants, chosen.rounds, prompt)
        for contestant in contestants:
            contestant.close()
    print("\nmilliseconds: median (least to most)")
    table = {"load to first token": starts, COLD: cold, **found}
    for workload, by_name in table.items():
        for name, seconds in by_name.items():
            values = [1e3 * value for value in seconds]
            told = f"{statistics.median(values):9.2f} ({min(values):.2f} to {max(values):.2f})"
            print(f"{workload:34s} {name:26s} {told}")
    for name, peak in peaks.items():
        print(f"{'peak MiB at the first token':34s} {name:26s} {peak:6.0f}")
    print("\nratio of paired turns: median (least to most)")
    rows = [
        *bars(found, peaks),
        *cold_bars(cold),
        ("150 ms over importing shammah_runtime.cli", [0.150 / value for value in imports()], 1.0),
    ]
    for label, ratios, least in rows:
        middle = statistics.median(ratios)
        verdict = "" if not least else f"wanted {least:.2f}: {'reached' if middle >= least else 'not reached'}"
        print(f"{label:72s} {middle:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})  {verdict}")
    if chosen.json:
        figures = {"machine": machine(), "seconds": table, "peak_mebibytes": peaks, "bars": rows}
        chosen.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
