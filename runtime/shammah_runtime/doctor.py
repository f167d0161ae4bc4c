"""Checks of an installation, one line each, with what to do. Reads; repairs nothing."""

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from shammah_data import targets
from shammah_data.bases import BASE_INFO, CURE, DEFAULT, unusable
from shammah_data.errors import SettingsError, ShammahError, reason
from shammah_data.home import Home
from shammah_data.manifest import Calibration, Manifest
from shammah_data.session import LogTakenError
from shammah_data.settings import Settings
from shammah_data.text import counted

Level = Literal["ok", "warn", "fail"]
# One Identity node on a float: asking for a provider's name is not enough, a session must really get it.
_PROBE = base64.b64decode("CAg6OwoQCgF4EgF5IghJZGVudGl0eRIFcHJvYmVaDwoBeBIKCggIARIECgIIAWIPCgF5EgoKCAgBEgQKAggBQgQKABAR")


@dataclass(frozen=True)
class Check:
    """One finding; `todo` is empty when there is nothing to do."""

    level: Level
    name: str
    found: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5}{self.name:<10} {self.found}" + (f": {self.todo}" if self.todo else "")


def examine(home: Home) -> list[Check]:
    """Every check, in the order in which a problem should be solved."""
    checks = [_runtime(), *_providers()]
    of_the_home: dict[str, Callable[[Home], Check | list[Check]]] = {
        "home": _home,
        "settings": _settings,
        "log": _log,
        "base": _base,
        "model": _model,
        "guard": _guard,
        "key": _key,
    }
    for name, look in of_the_home.items():
        try:
            found = look(home)
        except OSError as error:
            # What may not be looked at is a finding, too, and the other checks are still to be made.
            found = Check("fail", name, reason(error))
        checks += found if isinstance(found, list) else [found]
    return checks


def _installed() -> dict[str, str]:
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _runtime() -> Check:
    found = _installed()
    told = ", ".join(f"{name} {version}" for name, version in found.items())
    if not found:
        return Check("fail", "runtime", "ONNX Runtime is not installed", "pip install 'shammah[cpu]' (or [cuda])")
    if len(found) == 2:
        todo = "the two overwrite each other; uninstall both, then install the one you want"
        return Check("warn", "runtime", told, todo)
    return Check("ok", "runtime", told)


def _usable_providers() -> tuple[list[str], list[str]]:
    """Those that a session really gets, and those that only pretend to be there. Raises ImportError without ONNX Runtime."""
    import onnxruntime

    usable: list[str] = []
    broken: list[str] = []
    for provider in onnxruntime.get_available_providers():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(_PROBE, options, providers=[provider])
            (usable if provider in session.get_providers() else broken).append(provider)
        except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class; any of them means: not usable
            broken.append(provider)
    return usable, broken


def _providers() -> list[Check]:
    try:
        usable, broken = _usable_providers()
    except ImportError as error:
        if not _installed():
            return []  # said already
        return [Check("fail", "providers", f"ONNX Runtime cannot be imported ({error})", "install it again")]
    checks = [Check("ok" if usable else "fail", "providers", ", ".join(usable) or "none is usable"), _kernels()]
    if "CUDAExecutionProvider" in broken:
        todo = "install the CUDA and cuDNN versions that this onnxruntime-gpu names, or use --provider cpu"
        checks.append(Check("warn", "providers", "CUDA is installed but cannot be used", todo))
    return checks


def _kernels() -> Check:
    from shammah_runtime.engine import kernels

    if kernels.library() is not None:
        return Check("ok", "kernels", "Shammah's own")
    if os.environ.get(kernels.VARIABLE) == "none":
        return Check("ok", "kernels", f"ONNX Runtime's, as {kernels.VARIABLE} says")
    if not kernels.LIBRARY.exists():
        told = "ONNX Runtime's, which are slower: Shammah's own were not compiled when it was installed"
        return Check("ok", "kernels", told, "with a C compiler, install Shammah again (Linux or macOS)")
    told = "ONNX Runtime's, which are slower: Shammah's own are damaged, of another release, or not for this processor"
    return Check("ok", "kernels", told, "install Shammah again; they need AVX2 with FMA, or 64-bit ARM")


def _home(home: Home) -> Check:
    if not home.root.exists():
        return Check("ok", "home", f"{home.root} (made at the first use)")
    if not home.root.is_dir():
        return Check("fail", "home", f"{home.root} is no folder", "set SHAMMAH_HOME to a folder you own")
    if not os.access(home.root, os.W_OK | os.X_OK):
        return Check("fail", "home", f"{home.root} cannot be written", "set SHAMMAH_HOME to a folder you own")
    return Check("ok", "home", str(home.root))


def _settings(home: Home) -> Check:
    try:
        Settings.load(home.settings)
    except ShammahError as error:
        return Check("fail", "settings", str(error), "correct or remove the file")
    return Check("ok", "settings", str(home.settings) if home.settings.exists() else "defaults (no config.toml)")


