"""scripts/bench http: the HTTP server under load, and what hanging connections cost others.

- load: so many requests, so many at once, over kept connections: statuses, latencies, the event loop's lag as the server itself
  measures it, resident memory a tenth of the way and at the end, and whether every answer is in the log.
- hanging: connections that drip a head byte by byte and come back when they are dropped, while single requests and whole
  `shammah-serve ask` commands are timed in turns with and without them; ratios are those of neighbouring turns.

The server has two cores (--cores) and a tiny model that is made for it, or the version of a home (--home). Asked is what that
version accepts or not; --offline is on, so that nothing leaves the machine. docs/benchmarks.md says what the bars are.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVE = str(Path(sys.executable).with_name("shammah-serve"))
TOKEN = secrets.token_urlsafe(32)
QUESTION = "When does the library open?"
BARS = {"lag": 0.05, "growth": 0.05, "ratio": 1.10}


class Server:
    """A `shammah-serve http` of its own process, on the given cores."""

    def __init__(self, home: Path, cores: set[int]) -> None:
        self._process = subprocess.Popen(
            [SERVE, "http", "--port", "0", "--offline"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SHAMMAH_HOME": str(home), "SHAMMAH_HTTP_TOKEN": TOKEN},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if "serving " not in line:
            sys.exit(f"the server did not start: {line}")
        self.port = int(line.partition("/v1")[0].rpartition(":")[2])

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End it at once, if it is still there."""
        self._process.kill()

    def end(self) -> float:
        """Seconds from SIGTERM to its end."""
        began = time.perf_counter()
        self._process.terminate()
        if self._process.wait() != 0:
            sys.exit(f"the server ended with {self._process.returncode}: that is a fault, not a figure")
        return time.perf_counter() - began


