"""The check of a version's bytes, on a thread of its own. Knows no files: what is checked in which order it is given."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

from shammah_data.manifest import Manifest


class Verification:
    """A version that is being verified on a thread of its own. `parts`: the manifest, once for each part that is done."""

    def __init__(self, parts: Iterator[Manifest]) -> None:
        self._parts = parts
        self._first: Future[Manifest] = Future()
        self._second: Future[Manifest] = Future()
        threading.Thread(target=self._run, name="verification", daemon=True).start()

    def manifest(self) -> Manifest:
        """The manifest, as soon as all is verified that may be read before the weights are.

        They are numbers, which nothing follows: whoever goes ahead gives nothing away before `whole` has returned. Raises
        ArtifactError as `ModelStore.verify` does.
        """
        return self._first.result()

    def whole(self) -> Manifest:
        """The manifest, when every byte is verified. Raises ArtifactError as `ModelStore.verify` does."""
        return self._second.result()

    def _run(self) -> None:
        for future in (self._first, self._second):
            try:
                future.set_result(next(self._parts))
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                for left in (self._first, self._second):
                    if not left.done():
                        left.set_exception(error)
                return
