"""Weights packed for this machine: the same logits to the last bit, and nothing of theirs can cost an answer."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.kernels import need_one_path
from fakes.versions import ANSWER, QUESTION, Tiny
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.settings import Precision
from shammah_data.store import ModelStore, packed_folder
from shammah_runtime.doctor import examine
from shammah_runtime.engine import packed as packed_module
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model, open_model
from shammah_runtime.engine.packed import GRAPH, WEIGHTS, Packed, machine, seal
from shammah_runtime.engine.packing import Packer, pack, pack_apart
from shammah_runtime.models import ModelKeeper

IDS = [int(token) for token in np.random.default_rng(5).integers(0, 300, 40)]
PATIENCE = 60.0


@pytest.fixture
def store(home: Home) -> ModelStore:
    home.settings.write_text("[serve]\npacked = true\n")
    return ModelStore(home.models)


def opened(store: ModelStore, packed: bool = True) -> Model:
    version = store.versions()[-1]
    return open_model(store.folder(version), store.verify(version), Wanted(threads=1, packed=packed))


def place(store: ModelStore) -> Packed:
    version = store.versions()[-1]
    manifest = store.verify(version)
    return Packed.of(store.folder(version), manifest, manifest.graphs[0])


def packed_now(store: ModelStore) -> Packed:
    version = store.versions()[-1]
    assert pack(store, version, store.verify(version).graphs[0].path) == ""
    return place(store)


def answer(model: Model) -> str:
    return model.decoder.generate(model.prompt(QUESTION, [], 16).ids, Decoding(max_tokens=16)).text


def doctor(home: Home) -> str:
    (line,) = [str(check) for check in examine(home) if check.name == "packed"]
    return line


@pytest.mark.parametrize("precision", ["int8", "int4", "fp32"])
def test_logits_are_the_same_to_the_last_bit_in_any_passes(
    random_tiny: Tiny, home: Home, store: ModelStore, precision: Precision
) -> None:
    need_one_path(precision)
    random_tiny.publish(home, precision=precision)
    plain = opened(store).decoder.session
    assert not plain.packed
    packed_now(store)
    found = opened(store).decoder.session
    assert found.packed
    assert not opened(store, packed=False).decoder.session.packed
    wanted = plain.feed(plain.new_cache(), IDS, range(len(IDS)))
    for cuts in ([], [1, 2, 3], [17, 18], list(range(1, len(IDS)))):
        cache = found.new_cache()
        edges = [0, *cuts, len(IDS)]
        pieces = [IDS[start:end] for start, end in itertools.pairwise(edges)]
        rows = [found.feed(cache, piece, range(len(piece))).copy() for piece in pieces]
        np.testing.assert_array_equal(np.concatenate(rows), wanted)


def test_what_is_there_is_private_and_not_made_again(tiny: Tiny, home: Home, store: ModelStore) -> None:
    version = tiny.publish(home)
    folder = packed_now(store).folder
    assert not [path for path in (folder, folder.parent, folder.parent.parent) if path.stat().st_mode & 0o077]
    assert pack(store, version, "int8/model.onnx") == "it is there"
    assert doctor(home).startswith("ok   packed     int8 ready, ")
    home.settings.write_text("")
    assert doctor(home).startswith("ok   packed     off; ")


def cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


def rewrite(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size))


def unlink(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def scribble(folder: Path) -> None:
    (folder / "card.json").write_text('{"files": 7}')


@pytest.mark.parametrize("damage", [cut, rewrite, unlink, scribble])
def test_what_is_damaged_is_not_mapped_and_is_made_anew(
    tiny: Tiny, home: Home, store: ModelStore, damage: Callable[[Path], None]
) -> None:
    tiny.publish(home)
    damage(packed_now(store).folder)
    model = opened(store)
    assert not model.decoder.session.packed
    assert answer(model) == ANSWER
    packed_now(store)
    assert opened(store).decoder.session.packed


def zero(folder: Path) -> None:
    rewrite(folder)
    seal(folder)


def no_graph(folder: Path) -> None:
    (folder / GRAPH).write_bytes(b"not a graph")
    seal(folder)


@pytest.mark.parametrize(("wrong", "reason"), [(zero, "golden prompt 1 of 2"), (no_graph, "ONNX Runtime refuses it")])
def test_what_answers_otherwise_is_refused_for_good_and_told(
    tiny: Tiny, home: Home, store: ModelStore, wrong: Callable[[Path], None], reason: str
) -> None:
    version = tiny.publish(home)
    packed = packed_now(store)
    wrong(packed.folder)
    for _ in range(2):
        model = opened(store)
        assert not model.decoder.session.packed
        assert answer(model) == ANSWER
    assert pack(store, version, "int8/model.onnx") == "it is there"
    assert not (packed.folder / WEIGHTS).exists()
    assert doctor(home).startswith("warn packed     int8 is not used: ")
    assert reason in doctor(home)


def test_bytes_that_changed_are_noticed_though_size_and_time_did_not(
    tiny: Tiny, home: Home, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    monkeypatch.setattr(packed_module, "_PIECES", 2)
    weights = packed_now(store).folder / WEIGHTS
    status = weights.stat()

    def write(offset: int) -> None:
        with open(weights, "r+b") as file:
            file.seek(offset)
            file.write(b"?" * 100)
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))

    # Loading compares pieces only, doctor every byte.
    write(status.st_size // 2)
    assert place(store).graph() is not None
    assert doctor(home).startswith("warn packed     int8 is not used: a file is not what was written: ")
    write(0)
    assert place(store).graph() is None


def test_another_machine_or_onnxruntime_finds_nothing(
    tiny: Tiny, home: Home, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    first = packed_now(store).folder
    monkeypatch.setattr(packed_module, "_onnxruntime", lambda: "onnxruntime 99")
    assert not opened(store).decoder.session.packed
    second = packed_now(store).folder
    assert opened(store).decoder.session.packed
    assert second != first
    # One machine has one, or an upgrade would leave the old one lying.
    assert not first.exists()


def test_a_machine_is_what_its_processor_can_do(tmp_path: Path) -> None:
    told = "processor\t: 0\nmodel name\t: Some\ncpu MHz\t\t: {mhz}\nflags\t\t: fpu {flag}\n\nprocessor\t: 1\n"

    def machine_of(mhz: str, flag: str) -> str:
        (tmp_path / "cpuinfo").write_text(told.format(mhz=mhz, flag=flag))
        return machine(tmp_path / "cpuinfo")

    assert machine_of("2000", "avx2") == machine_of("3000", "avx2")
    assert machine_of("2000", "avx2") != machine_of("2000", "avx2 avx512_vnni")
    assert machine(tmp_path / "nothing")


def test_it_goes_with_its_version(tiny: Tiny, home: Home, store: ModelStore) -> None:
    for _ in range(3):
        tiny.publish(home)

    def kept() -> list[str]:
        return sorted(path.name for path in (home.models / ".packed").glob("v*"))

    def made(version: str) -> list[str]:
        assert pack(store, version, "int8/model.onnx") == ""
        return kept()

    # What serves or is tried keeps one, and what was just made; so its room is bounded.
    assert made("v0001") == ["v0001"]
    assert made("v0003") == ["v0003"]
    store.set_candidate("v0002", 0.5)
    assert made("v0002") == ["v0002", "v0003"]
    (home.models / ".packed" / ".making-left-by-a-kill").mkdir()
    assert store.discard(["v0002"]) == ["v0002"]
    assert kept() == ["v0003"]
    store.promote("v0001")
    store.promote(tiny.publish(home))
    assert store.collect(keep=1) == ["v0003"]
    assert [path.name for path in (home.models / ".packed").iterdir()] == [".lock"]


def test_a_version_that_is_deleted_meanwhile_leaves_nothing(tiny: Tiny, home: Home, store: ModelStore) -> None:
    for _ in range(2):
        tiny.publish(home)
    with store.packing() as made:
        assert made is not None
        target = packed_folder(store.folder("v0001")) / "int8-0"
        store.discard(["v0001"])
        with pytest.raises(ArtifactError, match="v0001 is gone"):
            store.keep_packed(made, target)
    assert [path.name for path in (home.models / ".packed").iterdir()] == [".lock"]


def test_two_processes_do_not_do_the_same(tiny: Tiny, home: Home, store: ModelStore) -> None:
    version = tiny.publish(home)
    with store.packing() as made:
        assert made is not None
        assert pack(ModelStore(home.models), version, "int8/model.onnx") == "another process does it"


def test_a_full_disk_or_memory_is_a_reason(tiny: Tiny, home: Home, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = tiny.publish(home)
    usage = shutil.disk_usage(home.root)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    assert pack(store, version, "int8/model.onnx") == "there is not enough room on the disk"
    monkeypatch.setattr("shammah_runtime.engine.memory.available", lambda: 10)
    assert pack(store, version, "int8/model.onnx") == "there is not enough memory"
    assert not opened(store).decoder.session.packed


@pytest.fixture
def packer(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packer]:
    monkeypatch.setattr("shammah_runtime.engine.packing.LEAST_BYTES", 0)
    made = Packer(store)
    yield made
    made.close()


def test_a_session_that_stays_packs_what_serves(tiny: Tiny, home: Home, store: ModelStore, packer: Packer) -> None:
    tiny.publish(home)
    keeper = ModelKeeper(store, Wanted(threads=1, packed=True), packer=packer)
    keeper.start(watch=False)
    assert keeper.current() is not None
    keeper.close()
    assert not (home.models / ".packed").exists()
    keeper = ModelKeeper(store, Wanted(threads=1, packed=True), poll_seconds=0.005, packer=packer)
    keeper.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while place(store).graph() is None:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        model = keeper.current()
        assert model is not None
        # It goes on as it is; the next one to load finds it.
        assert not model.decoder.session.packed
        assert opened(store).decoder.session.packed
    finally:
        keeper.close()


def test_a_night_waits_for_it(tiny: Tiny, home: Home, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = tiny.publish(home, precisions=["int8", "fp32"])
    pack_apart(store, version)
    assert not (home.models / ".packed").exists()
    monkeypatch.setattr("shammah_runtime.engine.packing.LEAST_BYTES", 0)
    pack_apart(store, version)
    assert [path.name[:5] for path in packed_folder(store.folder(version)).iterdir()] == ["int8-"]
    assert opened(store).decoder.session.packed


def test_what_is_under_way_ends_with_the_session(tiny: Tiny, home: Home, store: ModelStore, packer: Packer) -> None:
    tiny.publish(home)
    manifest = store.verify("v0001")
    packer.look(manifest, manifest.graphs[0])
    packer.close()
    assert opened(store).decoder.session.packed == (place(store).graph() is not None)
    with store.packing() as made:
        assert made is not None
