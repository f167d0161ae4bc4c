"""How much of the machine a run takes while somebody works on it. Knows processes by name, not what they do."""

import os
from collections.abc import Callable, Iterable
from typing import Any

_SERVES = "shammah-serve"
# Of one core, on average since the first look: an idle session takes less.
_BUSY = 0.1


def step_back(nice: int) -> None:
    """Lower this process's priority to `nice`, unless it is that low already; nothing where the system has no such thing."""
    if hasattr(os, "setpriority"):
        now = os.getpriority(os.PRIO_PROCESS, 0)
        if nice > now:
            os.setpriority(os.PRIO_PROCESS, 0, nice)


class Serving:
    """The serving processes on this machine, and whether they have been at work since the first look.

    `processes` yields those of psutil; `clock` is in seconds.
    """

    def __init__(self, processes: Callable[[], Iterable[Any]], clock: Callable[[], float]) -> None:
        self._processes = processes
        self._clock = clock
        self._began = clock()
        self._first = self._seconds()

    def busy(self) -> bool:
        """Whether any of them has used the processor since."""
        passed = self._clock() - self._began
        now = self._seconds()
        return passed > 0 and any(
            used - self._first[process] > _BUSY * passed for process, used in now.items() if process in self._first
        )

    def _seconds(self) -> dict[tuple[int, float], float]:
        import psutil

        found = {}
        for process in self._processes():
            try:
                with process.oneshot():
                    if any(_SERVES in part for part in process.cmdline()[:3]):
                        used = process.cpu_times()
                        found[process.pid, process.create_time()] = used.user + used.system
            except psutil.Error:
                continue  # it has ended, or belongs to somebody else
        return found


def threads(wanted: int, cores: int, busy: bool) -> int:
    """Threads to compute with: as many as are wanted, else one for each core, less one while serving is at work."""
    return wanted or max(1, cores - busy)
