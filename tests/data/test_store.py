import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.processes import killed
from shammah_data.durable import private_folder
from shammah_data.errors import ArtifactError
from shammah_data.manifest import FileEntry, Manifest
from shammah_data.store import ModelStore, Pointer

Spawn = Callable[..., "subprocess.Popen[str]"]
Publish = Callable[..., str]
Describe = Callable[[str, tuple[FileEntry, ...]], Manifest]


def test_an_empty_store_names_nothing(store: ModelStore) -> None:
    assert store.pointer() == Pointer()
    assert store.versions() == []
    assert store.stamp() == (0, 0)


def test_publishing_lists_every_file_with_its_digest(store: ModelStore, publish: Publish) -> None:
    name = publish(b"first")
    assert name == "v0001"
    entries = {entry.path: entry for entry in store.verify(name).files}
    assert sorted(entries) == ["int8/model.onnx", "int8/weights.bin", "tokenizer.json"]
    assert entries["int8/weights.bin"].bytes == 5
    assert entries["int8/weights.bin"].sha256 == hashlib.sha256(b"first").hexdigest()
    assert store.pointer() == Pointer()
    assert all(path.stat().st_mode & 0o077 == 0 for path in store.folder(name).rglob("*") if path.is_file())


def test_versions_count_up_by_number(store: ModelStore, publish: Publish) -> None:
    publish()
    store.folder("v0001").rename(store.folder("v9999"))
    assert publish() == "v10000"
    assert store.versions() == ["v9999", "v10000"]


def test_a_link_is_not_published(store: ModelStore, describe: Describe, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    staging = store.staging()
    (staging / "tokenizer.json").symlink_to(tmp_path / "outside")
    with pytest.raises(ArtifactError, match="not a plain file"):
        store.publish(staging, describe)
    assert store.versions() == []


def test_nothing_is_published_when_the_manifest_cannot_be_made(store: ModelStore) -> None:
    def fail(*_: object) -> Manifest:
        raise RuntimeError("no figures")

    with pytest.raises(RuntimeError, match="no figures"):
        store.publish(store.staging(), fail)
    assert store.versions() == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def link(path: Path) -> None:
    shutil.move(path, path.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent / "elsewhere")


def link_folder(path: Path) -> None:
    shutil.move(path.parent, path.parent.parent.parent / "elsewhere")
    path.parent.symlink_to(path.parent.parent.parent / "elsewhere")


def link_version(path: Path) -> None:
    version = path.parent.parent
    shutil.move(version, version.parent / "elsewhere")
    version.symlink_to(version.parent / "elsewhere")


def spoil_manifest(path: Path) -> None:
    (path.parent.parent / "manifest.json").write_text("{")


def mistake(path: Path) -> None:
    """The whole of another version under this name."""
    version = path.parent.parent
    shutil.rmtree(version)
    shutil.copytree(version.parent / "v0001", version)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "not the bytes that were published"),
        (cut, "not the bytes that were published"),
        (Path.unlink, "missing"),
        (link, "not a plain file"),
        (link_folder, "not a plain file"),
        (link_version, "not a plain folder"),
        (spoil_manifest, "cannot be read: .*: run `shammah-train rollback` or retrain"),
        (mistake, "v0002: its manifest is that of v0001"),
    ],
)
def test_a_damaged_version_is_refused_and_never_promoted(
    store: ModelStore, publish: Publish, damage: Callable[[Path], None], says: str
) -> None:
    store.promote(publish(b"good"))
    before = store.pointer()
    bad = publish(b"bad")
    damage(store.folder(bad) / "int8" / "weights.bin")
    with pytest.raises(ArtifactError, match=says):
        store.verify(bad)
    with pytest.raises(ArtifactError, match=says):
        store.promote(bad)
    assert store.pointer() == before


