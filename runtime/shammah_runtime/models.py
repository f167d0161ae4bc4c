"""Which model version serves: loading in the background, swapping between two queries. Knows the store, no tiers."""

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Literal

from shammah_data.errors import ShammahError
from shammah_data.manifest import Manifest
from shammah_data.store import ModelStore, Pointer
from shammah_runtime.engine import memory
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.model import Model, cuda_usable, open_model
from shammah_runtime.engine.session import import_onnxruntime
from shammah_runtime.shortage import Shortage, fits_beside
from shammah_runtime.trial import falls_to, has_turn, part

_LEAVING_SECONDS = 0.02


class ModelKeeper:
    """Keeps the champion of a store loaded, and the candidate where there is one.

    A new version is verified, loaded and self-tested on a thread of its own while the old one serves; the next query gets it,
    and one under way is answered by the version that it began with or by none. A version that fails is refused, with a note,
    and never serves.

    A candidate gets its share of the sessions, chosen by a hash, where memory allows two engines: a conversation is with one
    version. Where it does not, it has the first part of every ten minutes to itself; then, as for a new champion that does
    not fit beside the old one, the one engine is closed before the other is loaded, and queries wait for it. Once there is
    memory for both, the other one is loaded beside that which serves.
    """

    def __init__(
        self,
        store: ModelStore,
        wanted: Wanted,
        opener: Callable[..., Model] = open_model,
        poll_seconds: float = 0.5,
        session: str = "",
        available: Callable[[], int | None] = memory.available,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`session`: whose query it is where `start` is told that there is only one.

        `available` gives the bytes of memory that can still be taken, or None; `clock` gives seconds, the same to all.
        """
        self._store = store
        self._wanted = wanted
        self._opener = opener
        self._poll_seconds = poll_seconds
        self._session = session
        self._available = available
        self._clock = clock
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reason = "no model has been trained yet: run shammah-train"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # Guards what a query reads; only the thread that looks writes.
        self._changed = threading.Condition()
        self._loaded: dict[str, Model] = {}
        self._serving: str | None = None
        self._trial: str | None = None
        self._compared: str | None = None
        # What is to be asked beside a champion that has yet to prove itself; said from any thread.
        self._wanted_beside: str | None = None
        self._no_room_for: str | None = None
        self._settled = False
        # What only the thread that looks knows.
        self._stamp: tuple[int, int] | None = None
        self._pointer = Pointer()
        self._refused: set[str] = set()
        self._short = Shortage(wanted)
        self._said: dict[str, str] = {}
        self._one_query = False
        self._in_turns = False
        # For which there was no room together: the two that take turns, or what audits are to ask beside the champion.
        self._apart: dict[str, Manifest] = {}
        self._leaving: list[weakref.ref[Model]] = []
        self._untidy = False

    def start(self, watch: bool = True) -> None:
        """Begin to load; with `watch`, go on looking for new versions until `close`, else load the one for one query."""
        self._one_query = not watch
        self._thread = threading.Thread(target=self._run, args=(watch,), name="model-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=10.0)

    def current(self, session: str = "") -> Model | None:
        """The version for the next query of a session, or None.

        Waits while the first one loads, or no two fit into memory at once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._settled)
            if self._trial is not None and falls_to(self._trial, session, self._pointer.candidate_share):
                return self._loaded[self._trial]
            return self._loaded.get(self._serving) if self._serving else None

    def rival(self, version: str) -> Model | None:
        """The other one of two versions that are loaded to be compared: what would it have answered? None without another."""
        with self._changed:
            self._changed.wait_for(lambda: self._settled)
            pair = {self._serving, self._trial or self._compared}
            other = pair - {version}
            return self._loaded.get(str(other.pop())) if version in pair and len(other) == 1 else None

    def compare_with(self, version: str | None) -> None:
        """Have this version loaded beside the champion where memory allows, to be asked by audits; None: no longer."""
        self._wanted_beside = version

    def compared(self) -> str | None:
        """What audits ask beside the champion, or why they do not, or None."""
        wanted = self._wanted_beside
        if wanted is None or self._candidate() is not None:
            return None
        if self._compared == wanted:
            return f"{wanted}, which audits ask too until {self._serving} has proved itself"
        if self._no_room_for == wanted:
            return f"no memory for {wanted}: audits ask {self._serving} alone, and need more answers to tell which is better"
        return None

    def serving(self) -> Model | None:
        """The version that serves, for those who only want to know; waits as `current` does."""
        with self._changed:
            self._changed.wait_for(lambda: self._settled)
            return self._loaded.get(self._serving) if self._serving else None

    def wait(self, seconds: float | None = None) -> bool:
        """Return once the first version has been loaded or refused, or after so long; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled, seconds)

    @property
    def reason(self) -> str:
        """Why there is no model."""
        return self._reason

    def trial(self) -> str | None:
        """What is being tried and on what, or None."""
        candidate = self._candidate()
        if candidate is None:
            return None
        model = self._loaded.get(candidate)
        return f"{model.description if model else candidate} {self._part()}"

    def note(self, text: str) -> None:
        """Something that users should read before their next question."""
        self._notes.put(text)

    def notes(self) -> list[str]:
        """What happened since the last call that the user should know."""
        found = []
        while not self._notes.empty():
            found.append(self._notes.get())
        return found

    def look(self) -> None:
        """Follow the pointer, and the clock where two versions take turns; whatever a version does, this comes to an end."""
        stamp = self._store.stamp()
        first = self._stamp is None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._pointer = self._store.pointer()
                self._refused.clear()
                self._short.clear()
                self._in_turns, self._no_room_for = False, None
                self._apart.clear()
            except ShammahError as error:
                self._refuse("pointer", str(error))
        if self._short:
            self._refused -= self._short.over(self._alone(self._available()))
        if self._room_for_both():
            self._in_turns, self._no_room_for = False, None
        try:
            self._follow(first)
        finally:
            with self._changed:
                self._settled = True
                self._changed.notify_all()
        self._tidy()

    def _room_for_both(self) -> bool:
        both = {self._pointer.champion, self._pointer.candidate} if self._in_turns else {self._no_room_for}
        other = next((self._apart[version] for version in self._apart if version in both and version not in self._loaded), None)
        if other is None:
            return False
        room = self._available()
        try:
            return fits_beside(other, self._wanted, cuda_usable(), room, self._alone(room))
        except ShammahError:
            return False  # not even alone, as it is now

    def _run(self, watch: bool) -> None:
        while True:
            self.look()
            if not watch or self._stop.wait(self._poll_seconds):
                return

    # -- what should be loaded ----------------------------------------------------------------------------------------

    def _follow(self, first: bool) -> None:
        candidate = self._candidate()
        alone = self._one_query or self._in_turns
        target = candidate if candidate and alone and self._turn_of_candidate() else self._pointer.champion
        if target is not None and target != self._serving and target not in self._refused:
            before = self._serving
            if self._load(target, instead=True) == "loaded":
                with self._changed:
                    self._serving = target
                # Nor where the two have taken turns until now.
                if not (candidate and (alone or candidate == before)):
                    self._tell(target, before, first)
            elif target == candidate:
                self._follow(first)
                return
            elif self._serving is None:
                self._fall_back()
        if self._serving is None:
            return
        beside = None
        if candidate and not alone:
            new, serving = candidate not in self._loaded or candidate in self._apart, self._loaded[self._serving].manifest
            outcome = self._load(candidate, instead=False)
            if outcome == "no room":
                self._in_turns = True
                if serving.version not in self._apart:
                    self._notes.put(f"trying {candidate} {self._part()}: there is memory for one version at a time")
                self._apart[serving.version] = serving
                self._follow(first)
                return
            if outcome == "loaded":
                beside = candidate
                self._apart.clear()
                if new and not first:
                    self._notes.put(f"trying {self._loaded[candidate].description} {self._part()}")
        compared = self._beside_champion(candidate)
        with self._changed:
            self._trial = beside
            self._compared = compared
            self._part_with(set(self._loaded) - {self._serving, beside, compared})

    def _beside_champion(self, candidate: str | None) -> str | None:
        wanted = self._wanted_beside
        unwanted = wanted is None or candidate is not None or self._one_query or self._serving != self._pointer.champion
        if wanted is None or unwanted or wanted == self._serving or wanted in self._refused or wanted == self._no_room_for:
            return None
        outcome = self._load(wanted, instead=False)
        if outcome == "no room":
            self._no_room_for = wanted
        return wanted if outcome == "loaded" else None

    def _fall_back(self) -> None:
        previous = self._pointer.previous
        if previous is not None and previous not in self._refused and self._load(previous, instead=True) == "loaded":
            with self._changed:
                self._serving = previous
            self._notes.put(f"answering with {previous}, the one before, instead")

    def _tell(self, version: str, before: str | None, first: bool) -> None:
        now = f"now answering with {self._loaded[version].description}"
        if before is not None:
            self._notes.put(f"{now}, before with {before}")
        elif not first:
            self._notes.put(f"{now}, the first version")

    def _candidate(self) -> str | None:
        """The version to try, unless it was refused or there is nothing to compare it with."""
        pointer = self._pointer
        if pointer.candidate_share == 0.0 or pointer.champion in (None, pointer.candidate):
            return None
        return None if pointer.candidate in self._refused else pointer.candidate

    def _turn_of_candidate(self) -> bool:
        if self._one_query:
            return falls_to(str(self._pointer.candidate), self._session, self._pointer.candidate_share)
        return has_turn(self._clock(), self._pointer.candidate_share)

    def _part(self) -> str:
        return part(self._pointer.candidate_share, self._in_turns)

    # -- loading and leaving ------------------------------------------------------------------------------------------

    def _load(self, version: str, instead: bool) -> Literal["loaded", "refused", "no room"]:
        """Have a version loaded beside the others; where there is no memory for that, `instead` of them."""
        if version in self._loaded:
            return "loaded"
        manifest, alone = None, None
        try:
            # Needed in any case, and imported while the first version is verified.
            import_onnxruntime()
            verification = self._store.verification(version)
            manifest = verification.manifest()
            room = self._available()
            alone = self._alone(room)
            if self._loaded and not fits_beside(manifest, self._wanted, cuda_usable(), room, alone):
                verification.whole()
                if instead:
                    return self._load_instead(manifest, alone)
                self._apart[version] = manifest
                return "no room"
            # Its weights are verified meanwhile; until they are, it answers nobody.
            try:
                model = self._open(manifest, alone)
            finally:
                verification.whole()
        except Exception as error:  # noqa: BLE001 - whatever a version does, queries must not wait for it for ever
            self._refuse(version, _reason(error))
            self._short.note(manifest, alone, alone)
            return "refused"
        with self._changed:
            self._loaded[version] = model
        return "loaded"

    def _load_instead(self, manifest: Manifest, alone: int | None) -> Literal["loaded", "refused"]:
        """Close every engine once its last query has ended, then load; when that fails, load what served before."""
        with self._changed:
            self._settled = False
            serving = self._loaded[self._serving].manifest if self._serving else None
            self._part_with(set(self._loaded))
            self._trial = self._compared = None
        while self._leaving and not self._stop.is_set():
            self._tidy()
            self._stop.wait(_LEAVING_SECONDS)
        for wanted in (manifest, serving):
            if wanted is None or self._stop.is_set():
                continue
            room = self._available()
            try:
                model = self._open(wanted, room)
            except Exception as error:  # noqa: BLE001 - see _load
                self._refuse(wanted.version, _reason(error))
                self._short.note(wanted, alone if wanted is manifest else room, room)
                continue
            with self._changed:
                self._loaded[wanted.version] = model
            break
        if self._serving not in self._loaded:
            self._serving = None
        return "loaded" if manifest.version in self._loaded else "refused"

    def _alone(self, room: int | None) -> int | None:
        """The memory that there would be without the engines that are loaded."""
        return None if room is None else room + sum(memory.needed(one.manifest, one.graph) for one in self._loaded.values())

    def _open(self, manifest: Manifest, room: int | None) -> Model:
        try:
            lease = self._store.lease(manifest.version)
        except OSError:  # nobody deletes from a store that cannot be written to
            return self._opener(self._store.folder(manifest.version), manifest, self._wanted, room)
        try:
            model = self._opener(self._store.folder(manifest.version), manifest, self._wanted, room)
        except BaseException:
            lease.release()
            raise
        weakref.finalize(model, lease.release)
        return model

    def _part_with(self, versions: set[str]) -> None:
        """Give engines up; each is gone when the last query on it has ended."""
        for version in versions:
            self._leaving.append(weakref.ref(self._loaded.pop(version)))

    def _tidy(self) -> None:
        """Hand back the memory of engines that nobody uses any longer, and of what failed to load."""
        if not self._leaving and not self._untidy:
            return
        still = [engine for engine in self._leaving if engine() is not None]
        if still:
            # An error of the last query may hold on to its engine in a cycle.
            gc.collect()
            still = [engine for engine in still if engine() is not None]
        if len(still) < len(self._leaving) or self._untidy:
            memory.release()
        self._leaving, self._untidy = still, False

    def _refuse(self, version: str, reason: str) -> None:
        self._refused.add(version)
        self._untidy = True
        what = "candidate " if version == self._pointer.candidate else ""
        self._reason = reason if version == "pointer" else f"{what}{version} is refused: {reason}"
        if self._said.get(version) != self._reason:
            self._said[version] = self._reason
            self._notes.put(f"{self._reason} ({self._serving} goes on answering)" if self._serving else self._reason)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to load it"
    return str(error) if isinstance(error, ShammahError) else f"{type(error).__name__}: {error}"
