"""A process of a run that does not lead: it trains beside the others, and writes and says nothing."""

import io
import sys

from shammah_data.errors import ShammahError
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
        # All fail alike, and the first one tells why.
        sys.exit(error.exit_code)
    finally:
        processes.leave()
