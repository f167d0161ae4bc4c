"""The first query and a model that still loads: to wait for it or to ask the next tier. Knows no model and no clock."""

from collections.abc import Callable

from shammah_runtime.proposal import STOPPED, LocalTier, Proposal, Query, declined
from shammah_runtime.stopping import Stop

_LOOK_SECONDS = 0.02
LOADING = "the model is still loading (serve.first_query)"


class WhenLoaded:
    """A tier whose model may still be loading; `ready(seconds)` waits at most so long for it and says whether it is settled."""

    def __init__(
        self,
        tier: LocalTier,
        ready: Callable[[float], bool],
        patient: Callable[[Query], bool],
        otherwise: Proposal | None,
    ) -> None:
        """`patient(query)`: whether a query waits; `otherwise`: what is said of one that does not."""
        self._tier = tier
        self._ready = ready
        self._patient = patient
        self._otherwise = otherwise

    def propose(self, query: Query) -> Proposal | None:
        """What the tier says once it can, or what is said instead."""
        if not self._ready(0.0) and not self._patient(query):
            return self._otherwise
        if not until(self._ready, query.stop):
            return declined("neural", STOPPED)
        return self._tier.propose(query)


def until(ready: Callable[[float], bool], stop: Stop) -> bool:
    """Wait for something; False where it is no longer wanted first."""
    while not ready(_LOOK_SECONDS):
        if stop.asked():
            return False
    return True
