"""Which graph of a version serves on this machine, and why. Knows the manifest, no session."""

from dataclasses import dataclass

from shammah_data.errors import ArtifactError
from shammah_data.manifest import GraphEntry, Manifest
from shammah_data.settings import Provider, WantedPrecision
from shammah_runtime.engine.memory import needed


@dataclass(frozen=True)
class Wanted:
    """What was asked for: where a graph runs, how its weights are stored, and the threads it gets on the CPU."""

    provider: Provider = "auto"
    precision: WantedPrecision = "auto"
    threads: int = 2


@dataclass(frozen=True)
class Choice:
    """A graph and the reason for it, in words for `status` and `doctor`."""

    graph: GraphEntry
    why: str


def choices(manifest: Manifest, wanted: Wanted, cuda: bool, available: int | None = None) -> list[Choice]:
    """The graphs to try, the best one first; never empty.

    `cuda`: whether CUDA can be used. `available`: bytes of memory for the engine; None where nobody knows. On the CPU the
    version's own order counts: its trainer puts first what it recommends. Those that do not fit are passed over, except where
    a precision was asked for. Raises ArtifactError that lists what there is, or says what memory is missing.
    """
    graphs = manifest.graphs
    fitting = [
        graph
        for graph in graphs
        if wanted.provider in ("auto", graph.provider) and wanted.precision in ("auto", graph.precision)
    ]
    if not fitting:
        raise ArtifactError(f"{manifest.version} holds no graph for {_told(wanted)}: it holds {listed(manifest)}")
    on_cuda = [graph for graph in fitting if graph.provider == "cuda"]
    on_cpu = [graph for graph in fitting if graph.provider == "cpu"]
    if not cuda and not on_cpu:
        raise ArtifactError(
            f"CUDA cannot be used here (see `shammah-serve doctor`), and {manifest.version} holds {listed(manifest)}"
        )
    found = [Choice(graph, "CUDA can be used") for graph in on_cuda if cuda]
    too_large: list[str] = []
    for graph in on_cpu:
        if wanted.precision != "auto":
            found.append(Choice(graph, "asked for"))
        elif available is not None and (bytes_ := needed(manifest, graph)) > available:
            too_large.append(f"{graph.precision} needs about {bytes_ / 1e6:.0f} MB of memory")
        elif too_large:
            found.append(Choice(graph, f"{', '.join(too_large)}, of which {_megabytes(available)} are free"))
        else:
            found.append(Choice(graph, "the version's first choice" if len(on_cpu) > 1 else "the only one for the CPU"))
    if not found:
        raise ArtifactError(
            f"{manifest.version}: {', '.join(too_large)}, of which {_megabytes(available)} are free: "
            "end something else, or insist with --precision"
        )
    return found


def listed(manifest: Manifest) -> str:
    """The graphs of a version, in its own order."""
    return ", ".join(f"{graph.precision} on {graph.provider}" for graph in manifest.graphs)


def _told(wanted: Wanted) -> str:
    if wanted.precision == "auto":
        return wanted.provider
    return wanted.precision if wanted.provider == "auto" else f"{wanted.precision} on {wanted.provider}"


def _megabytes(count: int | None) -> str:
    return f"{(count or 0) / 1e6:.0f} MB"
