"""The model store: immutable version folders and the one pointer to the version that serves.

A reader sees the old version or the new one, never a mix. Only this module writes the pointer, under a lock, and only
when it still is what the writer last saw. Knows files and digests, not what a model does.
"""

import contextlib
import json
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from shammah_data.durable import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    atomic_write,
    fsync_file,
    fsync_folder,
    plain,
    private_folder,
    sha256,
)
from shammah_data.errors import ArtifactError
from shammah_data.leases import Lease, leased
from shammah_data.manifest import NAME, WEIGHTS, FileEntry, Manifest
from shammah_data.verification import Verification

_VERSION = re.compile(r"v\d{4,}")
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Pointer:
    """Which versions serve. `candidate_share` is the share of queries, from 0 to 1, that the candidate gets.

    `candidate_since`: when its trial began, in ISO format, UTC where it names no zone. `pinned`: the champion stays until
    somebody says otherwise.
    """

    champion: str | None = None
    previous: str | None = None
    candidate: str | None = None
    candidate_share: float = 0.0
    # Not compared: it says nothing of what serves.
    candidate_since: str | None = field(default=None, compare=False)
    pinned: bool = False


class ModelStore:
    """The versions below one folder."""

    def __init__(self, root: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._root = root
        self._pointer = root / "pointer.json"
        self._clock = clock
        self._ahead: tuple[str, Verification] | None = None

    @property
    def root(self) -> Path:
        """The folder of all versions."""
        return self._root

    def pointer(self) -> Pointer:
        """What the pointer says; an absent one names nothing.

        Raises ArtifactError when it cannot be understood.
        """
        try:
            raw = json.loads(plain(self._pointer).read_text(encoding="utf-8"))
            pointer = Pointer(**raw)
            for name in (pointer.champion, pointer.previous, pointer.candidate):
                if name is not None and not _VERSION.fullmatch(name):
                    raise ValueError(f"{name!r} is not a version name")
            if not 0.0 <= pointer.candidate_share <= 1.0:
                raise ValueError(f"candidate_share {pointer.candidate_share} is not a share")
            if pointer.candidate_since is not None:
                datetime.fromisoformat(pointer.candidate_since)
            return pointer
        except FileNotFoundError:
            return Pointer()
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ArtifactError(
                f"{self._pointer}: cannot be read ({error}): run `shammah-train promote VERSION` to write it anew"
            ) from error

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the pointer is replaced; costs one stat call."""
        try:
            status = self._pointer.stat()
        except OSError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def versions(self) -> list[str]:
        """Every published version, oldest first."""
        if not self._root.is_dir():
            return []
        return sorted(
            (entry.name for entry in self._root.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()),
            key=lambda name: int(name[1:]),
        )

    def folder(self, version: str) -> Path:
        """The folder of a version, which need not exist."""
        if not _VERSION.fullmatch(version):
            raise ArtifactError(f"{version!r} is not a version name such as v0001")
        return self._root / version

    def staging(self) -> Path:
        """A new private folder to put a version together in; `sweep` removes what a killed run left."""
        folder = private_folder(self._root) / f".staging-{uuid.uuid4().hex}"
        return private_folder(folder)

    def publish(self, staging: Path, describe: Callable[[str, tuple[FileEntry, ...]], Manifest]) -> str:
        """Turn a staging folder into the next version: digests, manifest, fsync, rename, fsync of the parent.

        `describe` gets the version's name and its files and returns the manifest. The pointer is not touched. Returns the
        name. Raises ArtifactError when the store is locked or the staging folder holds something not a plain file.
        """
        with self._lock():
            existing = self.versions()
            name = f"v{int(existing[-1][1:]) + 1 if existing else 1:04d}"
            entries = []
            for path in sorted(staging.rglob("*")):
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    path.chmod(PRIVATE_FOLDER)
                    continue
                if not stat.S_ISREG(mode):
                    raise ArtifactError(f"{path}: not a plain file; a version holds real files only")
                path.chmod(PRIVATE_FILE)
                fsync_file(path)
                entries.append(FileEntry(path.relative_to(staging).as_posix(), path.stat().st_size, sha256(path)))
            atomic_write(staging / NAME, describe(name, tuple(entries)).dump())
            for folder in {path.parent for path in staging.rglob("*")}:
                fsync_folder(folder)
            staging.rename(self._root / name)
            fsync_folder(self._root)
        return name

    def amend(self, version: str, change: Callable[[Path, Manifest], Manifest]) -> None:
        """Replace the manifest of a version by what `change` makes of its folder and its manifest, atomically.

        For what must not wait for a new version: to take out what is to be forgotten. Raises ArtifactError.
        """
        with self._lock():
            folder = self.folder(version)
            atomic_write(folder / NAME, change(folder, Manifest.load(folder)).dump())

    def verify_ahead(self) -> None:
        """Begin to verify the champion; the next `verification`, if it is of that one, takes what is found."""
        try:
            champion = self.pointer().champion
        except ArtifactError:
            # Who asks for it is told.
            return
        if champion is not None:
            self._ahead = champion, Verification(self._verified(champion))

    def verification(self, version: str) -> Verification:
        """Begin to verify a version on a thread of its own, or take up what was begun."""
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead and ahead[0] == version else Verification(self._verified(version))

    def verify(self, version: str) -> Manifest:
        """Check every listed byte of a version and return its manifest.

        Raises ArtifactError naming the first file that is missing, not a plain file, or not what was published.
        """
        return self.verification(version).whole()

    def _verified(self, version: str) -> Iterator[Manifest]:
        """Give the manifest once everything but the weights is verified, and again when they are, too."""
        folder = self.folder(version)
        if folder.is_symlink() or (folder / NAME).is_symlink():
            raise ArtifactError(f"{folder}: not a plain folder: run `shammah-train rollback` or retrain")
        if not folder.exists():
            raise ArtifactError(f"there is no version {version}: `shammah-train versions` lists those that there are")
        manifest = Manifest.load(folder)
        # By this name it is opened, refused and leased.
        if manifest.version != version:
            raise ArtifactError(
                f"{folder}: its manifest is that of {manifest.version}: run `shammah-train rollback` or retrain"
            )
        for entry in manifest.files:
            path = folder / entry.path
            try:
                status = path.lstat()
            except OSError as error:
                raise ArtifactError(f"{path}: missing: run `shammah-train rollback` or retrain") from error
            inside = path.relative_to(folder).parents
            if not stat.S_ISREG(status.st_mode) or any((folder / part).is_symlink() for part in inside):
                raise ArtifactError(f"{path}: not a plain file: run `shammah-train rollback` or retrain")
            if status.st_size != entry.bytes:
                raise ArtifactError(f"{path}: not the bytes that were published: run `shammah-train rollback` or retrain")
        for weights in (False, True):
            for entry in manifest.files:
                path = folder / entry.path
                if (path.name == WEIGHTS) is weights and _digest(path) != entry.sha256:
                    raise ArtifactError(f"{path}: not the bytes that were published: run `shammah-train rollback` or retrain")
            yield manifest

    def promote(self, version: str, expected: Pointer | None = None) -> Pointer:
        """Make a verified version the champion; the champion so far becomes `previous`.

        With `expected`, only if the pointer still is that. Raises ArtifactError otherwise, when the version is bad, and
        while another one is pinned.
        """
        self.verify(version)
        return self._replace(lambda now: self._promoted(now, version), expected)

    def pin(self, version: str) -> Pointer:
        """Make a verified version the champion that only `unpin` and another `pin` make replaceable. Raises ArtifactError."""
        self.verify(version)
        return self._replace(lambda now: replace(self._promoted(replace(now, pinned=False), version), pinned=True), None)

    def unpin(self) -> Pointer:
        """Let the champion be replaced again. Raises ArtifactError when the pointer cannot be read."""
        self.pointer()  # one that cannot be read is promote's to write anew
        return self._replace(lambda now: replace(now, pinned=False), None)

    def _promoted(self, now: Pointer, version: str) -> Pointer:
        if now.champion == version:
            return now
        _unpinned(now)
        if not self.folder(version).is_dir():  # deleted by a `collect` since it was verified
            raise ArtifactError(f"{version} is gone: promote another version or retrain")
        return Pointer(champion=version, previous=now.champion)

    def rollback(self, expected: Pointer | None = None) -> Pointer:
        """Make the previous version the champion again.

        With `expected`, only if the pointer still is that. Raises ArtifactError otherwise, when there is none, when it is
        damaged, and while the champion is pinned.
        """
        now = self.pointer()
        _unpinned(now)
        if now.previous is None:
            raise ArtifactError("there is no previous version to return to")
        self.verify(now.previous)

        def change(was: Pointer) -> Pointer:
            back = replace(was, champion=was.previous, previous=was.champion)
            return _untried(back) if back.candidate == back.champion else back

        return self._replace(change, expected or now)

    def set_candidate(self, version: str, share: float, expected: Pointer | None = None) -> Pointer:
        """Try a verified version on a share of the queries, above 0 and up to 1, beside the champion.

        With `expected`, only if the pointer still is that. Raises ArtifactError otherwise, when the version is bad or the
        champion itself, and where there is no champion that it could be compared with.
        """
        if not 0.0 < share <= 1.0:
            raise ArtifactError(f"candidate_share {share} is not a share above 0 and up to 1")
        self.verify(version)

        def change(now: Pointer) -> Pointer:
            if now.champion is None:
                raise ArtifactError(f"there is no champion to try {version} beside: promote it")
            if now.champion == version:
                raise ArtifactError(f"{version} is the champion: there is nothing to try")
            if not self.folder(version).is_dir():  # deleted by a `collect` since it was verified
                raise ArtifactError(f"{version} is gone: try another version or retrain")
            since = now.candidate_since if now.candidate == version else self._clock().isoformat(timespec="seconds")
            return replace(now, candidate=version, candidate_share=share, candidate_since=since)

        return self._replace(change, expected)

    def clear_candidate(self, expected: Pointer | None = None) -> Pointer:
        """Try no version any longer. With `expected`, only if the pointer still is that; raises ArtifactError otherwise."""
        self.pointer()  # one that cannot be read is promote's to write anew
        return self._replace(_untried, expected)

    def discard(self, doomed: Sequence[str]) -> list[str]:
        """Delete these versions, but never the champion; a pointer that names one names none. Returns what was deleted."""

        def change(now: Pointer) -> Pointer:
            gone = set(doomed) - {now.champion}
            left = _untried(now) if now.candidate in gone else now
            return replace(left, previous=None) if now.previous in gone else left

        champion = self._replace(change, None).champion
        with self._lock():
            present = [name for name in doomed if name != champion and self.folder(name).is_dir()]
            for name in present:
                self._delete(name)
        return present

    def _delete(self, name: str) -> None:
        # Renamed first: a reader never meets a version that is half deleted.
        grave = self._root / f".deleted-{uuid.uuid4().hex}"
        (self._root / name).rename(grave)
        shutil.rmtree(grave)

    def lease(self, version: str) -> Lease:
        """Say that this process uses a version, which `collect` then keeps; ends with `release` or with the process."""
        self.folder(version)
        return Lease(private_folder(self._root), version)

    def in_use(self) -> set[str]:
        """The versions that a living process has leased."""
        return leased(self._root)

    def collect(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` versions; never one that the pointer names or a process uses.

        Returns what was deleted. Raises ArtifactError.
        """
        with self._lock():
            pointer = self.pointer()
            kept = {pointer.champion, pointer.previous, pointer.candidate} | self.in_use()
            versions = self.versions()
            doomed = [name for name in versions[: max(0, len(versions) - keep)] if name not in kept]
            for name in doomed:
                self._delete(name)
            self._sweep_leftovers()
        return doomed

    def sweep(self) -> None:
        """Delete what killed processes left half made or half deleted; nobody else may be putting a version together.

        Raises ArtifactError.
        """
        with self._lock():
            self._sweep_leftovers()

    def _sweep_leftovers(self) -> None:
        # The last is of earlier releases, which kept weights there as one machine's kernels read them.
        for pattern in (".staging-*", ".deleted-*", ".packed"):
            for leftover in self._root.glob(pattern):
                shutil.rmtree(leftover)
        for leftover in self._root.glob(f".{self._pointer.name}.*"):
            leftover.unlink()

    def _replace(self, change: Callable[[Pointer], Pointer], expected: Pointer | None) -> Pointer:
        with self._lock():
            now = self._readable_pointer()
            if expected is not None and now != expected:
                raise ArtifactError(f"the pointer moved meanwhile (champion is now {now.champion}): try again")
            new = change(now)
            if new != now or not self._pointer.exists():
                atomic_write(self._pointer, json.dumps(asdict(new)).encode())
        return new

    def _readable_pointer(self) -> Pointer:
        try:
            return self.pointer()
        except ArtifactError:
            return Pointer()  # promote is the stated cure for an unreadable pointer

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        private_folder(self._root)
        lock = FileLock(self._root / ".lock", timeout=_LOCK_SECONDS, mode=PRIVATE_FILE)
        try:
            lock.acquire()
        except Timeout as error:
            raise ArtifactError(f"{self._root}: another process is publishing; try again in a moment") from error
        try:
            yield
        finally:
            lock.release()


def _untried(pointer: Pointer) -> Pointer:
    return replace(pointer, candidate=None, candidate_share=0.0, candidate_since=None)


def _unpinned(pointer: Pointer) -> None:
    if pointer.pinned:
        raise ArtifactError(f"{pointer.champion} is pinned: run `shammah-train unpin` first")


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error}): run `shammah-train rollback` or retrain") from error
