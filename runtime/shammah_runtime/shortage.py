"""Which versions found too little memory, and from how much on each is tried again. Knows bytes, no engines."""

from shammah_data.errors import ShammahError
from shammah_data.manifest import Manifest
from shammah_runtime.engine import memory
from shammah_runtime.engine.choice import Wanted, choices


def fits_beside(manifest: Manifest, wanted: Wanted, cuda: bool, room: int | None, alone: int | None) -> bool:
    """Whether a version has room beside the engines that are loaded, in so many bytes; None where nobody knows.

    By the graph that is best `alone`, with the bytes of those engines, not by a lesser one that has room beside what is about
    to leave; on CUDA the memory is another one. Raises ArtifactError where no graph would do alone.
    """
    if room is None:
        return True
    best = choices(manifest, wanted, cuda, alone)[0].graph
    return best.provider != "cpu" or memory.needed(manifest, best) <= room


class Shortage:
    """What is refused for want of memory is refused no longer than that lasts: a night ends, another program does."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._enough: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._enough)

    def note(self, manifest: Manifest | None, told: int | None, found: int | None) -> None:
        """A version failed that was told of so many bytes, with those of the engines that make room, and found so many.

        Where nobody knows them (None), or they were enough for one of its graphs, something else was the matter.
        """
        if manifest is None or told is None or found is None:
            return
        try:
            graphs = [choice.graph for choice in choices(manifest, self._wanted, cuda=False)]
        except ShammahError:
            return
        least = min(memory.needed(manifest, graph) for graph in graphs)
        if found < least:
            self._enough[manifest.version] = told + least - found

    def over(self, room: int | None) -> set[str]:
        """All versions to try again, once there is enough for one of them: another may only have made way for it."""
        if not any(room is None or room >= enough for enough in self._enough.values()):
            return set()
        found = set(self._enough)
        self._enough.clear()
        return found

    def clear(self) -> None:
        """Forget all: every version is tried again."""
        self._enough.clear()
