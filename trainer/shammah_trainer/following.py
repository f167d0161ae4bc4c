"""A process of a run that does not lead: it trains beside the others, writes nothing, and says only why it cannot."""

import io
import sys

from shammah_data.errors import ShammahError
from shammah_data.text import printable
from shammah_trainer.processes import Processes
from shammah_trainer.progress import Reporter


def follow(processes: Processes) -> None:
    """Wait for what the first process shares and take part in it; it leaves as soon as its part is done."""
    order = processes.receive()
    try:
        if order is not None:
            from shammah_trainer.tune import tune

            tune(order, Reporter(io.StringIO()), leads=False)
    except ShammahError as error:
        # Mostly all fail alike, but what only this machine lacks nobody else can tell.
        print(f"shammah-train, process {processes.rank}: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        processes.leave()
