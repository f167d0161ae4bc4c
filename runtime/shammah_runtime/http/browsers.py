"""Browsers that are signed in, in memory only: who shows the name that was given out. Knows times and names, no request."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

SECONDS = 7 * 86400
# The oldest one is signed out when there would be more.
_MOST = 100


class Browsers:
    """Each has a random name, which its cookie holds, and a word, which its forms hold; neither tells the server's token."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By a digest of the name: how long a look-up takes tells nothing of the names.
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def enter(self) -> str:
        """The name of a browser that has shown the token."""
        name = secrets.token_urlsafe(32)
        self._known[_digest(name)] = (self._clock() + SECONDS, secrets.token_urlsafe(32))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return name

    def word(self, name: str) -> str | None:
        """What the forms of this browser hold; None for one that is not signed in, or no longer."""
        until, word = self._known.get(_digest(name), (0.0, ""))
        if word and self._clock() < until:
            return word
        self.leave(name)
        return None

    def leave(self, name: str) -> None:
        """Sign a browser out."""
        self._known.pop(_digest(name), None)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()
