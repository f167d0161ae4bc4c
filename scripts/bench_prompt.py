"""scripts/bench prompt: how long `shammah-serve` takes from its start to its first prompt, on a terminal of its own.

Each start is timed until the prompt is on the screen, and until a first question, typed at that moment, is answered; with a
tiny model that is made for it, or with the version of a home (--home). The bar is 300 ms to the prompt.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
BAR_SECONDS = 0.3


def start(home: Path, question: str) -> tuple[float, float]:
    """Seconds to the prompt, and from there to the answer."""
    from fakes.screen import Screen

    screen = Screen({"SHAMMAH_HOME": str(home)}, ["--offline"], columns=120)
    try:
        screen.until_prompt()
        prompt = time.monotonic()
        screen.ask(question)
        screen.until(lambda: " ms" in screen.text or "error:" in screen.text)
        return prompt - screen.began, time.monotonic() - prompt
    finally:
        screen.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home with a version; it is copied")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--question", default="When does the library open?")
    parser.add_argument("--json", type=Path, help="write the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        if given.home:
            shutil.copytree(given.home, home)
        else:
            from fakes.versions import make_tiny
            from shammah_data.home import Home

            made = Path(folder) / "tiny"
            made.mkdir()
            make_tiny(made).publish(Home(home).create())
        start(home, given.question)  # reads the files once
        rounds = [start(home, given.question) for _ in range(given.rounds)]
    figures = {"cores": len(os.sched_getaffinity(0)), "rounds": given.rounds}
    for name, seconds in (("prompt", [one for one, _ in rounds]), ("answer", [one for _, one in rounds])):
        seconds.sort()
        p90 = seconds[min(len(seconds) - 1, int(0.9 * len(seconds)))]
        figures[f"{name}_ms"] = {"median": round(1000 * statistics.median(seconds)), "p90": round(1000 * p90)}
        print(f"{name:<8} median {1000 * statistics.median(seconds):6.0f} ms   p90 {1000 * p90:6.0f} ms")
    met = figures["prompt_ms"]["p90"] <= 1000 * BAR_SECONDS
    print(f"bar      {1000 * BAR_SECONDS:.0f} ms to the prompt, p90: {'met' if met else 'missed'}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