def _log(home: Home) -> Check:
    from shammah_data.log import ExchangeLog

    try:
        settings = Settings.load(home.settings)
    except SettingsError:
        settings = Settings()  # reported already
    try:
        log = ExchangeLog(home, settings)
        if not log.exists():
            return Check("ok", "log", "no exchanges yet", "ask something, or run `shammah-log import FILE`")
        stats = log.stats()
    except LogTakenError as error:
        return Check("warn", "log", str(error), "until then, exchanges wait in the spool")
    except ShammahError as error:
        cure = "`shammah-log verify` looks closer, and a backup can be restored"
        return Check("fail", "log", str(error), "until then, exchanges wait in the spool" if settings.log else cure)
    told = f"{counted(stats.exchanges, 'exchange')}, {stats.learnable} to learn from"
    return Check(
        "ok", "log", f"{told}; {counted(stats.spooled, 'record waits', 'records wait')} in the spool" if stats.spooled else told
    )


def _base(home: Home) -> Check:
    try:
        source = Settings.load(home.settings).train.base
    except SettingsError:
        source = DEFAULT  # reported already
    if (wrong := unusable(source, home.bases)) is not None:
        return Check("fail", "base", f"train.base = {source!r}: {wrong}", f"{CURE}, in {home.settings}")
    made = sorted(path.name for path in home.bases.glob("[!.]*") if (path / BASE_INFO).exists()) if home.bases.exists() else []
    if not made:
        return Check("ok", "base", "none yet", "shammah-train makes one when it is needed; only training needs it")
    return Check("ok", "base", ", ".join(made))


def _model(home: Home) -> list[Check]:
    from shammah_data.store import ModelStore

    store = ModelStore(home.models)
    try:
        pointer = store.pointer()
        if pointer.champion is None:
            return [
                Check("warn", "model", "none has been published", "run shammah-train once there are exchanges to learn from")
            ]
        checks = _version("model", store.verify(pointer.champion), home)
    except ShammahError as error:
        return [Check("fail", "model", str(error))]
    if pointer.candidate is not None:
        try:
            checks += _version("candidate", store.verify(pointer.candidate), home)
        except ShammahError as error:
            checks.append(Check("warn", "candidate", str(error), "it is not tried"))
    return checks


def _version(name: str, manifest: Manifest, home: Home) -> list[Check]:
    """A version whose bytes are right, which of its graphs would serve here and why, and what its answers are held to."""
    from shammah_runtime.engine.choice import Wanted, choices, listed
    from shammah_runtime.engine.memory import available

    whole = f"{manifest.version} ({listed(manifest)}), every byte as published"
    try:
        settings = Settings.load(home.settings)
    except SettingsError:
        settings = Settings()  # reported already
    serve = settings.serve
    try:
        usable = _usable_providers()[0]
        wanted = Wanted(serve.provider, serve.precision, serve.threads)
        first = choices(manifest, wanted, "CUDAExecutionProvider" in usable, available())[0]
    except ImportError:
        return [Check("ok", name, whole)]  # said already that there is no ONNX Runtime
    except ShammahError as error:
        return [Check("warn", name, whole, str(error))]
    graph = first.graph
    return [
        Check("ok", name, f"{whole}; {graph.precision} on {graph.provider} serves ({first.why})"),
        _promise(graph.calibration, settings.routing.target_precision),
    ]


def _promise(calibration: Calibration, target: float) -> Check:
    """What the version answers, and how many of these answers are to be right."""
    if (reason := targets.beyond(calibration, target)) is not None:
        return Check("warn", "precision", f"no answers: {reason}", "lower it in config.toml")
    return Check("ok", "precision", targets.told(targets.held_to(calibration, target)))


def _guard(home: Home) -> list[Check]:
    """Nothing where it can be read: `precision` tells what is published, `/status` what audits have raised."""
    from shammah_data.guard import Guard

    try:
        Guard(home.models).of("")
    except ShammahError as error:
        return [Check("fail", "guard", f"no answers of the model: {error}")]
    return []


def _key(home: Home) -> Check:
    from shammah_runtime.hiring import key_names, key_of
    from shammah_runtime.teacher import Teacher, TeacherSettings

    try:
        section = Settings.load(home.settings).teacher
    except SettingsError:
        section = Settings().teacher  # reported already
    names, key = " or ".join(key_names(section)), key_of(section, os.environ)
    if key and key.strip():
        teacher = Teacher(TeacherSettings(section.model, kind=section.kind, base_url=section.base_url), key)
        if (reason := teacher.unavailable_reason) is not None:
            return Check("warn", "key", reason, "set it again, or only local answers are given")
        return Check("ok", "key", f"{names} is set (not checked against the service)")
    missing = f"{names} is {'blank' if key else 'not set'}"
    if section.kind == "openai":
        return Check("ok", "key", f"{missing}; {section.base_url} may want none")
    return Check("warn", "key", missing, "set it, or only local answers are given")
