"""How much memory an engine takes, and how much there is. Knows manifests, /proc and control groups; opens no session."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shammah_data.manifest import GraphEntry, Manifest

# Measured on SmolLM2-135M (int8 and int4, ONNX Runtime 1.32): loading peaks at 1.17 to 1.37 times the weights, and parsing a
# tokenizer at fifteen times its file (twelve times one with blanks).
_WEIGHTS_FACTOR = 1.2
_TOKENIZER_FACTOR = 15
# The embedder as weights, its tokenizer, texts as objects.
_INDEX_FACTOR = 2
_FIXED = 16 * 2**20
# From malloc.h.
_M_ARENA_MAX = -8


def needed(manifest: Manifest, graph: GraphEntry) -> int:
    """Bytes that an engine with this graph takes at its peak, one full context included; an estimate."""
    retrieval = manifest.retrieval
    index = sum(entry.bytes for entry in manifest.files if retrieval and entry.path.startswith(f"{retrieval.folder}/"))
    tokenizer = sum(entry.bytes for entry in manifest.files if entry.path == "tokenizer.json")
    shape = manifest.shape
    wide = 2 if graph.precision in ("fp16", "bf16") else 4
    cache = 2 * wide * shape.layers * shape.kv_heads * shape.head_dim * (shape.context + 1)
    files = _WEIGHTS_FACTOR * weights(manifest, graph) + _INDEX_FACTOR * index
    return int(files) + _TOKENIZER_FACTOR * tokenizer + cache + _FIXED


def weights(manifest: Manifest, graph: GraphEntry) -> int:
    """Bytes of the graph's files."""
    folder = PurePosixPath(graph.path).parent
    return sum(entry.bytes for entry in manifest.files if PurePosixPath(entry.path).parent == folder)


def available(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take: what the system says, or less where a control group (v1 or v2) allows less.

    None where neither can be read, as on macOS. `root` is the folder that holds proc and sys.
    """
    found = [*_system(root), *_groups(root)]
    return max(0, min(found)) if found else None


def keep_together() -> None:
    """Let all threads allocate from the same two heaps (glibc): each answer has a thread of its own, and with a heap for each
    of them what is freed in one does not serve the next. To be called before they start."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def release() -> None:
    """Hand what was freed back to the system, where the C library keeps it for later and can be told not to (glibc)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _system(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])


def _groups(root: Path) -> Iterator[int]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _limits(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            yield from _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _limits(mount: Path, path: str, limit: str, used: str, prefix: str) -> Iterator[int]:
    """What each group from this one up leaves. In a container its own group may be the mount itself."""
    inside = PurePosixPath(path.lstrip("/"))
    if ".." in inside.parts:
        inside = PurePosixPath()
    for folder in (inside, *inside.parents):
        with contextlib.suppress(OSError, ValueError):
            most = int((mount / folder / limit).read_text(encoding="ascii"))
            yield most - int((mount / folder / used).read_text(encoding="ascii")) + _cached(mount / folder, prefix)


def _cached(group: Path, prefix: str) -> int:
    """Bytes of file pages, which the kernel takes back before it refuses any."""
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    fields = [line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()]
    return sum(int(value) for name, value in fields if name in names)
