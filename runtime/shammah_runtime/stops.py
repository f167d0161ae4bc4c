"""Stop strings: text goes through, up to the first of them. Knows text only."""

from collections.abc import Sequence


class StopStrings:
    """Shows text up to the stop string that is complete first; of two that end together the longer one counts, and is `found`.

    What may still become a stop string is held back, so that no part of one is ever shown. The result does not depend on how
    the text is divided.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.stopped = False
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """The text that may be shown now; nothing more once `stopped`."""
        if self.stopped or not self._stops:
            return "" if self.stopped else piece
        shown = []
        for character in piece:
            self._held += character
            ended = [stop for stop in self._stops if self._held.endswith(stop)]
            if ended:
                self.stopped = True
                self.found = max(ended, key=len)
                shown.append(self._held[: len(self._held) - len(self.found)])
                self._held = ""
                break
            free = len(self._held) - self._open()
            shown.append(self._held[:free])
            self._held = self._held[free:]
        return "".join(shown)

    def close(self) -> str:
        """What was held back in vain."""
        rest, self._held = self._held, ""
        return rest

    def _open(self) -> int:
        """Characters at the end that a stop string may begin with."""
        for size in range(min(len(self._held), self._longest - 1), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0


def cut(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """A text up to the first stop string in it, and which one that is."""
    through = StopStrings(stops)
    return through.push(text) + through.close(), through.found