class Client:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of one request."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        sent = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}"]
        head += ["Content-Type: application/json", f"Content-Length: {len(sent)}", "", ""]
        writer.write("\r\n".join(head).encode() + sent)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        came = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), came

    async def complete(self, text: str) -> int:
        """The status of a chat completion."""
        asked = {"model": "shammah", "messages": [{"role": "user", "content": text}]}
        return (await self.ask("POST", "/v1/chat/completions", asked))[0]

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def figures(port: int) -> dict[str, float]:
    """The samples of /metrics, by name and labels."""
    client = Client(port)
    _, text = await client.ask("GET", "/metrics")
    client.close()
    lines = (line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def lag_within(before: dict[str, float], after: dict[str, float], share: float) -> float:
    """The least bucket, in seconds, within which this share of the loop's lags between two looks lies."""
    found = {}
    for name, value in after.items():
        if name.startswith("shammah_http_loop_lag_seconds_bucket"):
            found[float(name.partition('le="')[2].partition('"')[0])] = value - before.get(name, 0.0)
    total = found[float("inf")]
    return min(most for most, count in found.items() if count >= share * total)


async def load(server: Server, requests: int, at_once: int) -> dict[str, Any]:
    """`requests` completions, `at_once` of them at any time."""
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    memory: list[int] = []
    numbers = iter(range(requests))

    async def worker() -> None:
        client = Client(server.port)
        for number in numbers:
            began = time.perf_counter()
            try:
                status = str(await client.complete(f"{QUESTION} {number}"))
            except (OSError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
                client.close()
            latencies.append(time.perf_counter() - began)
            statuses[status] += 1
            if len(latencies) % max(1, requests // 10) == 0:
                memory.append(server.resident())
        client.close()

    before = await figures(server.port)
    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    after = await figures(server.port)
    latencies.sort()
    return {
        "requests": requests,
        "at_once": at_once,
        "seconds": seconds,
        "statuses": dict(statuses),
        "p50_s": latencies[len(latencies) // 2],
        "p99_s": latencies[int(len(latencies) * 0.99)],
        "most_s": latencies[-1],
        "lag_p50_s": lag_within(before, after, 0.5),
        "lag_p99_s": lag_within(before, after, 0.99),
        "resident_bytes": memory,
        "growth": memory[-1] / memory[0] - 1.0,
    }


async def drip(port: int) -> None:
    """A connection that never finishes its head, and comes back when it is dropped."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-A: ")
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(1.0)
        except OSError:
            await asyncio.sleep(0.1)


async def hanging(server: Server, home: Path, connections: int, rounds: int, singles: int) -> dict[str, Any]:
    """Seconds of single requests and of whole commands, in turns with and without hanging connections."""
    client = Client(server.port)
    found: dict[str, list[float]] = {"http alone": [], "http hanging": [], "ask alone": [], "ask hanging": []}

    async def turn(name: str) -> None:
        client.close()  # the server has let go of it while nothing was asked
        taken = []
        for number in range(singles):
            began = time.perf_counter()
            await client.complete(f"{QUESTION} {number}")
            taken.append(time.perf_counter() - began)
        found[f"http {name}"].append(statistics.median(taken))
        began = time.perf_counter()
        command = [SERVE, "ask", "--offline", "--no-log", QUESTION]
        environment = {**os.environ, "SHAMMAH_HOME": str(home)}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await process.wait()
        found[f"ask {name}"].append(time.perf_counter() - began)

    for _ in range(rounds):
        await turn("alone")
        drips = [asyncio.create_task(drip(server.port)) for _ in range(connections)]
        await asyncio.sleep(1.0)
        await turn("hanging")
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)
    client.close()
    ratios = {
        what: statistics.median(b / a for a, b in zip(found[f"{what} alone"], found[f"{what} hanging"], strict=True))
        for what in ("http", "ask")
    }
    return {"connections": connections, "seconds": found, "ratios": ratios}


@contextlib.contextmanager
def prepared(given: Path | None) -> Iterator[Path]:
    """A home with a version: a copy of the given one's, without its log, or one with a tiny model."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        if given is not None:
            home.mkdir()
            shutil.copytree(given / "models", home / "models")
        else:
            sys.path.insert(0, str(ROOT / "tests"))
            from fakes.versions import make_tiny
            from shammah_data.home import Home

            make_tiny(Path(folder) / "tiny", precisions=["int8"]).publish(Home(home).create())
        yield home


async def run(home: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything, with one server."""
    server = Server(home, set(sorted(os.sched_getaffinity(0))[: asked.cores]))
    try:
        return await measured(server, home, asked)
    finally:
        server.kill()


async def measured(server: Server, home: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything, of a server that is there."""
    from shammah_data.home import Home
    from shammah_data.log import ExchangeLog

    warm = Client(server.port)
    for number in range(50):
        await warm.complete(f"warm {number}")
    warm.close()
    found: dict[str, Any] = {"load": await load(server, asked.requests, asked.at_once)}
    if asked.rounds:
        found["hanging"] = await hanging(server, home, asked.connections, asked.rounds, asked.singles)
    found["end_s"] = server.end()
    stats = ExchangeLog(Home(home)).stats()
    found["logged"] = stats.exchanges + stats.spooled
    return found


def told(found: dict[str, Any], asked: argparse.Namespace) -> list[tuple[str, bool | None]]:
    """Lines, each with whether a bar was reached."""
    one = found["load"]
    bad = {status: count for status, count in one["statuses"].items() if status not in ("200", "422", "503")}
    kept = 50 + sum(count for status, count in one["statuses"].items() if status in ("200", "422"))
    if "hanging" in found:
        kept += 2 * asked.rounds * asked.singles
    lines: list[tuple[str, bool | None]] = [
        (f"{one['requests']} requests, {one['at_once']} at once: {one['seconds']:.1f} s, statuses {one['statuses']}", not bad),
        (
            f"latency p50 {one['p50_s'] * 1000:.1f} ms, p99 {one['p99_s'] * 1000:.1f} ms, most {one['most_s'] * 1000:.0f} ms",
            None,
        ),
        (f"event loop lag p99 within {one['lag_p99_s'] * 1000:.0f} ms (bar 50 ms)", one["lag_p99_s"] <= BARS["lag"]),
        (
            f"resident {one['resident_bytes'][0] / 2**20:.0f} -> {one['resident_bytes'][-1] / 2**20:.0f} MiB, "
            f"{one['growth']:+.1%} (bar {BARS['growth']:.0%})",
            one["growth"] <= BARS["growth"],
        ),
        (f"in the log: {found['logged']} of at least {kept} that were answered or declined", found["logged"] >= kept),
        (f"ended {found['end_s']:.2f} s after SIGTERM", None),
    ]
    for what, ratio in found.get("hanging", {}).get("ratios", {}).items():
        lines.append(
            (f"{what} beside {asked.connections} hanging connections: x{ratio:.2f} (bar 1.10)", ratio <= BARS["ratio"])
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home whose version is served (default: a tiny model)")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--connections", type=int, default=100, help="hanging ones")
    parser.add_argument("--rounds", type=int, default=7, help="turns with and without them; 0: none")
    parser.add_argument("--singles", type=int, default=50, help="single requests a turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with prepared(asked.home) as home:
        found = asyncio.run(run(home, asked))
    reached = told(found, asked)
    for line, good in reached:
        print(f"{'' if good is None else 'ok    ' if good else 'MISSED'} {line}".strip())
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.exit(any(good is False for _, good in reached))


if __name__ == "__main__":
    main()
