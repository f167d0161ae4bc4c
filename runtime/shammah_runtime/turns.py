"""One engine for many threads: each has its turn, and who would wait too long is sent on. Knows no model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError

from shammah_data.exchange import Tier
from shammah_runtime.proposal import LocalTier, Proposal, Query, declined

BUSY = "busy"


class OneAtATime:
    """A tier of the model that any number of threads may ask; its queries run on one thread, in the order in which they came.

    `ready(seconds)` waits at most so long for a model and says whether there is one, or the reason why there is none.
    """

    def __init__(
        self,
        tier: LocalTier,
        ready: Callable[[float], bool],
        wait_seconds: float,
        name: Tier = "neural",
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self._tier = tier
        self._name: Tier = name
        self._ready = ready
        self._wait_seconds = wait_seconds
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="engine")

    def beside(self, name: Tier, tier: LocalTier) -> "OneAtATime":
        """Another tier that asks the same engine, on the same thread."""
        return OneAtATime(tier, self._ready, self._wait_seconds, name, self._thread)

    def propose(self, query: Query) -> Proposal | None:
        """What the tier says; declined as busy where its turn does not begin in time."""
        if not self._ready(self._wait_seconds):
            return declined(self._name, f"{BUSY}: the model is being loaded")
        turn = self._thread.submit(self._tier.propose, query)
        try:
            return turn.result(self._wait_seconds)
        except TimeoutError:
            # One that has begun cannot be cancelled, and is waited for.
            return declined(self._name, BUSY) if turn.cancel() else turn.result()

    def close(self) -> None:
        """Wait for the query under way."""
        self._thread.shutdown()
