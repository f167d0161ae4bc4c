"""Other processes: one that holds a database, and the end of one that is killed."""

import subprocess
import sys
from pathlib import Path

_HOLD = """
import sys, time, duckdb
until = time.monotonic() + 20.0
while True:
    try:
        connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reading")
        break
    except duckdb.IOException:
        # Whoever has just started may still be reading it.
        if time.monotonic() > until:
            raise
        time.sleep(0.02)
print("held", flush=True)
sys.stdin.readline()
connection.close()
"""


class Holder:
    """A process that holds a database, reading or writing, until it is told to let go."""

    def __init__(self, path: Path, how: str = "writing") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        """Close the database; a second time is no error."""
        if self._process.poll() is None:
            self._process.communicate("go\n")


def killed(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill a process; what it had printed and not yet been read, and its error output.

    `communicate` would lose the lines that an earlier `readline` had read ahead.
    """
    process.kill()
    assert process.stdout is not None
    assert process.stderr is not None
    out, error = process.stdout.read(), process.stderr.read()
    process.wait()
    return out, error
