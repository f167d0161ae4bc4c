"""scripts/bench cuda: this engine on a GPU beside others on the same one, same model and tokens, taking turns in one run.

It needs a CUDA GPU, and an environment of its own, whose Python runs scripts/bench_cuda.py: that of the checks has the ONNX
Runtime for processors. `pip install -e '.[cuda,train]'` makes one. Beside the graphs for CUDA run transformers in fp16,
onnxruntime-genai's own fp16 build where onnxruntime-genai-cuda is installed, and this engine's int8 graph on two threads of the
processor: what the GPU is worth. Every contestant is a process of its own and only one works at a time; a ratio is that of two
turns of the same round.
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
from importlib.util import find_spec
from pathlib import Path

from bench_engine import Contestant, machine, ratio
from engine_files import export

ROOT = Path(__file__).resolve().parent
NEAR, PREFILL, CACHED = "decode, 64 before", "prefill 512", "first token, 488 cached + 24"


def genai(base: Path, target: Path) -> Path | None:
    """onnxruntime-genai's own build for CUDA in fp16; None, and a line, where it cannot be had."""
    if find_spec("onnxruntime_genai") is None:
        print("left out: onnxruntime-genai-cuda is not installed")
        return None
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(base), "-o", str(target)]
    command += ["-p", "fp16", "-e", "cuda", "-c", f"{target}.cache"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        print(f"left out: onnxruntime-genai, whose builder ended with: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return None
    return target


def gpu_mebibytes() -> float:
    """Memory of the GPU that is taken, by all processes."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return float((total - free) / 2**20)


def run(contestants: list[Contestant], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every workload and contestant, one per round; the order turns from round to round."""
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for one in contestants[number % len(contestants) :] + contestants[: number % len(contestants)]:
            for workload, order in (
                (NEAR, {"do": "decode", "context": 64, "tokens": 64}),
                ("decode, 512 before", {"do": "decode", "context": 512, "tokens": 64}),
                (PREFILL, {"do": "prefill", "tokens": 512}),
                (CACHED, {"do": "prefill", "tokens": 24, "cached": 488}),
            ):
                found.setdefault(workload, {}).setdefault(one.name, []).append(one.ask(**order)["seconds"])
    return found


def main() -> None:
    """Parse, prepare, measure, print."""
    import torch

    from shammah_data.home import Home
    from shammah_runtime.engine.model import cuda_usable

    default = Home.find().bases / "smollm2-135m-instruct"
    parser = argparse.ArgumentParser(prog="scripts/bench cuda", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, default=default, help=f"a base folder of scripts/make-base (default: {default})")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contestant (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    chosen = parser.parse_args()
    if not (chosen.base / "config.json").exists():
        parser.error(f"{chosen.base} is no base folder: make it with scripts/make-base, or name one with --base")
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not (torch.cuda.is_available() and cuda_usable()):
        parser.error("torch or ONNX Runtime has no CUDA here: run it with the Python of an environment with '.[cuda,train]'")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnxruntime-gpu", "torch", "transformers"))
    print(f"{torch.cuda.get_device_name(0)}, {machine()}; {versions}, Python {platform.python_version()}")
    worker = [sys.executable, str(ROOT / "engine_contestant.py")]
    with tempfile.TemporaryDirectory(prefix="shammah-bench-") as made:
        commands = {}
        for precision, kind in (("fp16", "shammah-cuda"), ("bf16", "shammah-cuda"), ("int8", "shammah")):
            export(chosen.base, precision, Path(made) / precision)
            commands[f"shammah {precision}"] = [*worker, kind, str(Path(made) / precision)]
        commands["transformers fp16"] = [*worker, "transformers", str(chosen.base)]
        if folder := genai(chosen.base, Path(made) / "genai"):
            commands["genai fp16"] = [*worker, "genai", str(folder)]
        contestants, taken = [], {}
        for name, command in commands.items():
            before = gpu_mebibytes()
            contestants.append(Contestant(name, command))
            taken[name] = gpu_mebibytes() - before
        found = run(contestants, chosen.rounds)
        for contestant in contestants:
            contestant.close()
    print("\nmilliseconds: median (least to most)")
    for workload, by_name in found.items():
        for name, seconds in by_name.items():
            values = [1e3 * value for value in seconds]
            print(f"{workload:34s} {name:26s} {statistics.median(values):9.2f} ({min(values):.2f} to {max(values):.2f})")
    for contestant in contestants:
        print(f"{'load to first token':34s} {contestant.name:26s} {1e3 * contestant.start['first_token']:9.0f}")
    for name, mebibytes in taken.items():
        print(f"{'MiB of the GPU at the first token':34s} {name:26s} {mebibytes:9.0f}")
    print("\nratio of paired turns: median (least to most)")
    rows = {
        f"{workload}, {mine} against {theirs}": ratio(found, (workload, theirs), (workload, mine))
        for mine in ("shammah fp16", "shammah bf16")
        for theirs in commands
        for workload in found
        if not theirs.startswith("shammah") or theirs == "shammah int8"
    }
    for label, ratios in rows.items():
        print(f"{label:80s} {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if chosen.json:
        figures = {"machine": machine(), "versions": versions, "seconds": found, "gpu_mebibytes": taken, "ratios": rows}
        chosen.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
