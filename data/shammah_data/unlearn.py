"""Takes forgotten exchanges out of the learned index of a published version, the one thing that changes a version.

What the weights know stays until a run has published a version without it; the index is text. Knows files and ids, no log.
"""

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from shammah_data.durable import PRIVATE_FILE, fsync_file, fsync_folder, private_folder, sha256
from shammah_data.learned import EMBEDDER, FOLDER, Learned
from shammah_data.manifest import FileEntry, Manifest
from shammah_data.store import ModelStore


def unlearn(store: ModelStore, version: str, ids: Collection[str]) -> int:
    """Remove exchanges and the answers that only they had; returns how many there were.

    The new index is written beside the old one, which goes when the manifest names the new one: a version is whole at any
    moment. Raises ArtifactError for a version that cannot be read.
    """
    manifest = Manifest.load(store.folder(version))
    if manifest.retrieval is None:
        return 0
    old = store.folder(version) / manifest.retrieval.folder
    learned = Learned.load(old, manifest.retrieval)
    kept = [row for row, one in enumerate(learned.exchanges) if one.id not in ids]
    removed = len(learned.exchanges) - len(kept)
    if removed:
        store.amend(version, lambda folder, now: _without(folder, now, learned, kept))
        shutil.rmtree(old)
        fsync_folder(old.parent)
    return removed


def _without(folder: Path, manifest: Manifest, learned: Learned, kept: list[int]) -> Manifest:
    assert manifest.retrieval is not None
    old = manifest.retrieval.folder
    others = tuple(entry for entry in manifest.files if not entry.path.startswith(f"{old}/"))
    if not kept:
        return dataclasses.replace(manifest, files=others, retrieval=None)
    name = next(name for n in range(len(learned.exchanges) + 2) if not (folder / (name := f"{FOLDER}-{n}")).exists())
    target = private_folder(folder / name)
    for part in EMBEDDER:
        shutil.copyfile(folder / old / part, target / part)
    used = sorted({learned.exchanges[row].answer for row in kept})
    place = {answer: n for n, answer in enumerate(used)}
    exchanges = tuple(dataclasses.replace(learned.exchanges[row], answer=place[learned.exchanges[row].answer]) for row in kept)
    answers = tuple(learned.answers[answer] for answer in used)
    toward = None if learned.answer_vectors is None else np.ascontiguousarray(learned.answer_vectors[used])
    Learned(answers, exchanges, np.ascontiguousarray(learned.vectors[kept]), toward).save(target)
    entries = []
    for file in sorted(target.iterdir()):
        file.chmod(PRIVATE_FILE)
        fsync_file(file)
        entries.append(FileEntry(f"{name}/{file.name}", file.stat().st_size, sha256(file)))
    fsync_folder(target)
    fsync_folder(folder)
    retrieval = dataclasses.replace(manifest.retrieval, folder=name, rows=len(kept))
    return dataclasses.replace(manifest, files=(*others, *entries), retrieval=retrieval)
