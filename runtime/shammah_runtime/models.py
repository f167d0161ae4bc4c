"""Which model version serves: loading in the background, swapping between two queries. Knows the store, no tiers."""

import queue
import threading
from collections.abc import Callable

from shammah_data.errors import ShammahError
from shammah_data.settings import Provider
from shammah_data.store import ModelStore
from shammah_runtime.engine.model import Model, open_model


class ModelKeeper:
    """Keeps the champion of a store loaded.

    A new version is verified, loaded and self-tested on a thread of its own while the old one serves; `current` swaps.
    A version that fails is refused, with a note, and the one before goes on serving.
    """

    def __init__(
        self,
        store: ModelStore,
        provider: Provider,
        threads: int,
        opener: Callable[..., Model] = open_model,
        poll_seconds: float = 0.5,
    ) -> None:
        self._store = store
        self._provider = provider
        self._threads = threads
        self._opener = opener
        self._poll_seconds = poll_seconds
        self._serving: Model | None = None
        self._loaded: Model | None = None
        self._reason = "no model has been trained yet: run shammah-train"
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._first = threading.Event()
        self._came_later = False
        self._stop = threading.Event()
        self._stamp = (0, 0)
        self._thread: threading.Thread | None = None

    def start(self, watch: bool = True) -> None:
        """Begin to load; with `watch`, go on looking for new versions until `close`."""
        self._thread = threading.Thread(target=self._run, args=(watch,), name="model-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5.0)

    def current(self) -> Model | None:
        """The version for the next query, or None; waits only while the very first one is loading."""
        self._first.wait()
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            if self._serving is not None:
                self._notes.put(f"now answering with {loaded.description}, before with {self._serving.manifest.version}")
            elif self._came_later:
                self._notes.put(f"now answering with {loaded.description}, the first version")
            self._serving = loaded
        return self._serving

    def wait(self) -> None:
        """Return once the first version has been loaded or refused."""
        self._first.wait()

    @property
    def reason(self) -> str:
        """Why there is no model."""
        return self._reason

    def notes(self) -> list[str]:
        """What happened since the last call that the user should know."""
        found = []
        while not self._notes.empty():
            found.append(self._notes.get())
        return found

    def _run(self, watch: bool) -> None:
        while True:
            stamp = self._store.stamp()
            if stamp != self._stamp or not self._first.is_set():
                self._stamp = stamp
                self._load()
                self._first.set()
            if not watch or self._stop.wait(self._poll_seconds):
                return

    def _load(self) -> None:
        serving = self._loaded or self._serving
        serving_version = serving.manifest.version if serving else None
        try:
            pointer = self._store.pointer()
        except ShammahError as error:
            self._refuse(str(error), serving_version)
            return
        for version in (pointer.champion, None if serving else pointer.previous):
            if version is None or version == serving_version:
                continue
            try:
                manifest = self._store.verify(version)
                self._loaded = self._opener(self._store.folder(version), manifest, self._provider, self._threads)
            except ShammahError as error:
                self._refuse(f"{version} is refused: {error}", serving_version)
            except Exception as error:  # noqa: BLE001 - whatever a version does, queries must not wait for it for ever
                self._refuse(f"{version} is refused: {type(error).__name__}: {error}", serving_version)
            else:
                self._came_later = self._first.is_set()
                if version != pointer.champion:
                    self._notes.put(f"answering with {version}, the one before, instead")
                return

    def _refuse(self, reason: str, serving_version: str | None) -> None:
        self._reason = reason
        self._notes.put(f"{reason} ({serving_version} goes on answering)" if serving_version else reason)
