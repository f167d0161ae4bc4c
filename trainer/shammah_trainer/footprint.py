"""What a graph takes to serve: peak memory and tokens a second, measured in a process of its own that holds nothing else.

The process that trains holds torch and the weights; its memory says nothing of serving.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shammah_data.errors import TrainingError
from shammah_data.manifest import CacheShape

_TOKENS = 64
_SECONDS = 600.0


def measure_footprint(graph: Path, shape: CacheShape, prompts: Sequence[Sequence[int]], threads: int) -> dict[str, float]:
    """{"peak_bytes", "tokens_per_second", "load_seconds"} of a process that loads the graph and answers the prompts greedily.

    `peak_bytes` is left out where the system does not tell. Raises TrainingError when the graph cannot be served.
    """
    wanted = {
        "graph": str(graph.absolute()),
        "shape": asdict(shape),
        "prompts": [list(prompt) for prompt in prompts],
        "threads": threads,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__], input=json.dumps(wanted), capture_output=True, text=True, timeout=_SECONDS
        )
        found: dict[str, float] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise TrainingError(f"{graph}: its memory and speed cannot be measured: {error}") from error
    return found


def _peak_bytes() -> int | None:
    # Not ru_maxrss: on Linux it begins with what the parent had.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _measure(wanted: dict[str, Any]) -> dict[str, float]:
    import numpy as np

    from shammah_runtime.engine.session import GraphSession

    began = time.perf_counter()
    session = GraphSession(Path(wanted["graph"]), CacheShape(**wanted["shape"]), "cpu", wanted["threads"])
    loaded = time.perf_counter()
    decoded, seconds = 0, 0.0
    for prompt in wanted["prompts"]:
        cache = session.new_cache()
        token = int(np.argmax(session.feed(cache, prompt)[-1]))
        since = time.perf_counter()
        room = min(_TOKENS, session.shape.context - len(prompt))
        for _ in range(room):
            # Past the end of the answer as well: a token costs the same whatever it says.
            token = int(np.argmax(session.feed(cache, [token])[-1]))
        decoded, seconds = decoded + room, seconds + time.perf_counter() - since
    found: dict[str, float] = {
        "tokens_per_second": round(decoded / seconds, 1) if seconds else 0.0,
        "load_seconds": round(loaded - began, 3),
    }
    peak = _peak_bytes()
    return found if peak is None else {"peak_bytes": peak, **found}


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.stdin.read()))))
