"""Ends of other processes."""

import subprocess


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
