"""`shammah-train` as one of several processes: the others cannot take part, while the first is at work by itself."""

import os
import signal

from shammah_data.errors import TrainingError
from shammah_trainer import cli, tune


def apart(*_: object, **__: object) -> None:
    """What stands in the place of the training."""
    if os.environ["RANK"] == "0":
        signal.pause()
    raise TrainingError("/bases/one: cannot be loaded")


if __name__ == "__main__":
    setattr(tune, "tune", apart)  # noqa: B010
    cli.main()
