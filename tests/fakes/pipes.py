"""What hangs a reader that takes it for a file: a pipe, here one that ends as soon as anybody has opened it."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def pipe(path: Path) -> Iterator[None]:
    """A pipe in the place of a file, which whoever opens it finds empty instead of waiting for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)))
    writer.start()
    try:
        yield
    finally:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(reader)
