"""Which cached sequence a prompt can go on from. Knows caches and ids, no text and no sampling."""

from collections.abc import Sequence

from shammah_runtime.engine.session import GraphSession, KVCache, common

# Conversations whose keys and values are kept at once, and the most memory for all of them, unless one alone takes more.
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
        self._measure()
        best, shared = None, 0
        for cache in self._caches:
            found = min(common(cache.ids, prompt_ids), len(prompt_ids) - 1)
            if best is None or found >= shared:
                best, shared = cache, found
        if best is not None and best.length - shared <= _WORTH_COPYING:
            chosen = best
            self._let_go(max(0, len(prompt_ids) - self._reached[id(best)]), best)
        else:
            chosen = self._another(len(prompt_ids))
            if best is not None and chosen is not best and shared >= _WORTH_COPYING:
                chosen.copy_from(best, shared)
        chosen.rewind(min(chosen.length, common(chosen.ids, prompt_ids), len(prompt_ids) - 1))
        self._caches.remove(chosen)
        self._caches.append(chosen)
        return chosen

    def settle(self) -> None:
        """Keep to the bound after an answer, whose length nobody knew; the sequence used last stays, however long it is."""
        self._measure()
        self._let_go(0, self._caches[-1])

    def _measure(self) -> None:
        """Note how far each cache has been filled: one that is rewound keeps its memory."""
        for cache in self._caches:
            self._reached[id(cache)] = max(self._reached[id(cache)], cache.length)

    def _another(self, tokens: int) -> KVCache:
        """An unused cache, or the one that was not used for longest, with room for so many tokens."""
        self._let_go(tokens)
        if len(self._caches) == _MOST_CACHES:
            return self._caches[0]
        self._caches.append(self._session.new_cache())
        self._reached[id(self._caches[-1])] = 0
        return self._caches[-1]

    def _let_go(self, more: int, but: KVCache | None = None) -> None:
        """Give up caches, those not used for longest first, until there is room for so many more tokens."""
        for cache in [cache for cache in self._caches if cache is not but]:
            if self._token_bytes * (sum(self._reached.values()) + more) <= _MOST_BYTES:
                return
            self._caches.remove(cache)
            del self._reached[id(cache)]
