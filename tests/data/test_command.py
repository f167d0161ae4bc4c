import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from shammah_data import command
from shammah_data.errors import InputError, LogError, ShammahError, TeacherError

FULL = Path("/dev/full")


def raising(error: BaseException) -> Callable[[], object]:
    def app() -> object:
        raise error

    return app


@pytest.fixture(autouse=True)
def _keep_umask() -> "object":
    before = os.umask(0o022)
    yield None
    os.umask(before)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ShammahError("no"), 2, "tool: no"),
        (InputError("bad file"), 2, "tool: bad file"),
        (LogError("two\nlines \x1b[31m\x9b"), 2, "tool: two lines"),
        (TeacherError("late", partial="half"), 3, "tool: late"),
        (FileNotFoundError(2, "No such file", "x.txt"), 2, "tool: No such file: x.txt"),
        (OSError("plain"), 2, "tool: plain"),
        (KeyboardInterrupt(), 130, "tool: interrupted"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(raising(error), "tool")
    assert ended.value.code == code
    assert capsys.readouterr() == ("", line + "\n")


def test_a_programming_error_is_one_line_and_its_traceback_can_be_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHAMMAH_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        command.run(lambda: 1 // 0, "tool")
    assert ended.value.code == 1
    line = "tool: internal error (ZeroDivisionError: integer division or modulo by zero); SHAMMAH_DEBUG=1 shows where\n"
    assert capsys.readouterr() == ("", line)
    monkeypatch.setenv("SHAMMAH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 // 0, "tool")


def test_what_works_prints_and_returns(capsys: pytest.CaptureFixture[str]) -> None:
    command.run(lambda: print("done"), "tool")
    assert capsys.readouterr() == ("done\n", "")


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    import os

    code = f"from shammah_data import command\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env={**os.environ, **environment}, check=False)


def test_a_letter_that_the_terminal_lacks_ends_nothing() -> None:
    done = run("command.run(lambda: print('caf\\u00e9 \\ud800'), 'tool')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"caf? ?\n", b"")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = """
import sys
from shammah_data import command
def app():
    for number in range(100_000):
        print(number)
command.run(app, 'tool')
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_reader_that_has_gone_before_the_last_words_hides_no_exit_code() -> None:
    code = "import sys, time; command.run(lambda: (print('said'), time.sleep(0.2), sys.exit(1)), 'tool')"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from shammah_data import command\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=without_buffering(""),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("end", ["None", "sys.exit(0)", "sys.exit(1)"])
def test_an_output_that_cannot_be_written_is_one_line(end: str, unbuffered: str) -> None:
    code = f"import sys\nfrom shammah_data import command\ncommand.run(lambda: (print('said'), {end}), 'tool')"
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=without_buffering(unbuffered), check=False
        )
    assert (done.returncode, done.stderr) == (2, b"tool: No space left on device\n")


def without_buffering(wanted: str) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": wanted}


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_ends_nothing_and_no_file_takes_its_place(closed: str, tmp_path: Path) -> None:
    """A file opened as the next one would else be what a library writes its complaints into."""
    code = f"""
import os, sys
from shammah_data import command
def app():
    with open({str(tmp_path / "file")!r}, "w") as file:
        terminals = [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)]
        print("said")
        os.write(1, b"and")
        os.write(2, b"complained")
        print(sys.stdin.read(), file=sys.stderr)
        file.write(f"{{file.fileno() > 2}} {{terminals}}")
    sys.exit(3)
command.run(app, "tool")
"""
    line = f"exec {sys.executable} -c '{code.replace(chr(39), chr(34))}' {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "file").read_text() == "True [False, False, False]"


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
@pytest.mark.parametrize(
    "module", ["shammah_runtime.cli", "shammah_trainer.cli", "shammah_trainer.export_cli", "shammah_data.cli"]
)
def test_every_command_is_told_of_closed_streams_in_time(module: str) -> None:
    for closed in ("<&- >&- 2>&-", "2>&-"):
        line = f"exec {sys.executable} -m {module} --help {closed}"
        done = subprocess.run(["/bin/sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert done.returncode == 0


def test_files_of_a_command_are_private() -> None:
    code = "import os, tempfile; p = tempfile.mkdtemp() + '/f'; command.run(lambda: open(p, 'w').close(), 'tool')"
    done = run(code + "; print(oct(os.stat(p).st_mode & 0o777)); os.unlink(p); os.rmdir(os.path.dirname(p))")
    assert done.stdout == b"0o600\n", done.stderr


def test_an_error_that_is_raised_beside_a_thread_is_no_success() -> None:
    program = (
        "import threading\nfrom shammah_data import command\n"
        "def app():\n    threading.Thread(target=threading.Event().wait, daemon=True).start()\n    END\n"
        "command.leave_threads_behind(app, 'tool')\n"
    )
    for end, code in (("raise ValueError('odd')", 1), ("return", 0)):
        environment = {**os.environ, "SHAMMAH_DEBUG": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program.replace("END", end)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr


def test_a_thread_inside_a_library_does_not_abort_the_process() -> None:
    """As it does where Python is taken down around it: the process would end with SIGABRT instead of its exit code."""
    program = (
        "import sys, threading\nimport duckdb\nfrom shammah_data import command\n"
        "def work():\n    connection = duckdb.connect()\n    while True:\n"
        "        connection.execute('SELECT sum(range) FROM range(3000000)').fetchall()\n        begun.set()\n"
        "begun = threading.Event()\n"
        "def app():\n    threading.Thread(target=work, daemon=True).start()\n    begun.wait()\n"
        "    print('said')\n    sys.exit(3)\n"
        "command.leave_threads_behind(app, 'tool')\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


@pytest.mark.parametrize("module", ["shammah_runtime.cli", "shammah_trainer.cli", "shammah_data.cli"])
def test_a_command_tells_its_version_and_imports_nothing_more_for_it(module: str) -> None:
    heavy = "duckdb", "numpy", "torch", "anthropic", "onnxruntime"
    code = (
        f"import atexit, sys\nfrom {module} import main\nsys.argv = ['tool', '--version']\n"
        f"atexit.register(lambda: print([name for name in {heavy} if name in sys.modules]))\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"shammah {metadata.version('shammah')}\n[]\n", "")
