"""scripts/bench engine: this engine beside llama.cpp on the same model, tokens and threads, taking turns in one run.

Every contestant is a process of its own and only one works at a time; a ratio is that of two turns of the same round. The
peers need an environment of their own, which nothing of Shammah needs:

    python3 -m venv PEERS
    CMAKE_ARGS=-DGGML_NATIVE=ON PEERS/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36
    scripts/bench engine --peers PEERS --gguf FILE

FILE is the GGUF file that the base was made from; it is quantized to Q8_0 and Q4_0 here, by llama.cpp itself.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
FILE_TYPES = {"q8_0": 7, "q4_0": 2}
QUESTION = "How do I make good coffee at home, step by step?"
QUANTIZE = """
import ctypes, sys, llama_cpp
source, target, kind = sys.argv[1:]
wanted = llama_cpp.llama_model_quantize_default_params()
wanted.nthread, wanted.ftype, wanted.allow_requantize = 2, int(kind), True
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(wanted)))
"""


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


def export(base: Path, precision: Any, folder: Path) -> None:
    """Write the graph as a night would."""
    from shammah_export.export import export_model

    shape = export_model(base, folder, precision, context=2048).shape
    sizes = {key: asdict(shape)[key] for key in ("layers", "kv_heads", "head_dim", "vocab", "context")}
    (folder / "shape.json").write_text(json.dumps(sizes), encoding="utf-8")


def run(contestants: list[Contestant], rounds: int, prompt: list[int]) -> dict[str, dict[str, list[float]]]:
    """Seconds of every workload and contestant, one per round; the order turns from round to round."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(workload: str, name: str, value: float) -> None:
        found.setdefault(workload, {}).setdefault(name, []).append(value)

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
    best = min(("llama.cpp q8_0", "llama.cpp q4_0"), key=lambda name: statistics.median(found[near][name]))
    rows.append((f"verbatim draft, shammah int8 against {best}", ratio(found, (near, best), (verbatim, "shammah int8")), 3.0))
    return rows


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
    parser.add_argument("--peers", type=Path, help="a virtual environment with llama-cpp-python; without it no peer runs")
    parser.add_argument("--gguf", type=Path, help="the GGUF file of the same model, for the peer")
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
    base = Base.open(chosen.base)
    prompt = ChatTokenizer(chosen.base / "tokenizer.json", base.chat).prompt(QUESTION)
    worker = str(ROOT / "engine_contestant.py")
    with tempfile.TemporaryDirectory(prefix="shammah-bench-") as made:
        commands: dict[str, list[str]] = {}
        for precision in ("int8", "int4"):
            export(chosen.base, precision, Path(made) / precision)
            commands[f"shammah {precision}"] = [sys.executable, worker, "shammah", str(Path(made) / precision)]
        if chosen.peers:
            python = str(chosen.peers / "bin" / "python")
            for kind, number in FILE_TYPES.items():
                target = str(Path(made) / f"{kind}.gguf")
                subprocess.run([python, "-c", QUANTIZE, str(chosen.gguf), target, str(number)], check=True, capture_output=True)
                commands[f"llama.cpp {kind}"] = [python, worker, "llama", target]
        # Started again each time: what one process reads from the disk is in memory for the next.
        starts: dict[str, list[float]] = {}
        for _ in range(3):
            for name, command in commands.items():
                once = Contestant(name, command)
                once.close()
                starts.setdefault(name, []).append(once.start["first_token"])
        contestants = [Contestant(name, command) for name, command in commands.items()]
        peaks = {contestant.name: contestant.start["peak"] for contestant in contestants}
        found = run(contestants, chosen.rounds, prompt)
        for contestant in contestants:
            contestant.close()
    print(f"\n{'milliseconds: median (least to most)':38s}" + "".join(f"{name:>26s}" for name in commands))
    table = {"load to first token": starts, **found}
    for workload, by_name in table.items():
        cells = ""
        for name in commands:
            values = [1e3 * value for value in by_name.get(name, [])]
            told = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "-"
            cells += f"{told:>26s}"
        print(f"{workload:38s}{cells}")
    print(f"{'peak memory at the first token, MiB':38s}" + "".join(f"{peaks[name]:>26.0f}" for name in commands))
    print("\nratio of paired turns: median (least to most)")
    rows = bars(found, peaks)
    for label, ratios, least in rows:
        middle = statistics.median(ratios)
        verdict = "" if not least else f"wanted {least:.2f}: {'reached' if middle >= least else 'not reached'}"
        print(f"{label:58s} {middle:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})  {verdict}")
    if chosen.json:
        figures = {"machine": machine(), "seconds": table, "peak_mebibytes": peaks, "bars": rows}
        chosen.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
