"""Which graph serves: what was asked for, what fits into memory, and how much of that there is."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.versions import Tiny
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.manifest import FileEntry, Manifest
from shammah_data.store import ModelStore
from shammah_runtime.engine.choice import Wanted, choices
from shammah_runtime.engine.memory import available, needed

Make = Callable[..., Manifest]


@pytest.fixture
def make(tiny: Tiny, home: Home) -> Make:
    """A manifest with these graphs (precision, provider, megabytes of weights) in this order."""
    published = ModelStore(home.models).verify(tiny.publish(home))

    def manifest(*graphs: tuple[str, str, int]) -> Manifest:
        entries = [
            dataclasses.replace(published.graphs[0], path=f"{name}-{provider}/model.onnx", provider=provider, precision=name)  # type: ignore[arg-type]
            for name, provider, _ in graphs
        ]
        files = [FileEntry(f"{name}-{provider}/weights.bin", size * 10**6, "0" * 64) for name, provider, size in graphs]
        return dataclasses.replace(published, graphs=tuple(entries), files=tuple(files))

    return manifest


def told(manifest: Manifest, wanted: Wanted = Wanted(), cuda: bool = False, free: int | None = None) -> list[str]:
    found = choices(manifest, wanted, cuda, free)
    return [f"{choice.graph.precision} on {choice.graph.provider}: {choice.why}" for choice in found]


def test_the_order_is_the_versions_own(make: Make) -> None:
    manifest = make(("int4", "cpu", 80), ("int8", "cpu", 140), ("fp32", "cpu", 540))
    assert told(manifest)[0] == "int4 on cpu: the version's first choice"
    assert told(manifest, Wanted(precision="int8")) == ["int8 on cpu: asked for"]


def test_cuda_comes_first_where_it_can_be_used(make: Make) -> None:
    manifest = make(("int8", "cpu", 140), ("bf16", "cuda", 270), ("fp16", "cuda", 270))
    assert told(manifest, cuda=True)[:2] == ["bf16 on cuda: CUDA can be used", "fp16 on cuda: CUDA can be used"]
    assert told(manifest, cuda=False) == ["int8 on cpu: the only one for the CPU"]
    assert told(manifest, Wanted("cpu"), cuda=True) == ["int8 on cpu: the only one for the CPU"]
    assert told(manifest, Wanted("auto", "fp16"), cuda=True) == ["fp16 on cuda: CUDA can be used"]
    with pytest.raises(ArtifactError, match=r"CUDA cannot be used here .*holds int8 on cpu, bf16 on cuda, fp16 on cuda"):
        choices(manifest, Wanted("auto", "bf16"), cuda=False)


def test_what_does_not_fit_into_memory_is_passed_over_and_named(make: Make) -> None:
    manifest = make(("fp32", "cpu", 540), ("int8", "cpu", 140), ("int4", "cpu", 80))
    free = needed(manifest, manifest.graphs[1])
    megabytes = needed(manifest, manifest.graphs[0]) / 1e6
    assert told(manifest, free=free)[0] == (
        f"int8 on cpu: fp32 needs about {megabytes:.0f} MB of memory, of which {free / 1e6:.0f} MB are free"
    )
    assert told(manifest, free=free - 1)[0].startswith("int4 on cpu: fp32 needs about ")
    assert told(manifest, Wanted(precision="fp32"), free=free) == ["fp32 on cpu: asked for"]
    with pytest.raises(ArtifactError, match=r"fp32 needs about .* int4 needs about .* 10 MB are free: .*--precision"):
        choices(manifest, Wanted(), cuda=False, available=10**7)


def test_an_engine_needs_more_than_its_weights_and_a_wider_cache_more_than_a_narrow_one(make: Make) -> None:
    manifest = make(("fp32", "cpu", 100), ("fp16", "cuda", 100))
    wide, narrow = (needed(manifest, graph) for graph in manifest.graphs)
    shape = manifest.shape
    assert narrow > 120e6
    assert wide - narrow == 2 * 2 * shape.layers * shape.kv_heads * shape.head_dim * (shape.context + 1)


# -- how much there is ------------------------------------------------------------------------------------------------

GIGABYTE = 2**30


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


MEMINFO = f"MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: {4 * GIGABYTE // 1024} kB\n"


def test_without_any_limit_it_is_what_the_system_says(tmp_path: Path) -> None:
    assert available(tmp_path) is None
    write(tmp_path, proc__meminfo=MEMINFO)
    assert available(tmp_path) == 4 * GIGABYTE
    write(tmp_path, proc__self__cgroup="0::/user\n")
    (tmp_path / "sys/fs/cgroup/user").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/user/memory.max").write_text("max\n", encoding="ascii")
    assert available(tmp_path) == 4 * GIGABYTE


@pytest.mark.parametrize("group", ["user/app", "user", "."])
def test_the_least_of_a_group_and_those_above_it_counts(tmp_path: Path, group: str) -> None:
    write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/user/app\n")
    folder = tmp_path / "sys/fs/cgroup" / group
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{GIGABYTE}\n", encoding="ascii")
    (folder / "memory.current").write_text(f"{GIGABYTE // 2}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {1000}\nactive_file {24}\n", encoding="ascii")
    assert available(tmp_path) == GIGABYTE // 2 + 1024


def test_the_older_groups_are_read_too_also_from_inside_a_container(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{GIGABYTE}", encoding="ascii")
    (folder / "memory.usage_in_bytes").write_text(f"{GIGABYTE + 5000}", encoding="ascii")
    (folder / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 4096\n", encoding="ascii")
    assert available(tmp_path) == 0
    (folder / "memory.usage_in_bytes").write_text("4096", encoding="ascii")
    assert available(tmp_path) == GIGABYTE


def test_this_machine_has_some() -> None:
    found = available()
    assert found is None or found > 2**20
