"""How fast and how patient the exchange log is, beside SQLite doing the same. Run by `scripts/bench log`.

- import: rows a second of `shammah-log import`, and its peak memory at a tenth of the rows and at all of them.
- list, search, stats: the whole command at that size, start-up included; SQLite's part is the query alone.
- append: one durable row; SQLite appends to a file of its own in WAL mode, synchronous.
- lock: added latency of an exchange while another process holds the database, and whether all rows are there afterwards.
- snapshots: snapshots in a loop beside a process that appends; each must be a prefix of the log.
"""

import argparse
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot

WORDS = (
    "account invoice password server branch deploy holiday office printer badge network backup release customer order refund "
    "train ticket meeting laptop license database index query table schema migration cache queue worker timeout retry"
).split()
HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.close()
"""
APPEND = """
import sys, time
from pathlib import Path
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
log = ExchangeLog(Home(Path(sys.argv[1])))
end = time.monotonic() + float(sys.argv[2])
number, late = 0, 0.0
while (now := time.monotonic()) < end:
    log.append(Exchange(f"q{number}", "a", "teacher"))
    number += 1
    late = max(late, time.monotonic() - now)
    time.sleep(max(0.0, 0.05 - (time.monotonic() - now)))
print(number, late)
"""
SQLITE = """
import json, sqlite3, sys, time
began = time.perf_counter()
c = sqlite3.connect(sys.argv[1])
rows = c.execute(sys.argv[2], json.loads(sys.argv[3])).fetchall()
print(time.perf_counter() - began)
"""


def main() -> int:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(prog="scripts/bench log", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--hold", type=float, default=30.0, help="seconds that the database is held")
    parser.add_argument("--snapshots", type=float, default=120.0, help="seconds of snapshots")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ("shammah", "duckdb")} | {"sqlite": sqlite3.sqlite_version},
    }
    print(figures["machine"], figures["versions"])
    with tempfile.TemporaryDirectory(prefix="shammah-bench-") as folder:
        root = Path(folder)
        figures["import"] = importing(root, given.rows)
        figures["commands"] = commands(root, given.rows, given.repeats)
        figures["append"] = appending(root, 60)
        figures["lock"] = locked(root, given.hold)
        figures["snapshots"] = snapshots(root, given.snapshots)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def show(name: str, text: str) -> None:
    """A line of the table."""
    print(f"{name:<12} {text}", flush=True)


def spread(values: list[float], unit: float = 1000.0) -> dict[str, float]:
    """Minimum, median and maximum, in milliseconds by default."""
    return {
        "min": round(min(values) * unit, 1),
        "median": round(statistics.median(values) * unit, 1),
        "max": round(max(values) * unit, 1),
    }


def told(figure: dict[str, float]) -> str:
    """Median with its spread."""
    return f"{figure['median']:8.1f} ms ({figure['min']:.1f}-{figure['max']:.1f})"


def tool(root: Path, *arguments: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and output of a `shammah-log` command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "shammah_data.cli", *arguments],
        env={**os.environ, "SHAMMAH_HOME": str(root / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, error = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{arguments[0]}: {error}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000, out


def importing(root: Path, rows: int) -> dict[str, Any]:
    """Rows a second, and memory at a tenth of them and at all."""
    rng = random.Random(0)
    path, part = root / "past.jsonl", root / "part.jsonl"
    with path.open("w") as file:
        for n in range(rows):
            query = f"How do I {rng.choice(WORDS)} the {rng.choice(WORDS)} of {rng.choice(WORDS)} {n}?"
            answer = " ".join(rng.choices(WORDS, k=40))
            file.write(json.dumps({"query": query, "response": answer}) + "\n")
    with path.open() as whole, part.open("w") as file:
        file.writelines(line for _, line in zip(range(rows // 10), whole, strict=False))
    # The peak of all children so far: the small import comes first.
    _, small, _ = tool(root, "import", str(part))
    seconds, large, _ = tool(root, "import", str(path))
    figure = {"rows_per_second": round(rows / seconds), "peak_mb_tenth": round(small), "peak_mb_all": round(large)}
    show(
        "import", f"{figure['rows_per_second']} rows/s; peak memory {small:.0f} MB at {rows // 10} rows, {large:.0f} at {rows}"
    )
    return figure


def commands(root: Path, rows: int, repeats: int) -> dict[str, Any]:
    """list, search and stats as commands, and SQLite on the same rows; interleaved."""
    peer = root / "peer.sqlite"
    with sqlite3.connect(peer) as connection:
        connection.execute("CREATE TABLE e (id INTEGER PRIMARY KEY, query TEXT, answer TEXT, tier TEXT)")
        with (root / "past.jsonl").open() as file:
            connection.executemany(
                "INSERT INTO e (query, answer, tier) VALUES (?, ?, 'import')",
                ((row["query"], row["response"]) for row in map(json.loads, file)),
            )
    wanted = {
        "list": (("list",), "SELECT * FROM e ORDER BY id DESC LIMIT 20", []),
        "search": (
            ("search", "refund", "schema"),
            "SELECT * FROM e WHERE lower(query || char(10) || answer) LIKE ? AND lower(query || char(10) || answer) LIKE ? "
            "ORDER BY id DESC LIMIT 20",
            ["%refund%", "%schema%"],
        ),
        "stats": (("stats",), "SELECT tier, count(*) FROM e GROUP BY tier", []),
    }
    figures: dict[str, Any] = {}
    for name, (arguments, sql, parameters) in wanted.items():
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(tool(root, *arguments)[0])
            done = subprocess.run(
                [sys.executable, "-c", SQLITE, str(peer), sql, json.dumps(parameters)],
                capture_output=True,
                text=True,
                check=True,
            )
            theirs.append(float(done.stdout))
        figures[name] = {"whole_command": spread(ours), "sqlite_query": spread(theirs)}
        show(
            name,
            f"{told(figures[name]['whole_command'])} the whole command; SQLite's query {told(figures[name]['sqlite_query'])}",
        )
    return figures


def appending(root: Path, count: int) -> dict[str, Any]:
    """One durable row, ours and SQLite's, interleaved."""
    log = ExchangeLog(Home(root / "append").create())
    log.recent()
    peer = root / "append.sqlite"
    with sqlite3.connect(peer) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE e (query TEXT, answer TEXT)")

    def sqlite_append() -> None:
        connection = sqlite3.connect(peer)
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("INSERT INTO e VALUES ('q', ?)", ["a" * 200])
        connection.close()

    ours, theirs = [], []
    for _ in range(count):
        ours.append(timed(lambda: log.append(Exchange("q", "a" * 200, "teacher"))))
        theirs.append(timed(sqlite_append))
    ratio = statistics.median(ours) / statistics.median(theirs)
    figure = {"ours": spread(ours), "sqlite": spread(theirs), "ratio": round(ratio, 1)}
    show("append", f"{told(figure['ours'])}; SQLite {told(figure['sqlite'])}; ratio {ratio:.1f}")
    return figure


