"""Tiers that need what was learned, which is still being read when a session begins. Knows no index."""

import threading

from shammah_runtime.loading import until
from shammah_runtime.proposal import STOPPED, LocalTier, Proposal, Query, declined
from shammah_runtime.verified import VerifiedTier


class LookedUp:
    """The neural tier, before which earlier answers are looked for: once for this tier and the next."""

    def __init__(self, tier: LocalTier, verified: VerifiedTier, filled: threading.Event) -> None:
        self._tier = tier
        self._verified = verified
        self._filled = filled

    def propose(self, query: Query) -> Proposal | None:
        """What the tier says, which then knows of earlier answers."""
        if not until(self._filled.wait, query.stop):
            return declined("neural", STOPPED)
        self._verified.look(query)
        return self._tier.propose(query)


class WhenFilled:
    """A tier that waits until its index has been read."""

    def __init__(self, tier: LocalTier, filled: threading.Event) -> None:
        self._tier = tier
        self._filled = filled

    def propose(self, query: Query) -> Proposal | None:
        """What the tier says, once it can."""
        if not until(self._filled.wait, query.stop):
            return declined("learned", STOPPED)
        return self._tier.propose(query)
