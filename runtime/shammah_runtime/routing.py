"""Which questions go where, as the settings say. Pure; knows patterns and texts, no tiers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from unicodedata import normalize

from shammah_data.exchange import Message
from shammah_data.settings import RoutingSection

# What nobody sees in a word: a place to hyphenate it, joiners, marks of direction, a byte order mark.
_UNSEEN = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True)
class Routing:
    """`never_local` questions are forwarded; `always_local` ones, and what is said of them later, stay here."""

    never_local: tuple[re.Pattern[str], ...] = ()
    always_local: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, section: RoutingSection) -> Self:
        """As the settings say; their patterns have been checked."""

        def compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
            return tuple(re.compile(normalize("NFC", pattern), re.IGNORECASE) for pattern in patterns)

        return cls(compiled(section.never_local), compiled(section.always_local))

    def not_local(self, text: str) -> str | None:
        """Why no local tier is asked, or None."""
        if (found := _match(self.never_local, text)) and _match(self.always_local, text) is None:
            return f"forwarded: routing.never_local has {found!r}"
        return None

    def only_local(self, text: str) -> str | None:
        """Why the teacher is not asked, or None."""
        found = _match(self.always_local, text)
        return f"it stays here: routing.always_local has {found!r}" if found else None

    def keeps(self, text: str, context: Sequence[Message]) -> bool:
        """Whether the question or a turn before it must stay here."""
        return any(self.only_local(each) for each in (text, *(turn.content for turn in context)))

    def may_leave(self, context: Sequence[Message]) -> list[Message]:
        """The earlier exchanges, question and answer together, that may be sent to the teacher."""
        kept: list[Message] = []
        stays = False
        for n, turn in enumerate(context):
            if turn.role == "user":
                following = context[n + 1 : n + 2]
                stays = any(self.only_local(each.content) for each in (turn, *following))
            if not stays:
                kept.append(turn)
        return kept


def _match(patterns: Sequence[re.Pattern[str]], text: str) -> str | None:
    """The first pattern that is in a text as it is written or as it is read: copies bring ligatures and line ends along."""
    if not patterns:
        return None
    read = " ".join(_UNSEEN.sub("", normalize("NFKC", text)).split())
    return next((one.pattern for one in patterns if any(map(one.search, (text, normalize("NFC", text), read)))), None)
