import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from shammah_trainer.priority import Serving, step_back, threads


@dataclass
class Process:
    """As psutil tells of one."""

    pid: int
    command: list[str]
    seconds: float = 0.0
    gone: bool = False

    def oneshot(self) -> Any:
        return nullcontext()

    def cmdline(self) -> list[str]:
        if self.gone:
            raise psutil.NoSuchProcess(self.pid)
        return self.command

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.seconds, system=0.0)

    def create_time(self) -> float:
        return 1.0


@pytest.fixture
def clock() -> Iterator[float]:
    return iter((0.0, 10.0))


def test_a_session_at_work_is_seen(clock: Iterator[float]) -> None:
    session = Process(1, ["python", "/usr/bin/shammah-serve"], 100.0)
    serving = Serving(lambda: [session, Process(2, ["editor", "a"])], lambda: next(clock))
    session.seconds += 2.0
    assert serving.busy()


@pytest.mark.parametrize(("command", "seconds"), [(["shammah-serve"], 0.5), (["editor"], 9.0)])
def test_an_idle_session_and_other_work_are_not(clock: Iterator[float], command: list[str], seconds: float) -> None:
    process = Process(1, command)
    serving = Serving(lambda: [process], lambda: next(clock))
    process.seconds += seconds
    assert not serving.busy()


def test_a_session_that_ends_or_begins_meanwhile_does_not_count(clock: Iterator[float]) -> None:
    ending, found = Process(1, ["shammah-serve"]), []
    found.append(ending)
    serving = Serving(lambda: found, lambda: next(clock))
    ending.gone = True
    found.append(Process(2, ["shammah-serve"], 50.0))
    assert not serving.busy()


def test_real_processes_are_looked_through() -> None:
    assert not Serving(psutil.process_iter, iter((0.0, 1.0)).__next__).busy()


def test_threads() -> None:
    assert threads(3, 8, busy=True) == 3
    assert threads(0, 8, busy=False) == 8
    assert threads(0, 8, busy=True) == 7
    assert threads(0, 1, busy=True) == 1


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="no priorities here")
def test_priority_is_lowered_and_never_raised() -> None:
    code = (
        "import os; from shammah_trainer.priority import step_back; step_back(17); step_back(3); "
        "print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "17\n", done.stderr
    before = os.getpriority(os.PRIO_PROCESS, 0)
    step_back(0)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
