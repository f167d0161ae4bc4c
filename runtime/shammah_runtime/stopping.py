"""Asked for by whoever no longer wants an answer, seen by whoever makes it. Knows threads, no answers."""

import threading


class Stop:
    """A wish that may be told from any thread, once; what is under way looks for it."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Say that the answer is no longer wanted; a second time is no error."""
        self._asked.set()

    def asked(self) -> bool:
        """Whether it is."""
        return self._asked.is_set()


NEVER = Stop()
