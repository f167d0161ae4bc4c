"""Whose turn the engine is: a user's query at once, other work only while no query is under way. Knows no model."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shammah_runtime.proposal import LocalTier, Proposal, Query
from shammah_runtime.stopping import Stop


class Courtesy:
    """Work in the background gives way within one operator of the graph; it is begun again later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queries = 0
        self._spare: Stop | None = None

    @contextmanager
    def query(self) -> Iterator[None]:
        """A user waits for what is done here."""
        with self._changed:
            self._queries += 1
        try:
            with self._changed:
                if self._spare is not None:
                    self._spare.ask()
                self._changed.wait_for(lambda: self._spare is None)
            yield
        finally:
            with self._changed:
                self._queries -= 1

    @contextmanager
    def spare(self) -> Iterator[Stop | None]:
        """Nobody waits for what is done here: it heeds this wish to stop, and is not begun where it is None."""
        with self._changed:
            stop = None if self._queries or self._spare is not None else Stop()
            self._spare = stop or self._spare
        try:
            yield stop
        finally:
            if stop is not None:
                with self._changed:
                    self._spare = None
                    self._changed.notify_all()


class Courteous:
    """A tier for which other work on the engine gives way."""

    def __init__(self, tier: LocalTier, courtesy: Courtesy) -> None:
        self._tier = tier
        self._courtesy = courtesy

    def propose(self, query: Query) -> Proposal | None:
        """What the tier says."""
        with self._courtesy.query():
            return self._tier.propose(query)
