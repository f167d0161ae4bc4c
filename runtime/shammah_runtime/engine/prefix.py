"""Which cached sequence a prompt can go on from. Knows caches and ids, no text and no sampling."""

from collections.abc import Sequence

from shammah_runtime.engine.session import GraphSession, KVCache, common

# Conversations whose keys and values are kept at once, and the most memory for all of them.
_MOST_CACHES = 4
_MOST_BYTES = 96 * 2**20
# Fewer shared tokens than these are sooner read again than copied.
_WORTH_COPYING = 16


class PrefixCache:
    """The latest sequences of one session, so that what two prompts share is never prefilled twice.

    It lives and dies with its session: nothing of one version reaches another, and nothing is written to disk.
    """

    def __init__(self, session: GraphSession) -> None:
        self._session = session
        self._token_bytes = session.token_bytes
        # The one used last comes last.
        self._caches: list[KVCache] = []
        self._reached: dict[int, int] = {}

    def take(self, prompt_ids: Sequence[int]) -> KVCache:
        """A cache that holds a prefix of the prompt, the longest known one, and never all of it: the last token is to be fed.

        The tokens behind the prefix are forgotten, or stay in another cache where there is room for one more.
        """
        best, shared = None, 0
        for cache in self._caches:
            self._reached[id(cache)] = max(self._reached[id(cache)], cache.length)
            found = min(common(cache.ids, prompt_ids), len(prompt_ids) - 1)
            if best is None or found >= shared:
                best, shared = cache, found
        goes_on = best is not None and best.length - shared <= _WORTH_COPYING
        if best is not None and not goes_on:
            chosen = self._another()
            if chosen is not best and shared >= _WORTH_COPYING:
                chosen.copy_from(best, shared)
        else:
            chosen = best if best is not None else self._another()
        chosen.rewind(min(chosen.length, common(chosen.ids, prompt_ids), len(prompt_ids) - 1))
        self._caches.remove(chosen)
        self._caches.append(chosen)
        return chosen

    def _another(self) -> KVCache:
        """An unused cache, or the one that was not used for longest."""
        if len(self._caches) < _MOST_CACHES and self._token_bytes * sum(self._reached.values()) < _MOST_BYTES:
            self._caches.append(self._session.new_cache())
            self._reached[id(self._caches[-1])] = 0
            return self._caches[-1]
        oldest = self._caches[0]
        if self._token_bytes * sum(self._reached.values()) >= _MOST_BYTES:
            # Its memory goes back; a cache that is only rewound keeps it.
            self._caches.remove(oldest)
            del self._reached[id(oldest)]
            return self._another()
        return oldest