def locked(root: Path, seconds: float) -> dict[str, Any]:
    """A hundred exchanges spread over the time that another process holds the database."""
    home = Home(root / "locked").create()
    log = ExchangeLog(home)
    log.recent()
    free = [timed(lambda: log.append(Exchange("q", "a", "teacher"))) for _ in range(20)]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(home.log), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    held = []
    began = time.monotonic()
    for n in range(100):
        held.append(timed(lambda: log.append(Exchange("held", "a", "teacher"))))
        time.sleep(max(0.0, began + (n + 1) * 0.95 * seconds / 100 - time.monotonic()))
    still = holder.poll() is None
    holder.wait()
    log.append(Exchange("after", "a", "teacher"))
    there = sum(row["query"] == "held" for row in log.recent(1000))
    added = sorted(value - statistics.median(free) for value in held)
    figure = {
        "held_all_along": still,
        "rows_after_the_drain": there,
        "added_ms_p50": round(added[50] * 1000, 1),
        "added_ms_p99": round(added[98] * 1000, 1),
        "added_ms_max": round(added[-1] * 1000, 1),
    }
    show(
        "lock",
        f"held {seconds:.0f} s: added latency p50 {figure['added_ms_p50']} ms, p99 {figure['added_ms_p99']} ms, "
        f"max {figure['added_ms_max']} ms; {there} of 100 rows after the drain",
    )
    return figure


def snapshots(root: Path, seconds: float) -> dict[str, Any]:
    """Snapshots in a loop beside twenty appends a second; every one is compared with the log at the end."""
    home = Home(root / "snapshots").create()
    log = ExchangeLog(home)
    log.append(Exchange("first", "a", "teacher"))
    writer = subprocess.Popen(
        [sys.executable, "-c", APPEND, str(home.root), str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    taken, times = [], []
    path = root / "snapshot.parquet"
    while writer.poll() is None:
        path.unlink(missing_ok=True)
        began = time.perf_counter()
        _, _, until = log.snapshot(path)
        times.append(time.perf_counter() - began)
        taken.append((until, {row["id"] for row in read_snapshot(path)}))
        time.sleep(0.02)
    out, error = writer.communicate()
    if error:
        raise SystemExit(error)
    number, latest = out.split()
    order = [(row["logged_at"], str(row["id"])) for row in log.recent(1_000_000)]
    prefixes = sum(ids == {one for at, one in order if at <= until} for until, ids in taken)
    figure = {
        "snapshots": len(taken),
        "prefixes": prefixes,
        "appended": int(number),
        "in_the_log": len(order) - 1,
        "slowest_append_ms": round(float(latest) * 1000, 1),
        "snapshot": spread(times),
    }
    show(
        "snapshots",
        f"{prefixes} of {len(taken)} are prefixes of the log; {figure['in_the_log']} of {number} appended rows are there; "
        f"slowest append {figure['slowest_append_ms']} ms; a snapshot {told(figure['snapshot'])}",
    )
    return figure


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
