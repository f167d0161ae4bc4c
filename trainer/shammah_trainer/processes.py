"""The processes of one run, as `accelerate launch` or `torchrun` start them. Knows who leads, not what is done.

The first process leads: it alone locks, reads the log, writes, exports and publishes. The others wait for what it shares.
"""

import os
import signal
import sys
from datetime import timedelta
from typing import Any

from shammah_data.errors import TrainingError

# The first process may have to convert a base, or to wait for a log, before it has something to share.
_PATIENCE = timedelta(hours=6)


def several_on_cpu() -> bool:
    """Whether this is one of several processes and there is no GPU: accelerate joins such processes only if it is told."""
    import torch

    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


class Processes:
    """This process among those of the run; alone unless the environment says otherwise.

    Joining the others is put off until something is shared: a run with nothing to do need not import torch by itself.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        self.rank = int(found.get("RANK", "0"))
        self.count = int(found.get("WORLD_SIZE", "1"))
        self._shared = False

    @property
    def leads(self) -> bool:
        """Whether this is the one that reads and writes."""
        return self.rank == 0

    def heed(self) -> None:
        """Let the first of several end by SystemExit when it gets SIGTERM, as launchers send it where another one failed."""
        self._on_sigterm(lambda *_: sys.exit(128 + signal.SIGTERM))

    def ignore(self) -> None:
        """Let SIGTERM do nothing: what is left to do is short, and must be done."""
        self._on_sigterm(signal.SIG_IGN)

    def part(self) -> None:
        """The others have done their part: SIGTERM ends this process as it ends one by itself."""
        self._on_sigterm(signal.SIG_DFL)

    def lost(self, error: BaseException) -> bool:
        """Whether an error may say no more than that another process is gone: then it is no fault of the work."""
        # What came of the collective's error or SIGTERM first, by chance.
        return isinstance(error, SystemExit) or (self.count > 1 and isinstance(error, RuntimeError))

    def share(self, item: Any) -> None:
        """Give the others what they wait for; to be called by the first process, once."""
        self._shared = True
        if self.count > 1:
            self._broadcast(item)

    def receive(self) -> Any:
        """What the first process shares; None when it has nothing to do."""
        return self._broadcast(None)

    def dismiss(self) -> None:
        """Let the others go where nothing was shared."""
        if not self._shared:
            self.share(None)

    def leave(self) -> None:
        """Leave the group, if this process ever joined it."""
        if self.count > 1:
            import torch.distributed

            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _on_sigterm(self, action: Any) -> None:
        if self.count > 1 and self.leads:
            signal.signal(signal.SIGTERM, action)

    def _broadcast(self, item: Any) -> Any:
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        joined = PartialState(cpu=several_on_cpu(), timeout=_PATIENCE).num_processes
        if joined != self.count:
            raise TrainingError(f"{self.count} processes were started and {joined} found each other")
        (received,) = broadcast_object_list([item], from_process=0)
        return received
