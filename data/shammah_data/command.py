"""What every command of the project shares: one clear line for an error, and its exit code. Knows no command."""

import atexit
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from shammah_data.errors import ShammahError, reason
from shammah_data.text import one_line

_LONGEST = 2000
# How a write fails where nobody reads any more: a window and a pipe that were closed.
GONE = (errno.EIO, errno.EPIPE)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"shammah {version('shammah')}")
        raise typer.Exit


ShowVersion = Annotated[
    bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print Shammah's version, and nothing else.")
]


def fill_streams() -> None:
    """Put nothing in place of a standard stream that was closed, so that no file that is opened later takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(number)
        except OSError:
            nothing = os.dup2(nothing, number)
        setattr(sys, name, open(nothing, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def leave_threads_behind(app: Callable[[], object], name: str) -> None:
    """`run` as the last thing of a process: what its daemon threads have under way is neither waited for nor torn.

    Python stops such a thread where it next wants the interpreter; inside a library of C++ or Rust that aborts the process.
    """
    # That of an error that is raised, as SHAMMAH_DEBUG wants it.
    code = 1

    def end() -> None:
        if all(not thread.daemon for thread in threading.enumerate()):
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    # The first to be registered is the last to be called; threads that are no daemons have ended by then.
    atexit.register(end)
    try:
        run(app, name)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        raise


def run(app: Callable[[], object], name: str) -> None:
    """Run a typer application; an expected error becomes one line on standard error and its exit code."""
    fill_streams()
    # Databases and libraries make files of their own beside ours; all of them hold what users wrote.
    os.umask(0o077)
    # A letter that the terminal's encoding lacks must not end a program.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")
    try:
        _flushed(app)
    except ShammahError as error:
        print(f"{name}: {one_line(str(error), _LONGEST)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.exit(0)
    except OSError as error:
        print(f"{name}: {one_line(reason(error), _LONGEST)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        # A fault of ours: the user gets a line, a developer the whole story.
        if os.environ.get("SHAMMAH_DEBUG"):
            raise
        told = f"internal error ({type(error).__name__}: {error}); SHAMMAH_DEBUG=1 shows where"
        print(f"{name}: {one_line(told, _LONGEST)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flushed(app: Callable[[], object]) -> None:
    """Run it, and let what was printed last fail where all else that was printed does; typer ends with SystemExit."""
    try:
        app()
    except SystemExit:
        _flush()
        raise
    _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in GONE:
            raise
