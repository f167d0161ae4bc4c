"""Whole commands for scripts/bench engine: from the start of a process to its first token. Knows processes, no engine.

`shammah-serve ask` is the command that users run, ended at the first token of the model's own answer, which they would see
once it is accepted. A binding is a process of engine_contestant.py, its Python included, and is given ids; llama.cpp's own
command is given the same prompt as text.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

# The thread that answers a query has this name; golden prompts are read on another one. The decoder is imported by nobody
# sooner than it would be.
FIRST_TOKEN = """
import os, sys, threading, time
from importlib.machinery import PathFinder

DECODER = "shammah_runtime.engine.decoder"

class Watched:
    def find_spec(self, name, path=None, target=None):
        if name != DECODER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def loaded(module):
            run(module)
            drawn = module.Decoder.tokens

            def tokens(decoder, *rest):
                for step in drawn(decoder, *rest):
                    if threading.current_thread().name == "neural":
                        sys.__stdout__.write(f"{time.monotonic()}\\n")
                        sys.__stdout__.flush()
                        os._exit(0)
                    yield step

            module.Decoder.tokens = tokens

        spec.loader.exec_module = loaded
        return spec

sys.meta_path.insert(0, Watched())
from shammah_runtime.cli import main
sys.argv[0] = "shammah-serve"
main()
"""


def ask(home: Path, question: str) -> float:
    """Seconds of `shammah-serve ask`."""
    command = [sys.executable, "-c", FIRST_TOKEN, "ask", "--offline", "--no-log", question]
    began = time.monotonic()
    done = subprocess.run(command, env={**os.environ, "SHAMMAH_HOME": str(home)}, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        sys.exit(f"shammah-serve ask gave no token: {done.stderr.strip()}")
    return float(done.stdout) - began


def binding(command: list[str], ids: list[int]) -> float:
    """Seconds of a contestant's process."""
    began = time.monotonic()
    done = subprocess.run([*command, json.dumps(ids)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[0])["at"]) - began


def llama(program: Path, file: str, prompt: str, threads: int, context: int) -> float:
    """Seconds of llama.cpp's llama-completion, up to the first byte of its answer."""
    command = [str(program), "-m", file, "-p", prompt, "-n", "1", "-t", str(threads), "-c", str(context), "--temp", "0"]
    command += ["-no-cnv", "--no-display-prompt", "--no-warmup"]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        found = time.monotonic() - began
        process.stdout.read()
    if process.returncode or not first:
        sys.exit(f"{program} gave no token: it ended with exit code {process.returncode}")
    return found