def test_a_file_that_cannot_be_read_is_named(store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a failing disk, or where another user made the version."""
    name = publish(b"good")

    def unreadable(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("shammah_data.store.sha256", unreadable)
    with pytest.raises(ArtifactError, match=r"v0001/.*: cannot be read \(.*Input/output error\): run `shammah-train rollback`"):
        store.promote(name)


def test_all_but_the_weights_is_verified_before_the_manifest_is_given(store: ModelStore, publish: Publish) -> None:
    weights = store.folder(publish(b"good")) / "int8" / "weights.bin"
    assert store.verification("v0001").manifest() == store.verification("v0001").whole() == store.verify("v0001")
    flip(weights)
    begun = store.verification("v0001")
    assert begun.manifest().version == "v0001"
    with pytest.raises(ArtifactError, match=r"weights\.bin: not the bytes that were published"):
        begun.whole()
    flip(weights)
    for damage, damaged in (
        (cut, weights),
        (flip, weights.with_name("model.onnx")),
        (flip, weights.parent.parent / "tokenizer.json"),
    ):
        content = damaged.read_bytes()
        damage(damaged)
        begun = store.verification("v0001")
        for told in (begun.manifest, begun.whole):
            with pytest.raises(ArtifactError, match=f"{damaged.name}: not the bytes that were published"):
                told()
        damaged.write_bytes(content)


def test_what_was_verified_ahead_is_found_once(store: ModelStore, publish: Publish) -> None:
    store.verify_ahead()
    store.promote(publish(b"first"))
    weights = store.folder("v0001") / "int8" / "weights.bin"
    store.verify_ahead()
    assert store.verify("v0001").version == "v0001"
    flip(weights)
    with pytest.raises(ArtifactError, match="not the bytes that were published"):
        store.verify("v0001")
    store.verify_ahead()
    for _ in range(2):
        with pytest.raises(ArtifactError, match="not the bytes that were published"):
            store.verify("v0001")
    flip(weights)
    publish(b"second")
    store.verify_ahead()
    store.verify("v0002")
    flip(weights)
    with pytest.raises(ArtifactError, match="not the bytes that were published"):
        store.verify("v0001")
    (store.root / "pointer.json").write_text("{")
    store.verify_ahead()


@pytest.mark.parametrize("name", ["../v0001", "v1", "", "v0001/..", "V0001"])
def test_what_is_no_version_name_is_refused(store: ModelStore, name: str) -> None:
    with pytest.raises(ArtifactError, match="not a version name"):
        store.verify(name)


def test_promotion_and_return(store: ModelStore, publish: Publish) -> None:
    first, second = publish(b"1"), publish(b"2")
    store.promote(first)
    stamp = store.stamp()
    assert store.promote(second) == Pointer(champion=second, previous=first)
    assert store.stamp() != stamp
    assert store.promote(second) == Pointer(champion=second, previous=first)
    assert store.rollback() == Pointer(champion=first, previous=second)
    assert store.pointer() == Pointer(champion=first, previous=second)


def test_there_may_be_nothing_to_return_to(store: ModelStore, publish: Publish) -> None:
    store.promote(publish())
    with pytest.raises(ArtifactError, match="no previous version"):
        store.rollback()


def test_a_damaged_previous_version_is_not_returned_to(store: ModelStore, publish: Publish) -> None:
    first, second = publish(b"1"), publish(b"2")
    store.promote(first)
    before = store.promote(second)
    flip(store.folder(first) / "tokenizer.json")
    with pytest.raises(ArtifactError, match="not the bytes"):
        store.rollback()
    assert store.pointer() == before


def test_a_stale_expectation_is_refused(store: ModelStore, publish: Publish) -> None:
    first, second, third = publish(b"1"), publish(b"2"), publish(b"3")
    seen = store.promote(first)
    store.promote(second, seen)
    with pytest.raises(ArtifactError, match=f"moved meanwhile .champion is now {second}"):
        store.promote(third, seen)
    assert store.pointer() == Pointer(champion=second, previous=first)


def test_a_candidate_is_set_changed_and_cleared(store: ModelStore, publish: Publish) -> None:
    first, second, third = publish(b"1"), publish(b"2"), publish(b"3")
    with pytest.raises(ArtifactError, match=f"no champion to try {second} beside: promote it"):
        store.set_candidate(second, 0.1)
    store.promote(first)
    store.promote(second)
    assert store.set_candidate(third, 0.1) == Pointer(second, first, third, 0.1)
    assert store.set_candidate(third, 0.5) == Pointer(second, first, third, 0.5)
    assert store.pointer() == Pointer(second, first, third, 0.5)
    assert store.clear_candidate() == Pointer(second, first)
    assert store.pointer() == Pointer(second, first)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_candidate_needs_a_share(store: ModelStore, publish: Publish, share: float) -> None:
    store.promote(publish(b"1"))
    with pytest.raises(ArtifactError, match="is not a share above 0 and up to 1"):
        store.set_candidate(publish(b"2"), share)
    assert store.pointer() == Pointer("v0001")


def test_the_champion_is_no_candidate_and_neither_is_a_damaged_version(store: ModelStore, publish: Publish) -> None:
    first, second = publish(b"1"), publish(b"2")
    store.promote(first)
    with pytest.raises(ArtifactError, match="is the champion"):
        store.set_candidate(first, 0.5)
    flip(store.folder(second) / "tokenizer.json")
    with pytest.raises(ArtifactError, match="not the bytes"):
        store.set_candidate(second, 0.5)
    assert store.pointer() == Pointer(first)


def test_a_stale_expectation_sets_and_clears_no_candidate(store: ModelStore, publish: Publish) -> None:
    first, second, third = publish(b"1"), publish(b"2"), publish(b"3")
    seen = store.promote(first)
    tried = store.set_candidate(second, 0.5, seen)
    with pytest.raises(ArtifactError, match="moved meanwhile"):
        store.set_candidate(third, 0.5, seen)
    with pytest.raises(ArtifactError, match="moved meanwhile"):
        store.clear_candidate(seen)
    assert store.pointer() == tried


def test_a_trial_ends_with_the_promotion_of_the_candidate_and_with_the_return_to_it(
    store: ModelStore, publish: Publish
) -> None:
    first, second = publish(b"1"), publish(b"2")
    store.promote(first)
    store.set_candidate(second, 0.5)
    assert store.promote(second) == Pointer(second, first)
    store.set_candidate(first, 0.5)
    assert store.rollback() == Pointer(first, second)
    store.set_candidate(second, 0.5)
    assert store.collect(0) == []
    assert store.discard([second]) == [second]
    assert store.pointer() == Pointer(first)


def test_a_pinned_version_stays_until_it_is_unpinned(store: ModelStore, publish: Publish) -> None:
    first, second, third = publish(b"1"), publish(b"2"), publish(b"3")
    store.promote(first)
    assert store.pin(second) == Pointer(second, first, pinned=True)
    with pytest.raises(ArtifactError, match=f"{second} is pinned: run `shammah-train unpin` first"):
        store.promote(third)
    with pytest.raises(ArtifactError, match=f"{second} is pinned: run `shammah-train unpin` first"):
        store.rollback()
    assert store.promote(second) == store.pointer() == Pointer(second, first, pinned=True)
    assert store.pin(third) == Pointer(third, second, pinned=True)
    assert store.unpin() == Pointer(third, second)
    assert store.rollback() == Pointer(second, third)


def test_a_trial_remembers_when_it_began(tmp_path: Path, publish: Publish, store: ModelStore) -> None:
    times = iter([datetime(2030, 1, 1, 8, tzinfo=UTC), datetime(2030, 1, 9, 8, tzinfo=UTC)])
    clocked = ModelStore(store.folder("v0001").parent, clock=lambda: next(times))
    first, second, third = publish(b"1"), publish(b"2"), publish(b"3")
    store.promote(first)
    clocked.set_candidate(second, 0.1)
    assert clocked.set_candidate(second, 0.5).candidate_since == "2030-01-01T08:00:00+00:00"
    assert store.pointer().candidate_since == "2030-01-01T08:00:00+00:00"
    assert clocked.set_candidate(third, 0.5).candidate_since == "2030-01-09T08:00:00+00:00"
    assert store.clear_candidate().candidate_since is None


def test_a_version_in_use_is_not_collected(store: ModelStore, publish: Publish) -> None:
    names = [publish(bytes([n])) for n in range(5)]
    store.promote(names[3])
    store.promote(names[4])
    used, also = store.lease(names[0]), store.lease(names[0])
    assert store.in_use() == {names[0]}
    assert store.collect(0) == [names[1], names[2]]
    used.release()
    used.release()
    assert store.collect(0) == []
    also.release()
    assert store.in_use() == set()
    assert store.collect(0) == [names[0]]
    assert not list(store.folder(names[0]).parent.glob(".using-*"))


def test_the_lease_of_a_killed_process_keeps_nothing(store: ModelStore, publish: Publish, spawn: Spawn) -> None:
    names = [publish(bytes([n])) for n in range(3)]
    store.promote(names[2])
    code = "import sys; held = store.lease('v0001'); print('leased', flush=True); sys.stdin.read()"
    root = store.folder(names[0]).parent
    process = spawn(
        f"from pathlib import Path; from shammah_data.store import ModelStore; store = ModelStore(Path({str(root)!r})); {code}"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "leased\n"
    assert store.in_use() == {"v0001"}
    assert store.collect(0) == ["v0002"]
    process.kill()
    process.communicate()
    assert store.in_use() == set()
    assert store.collect(0) == ["v0001"]
    assert not list(root.glob(".using-*"))


def test_an_unreadable_pointer_is_not_cleared(store: ModelStore, publish: Publish) -> None:
    store.promote(publish())
    pointer = store.folder("v0001").parent / "pointer.json"
    pointer.write_text("{")
    with pytest.raises(ArtifactError, match="promote VERSION"):
        store.clear_candidate()
    assert pointer.read_text() == "{"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"champion": 5}',
        '{"champion": "../x"}',
        '{"unknown": 1}',
        '{"candidate_share": "x"}',
        '{"candidate_since": "x"}',
    ],
)
def test_an_unreadable_pointer_says_its_cure_and_promote_is_it(store: ModelStore, publish: Publish, content: str) -> None:
    name = publish()
    pointer = store.folder(name).parent / "pointer.json"
    pointer.write_text(content)
    for ask in (store.pointer, store.rollback, lambda: store.collect(1)):
        with pytest.raises(ArtifactError, match="promote VERSION"):
            ask()
    assert store.promote(name) == Pointer(champion=name)
    assert store.pointer() == Pointer(champion=name)
    assert json.loads(pointer.read_text())["champion"] == name


def test_collect_keeps_the_newest_and_what_the_pointer_names(store: ModelStore, publish: Publish) -> None:
    names = [publish(bytes([n])) for n in range(5)]
    store.promote(names[0])
    store.promote(names[1])
    assert store.collect(2) == [names[2]]
    assert store.versions() == [names[0], names[1], names[3], names[4]]
    assert store.collect(0) == [names[3], names[4]]
    assert store.collect(0) == []
    store.verify(names[0])


def test_collect_removes_what_killed_runs_left(store: ModelStore, publish: Publish) -> None:
    name = publish()
    store.promote(name)
    models = store.folder(name).parent
    (store.staging() / "half").write_text("written")
    private_folder(models / ".deleted-1" / "inside")
    private_folder(models / ".packed" / name)
    (models / ".pointer.json.0123").write_text("{")
    store.collect(3)
    assert sorted(os.listdir(models)) == [".lock", "pointer.json", name]


PROMOTE = """
import sys
from pathlib import Path
from shammah_data.store import ModelStore
from shammah_data.errors import ArtifactError
store = ModelStore(Path(sys.argv[1]))
seen = store.pointer()
print("ready", flush=True)
sys.stdin.readline()
try:
    store.promote(sys.argv[2], seen)
    print("won", flush=True)
except ArtifactError as error:
    print(error, flush=True)
"""


def test_of_two_promotions_at_once_one_wins(store: ModelStore, publish: Publish, spawn: Spawn) -> None:
    first = publish(b"0")
    store.promote(first)
    names = [publish(b"1"), publish(b"2")]
    processes = [spawn(PROMOTE, store.folder(first).parent, name) for name in names]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    assert sorted(line == "won\n" for line in said) == [False, True]
    winner = names[said.index("won\n")]
    assert f"moved meanwhile (champion is now {winner})" in next(line for line in said if line != "won\n")
    assert store.pointer() == Pointer(champion=winner, previous=first)


PUBLISH = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from conftest import filled, make_manifest
from shammah_data.store import ModelStore
store = ModelStore(Path(sys.argv[1]))
number = 0
print("ready", flush=True)
while True:
    number += 1
    name = store.publish(filled(store.staging(), b"x" * 200_000), make_manifest)
    print(name, flush=True)
    if number % 2:
        store.promote(name)
    else:
        store.collect(2)
"""


def test_a_kill_while_publishing_harms_nothing(store: ModelStore, publish: Publish, spawn: Spawn) -> None:
    """What was printed was published; whatever a kill leaves, pointer and versions are whole and collect tidies up."""
    store.promote(publish(b"0"))
    models = store.folder("v0001").parent
    chance = random.Random(5)
    for _ in range(15):
        process = spawn(PUBLISH, models, Path(__file__).parent)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.06))
        rest, _ = killed(process)
        pointer = store.pointer()
        assert pointer.champion is not None
        for name in store.versions():
            assert store.verify(name).version == name
        if printed := rest.split():
            assert int(store.versions()[-1][1:]) >= int(printed[-1][1:])
        assert {pointer.champion, pointer.previous} - {None} <= set(store.versions())
        store.collect(3)
        assert {name for name in os.listdir(models) if not name.startswith("v")} == {".lock", "pointer.json"}
