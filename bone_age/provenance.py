"""Where code and environment come from: git commit, lock digest, versions. Recorded with every run and model version.

In an image there is no git; the build passes `BONE_AGE_GIT_COMMIT` instead.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent  # a checkout, or where an installed wheel's packages lie
SHIPPED = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PROJECT  # a wheel has configs/ and models/ within
LOCKS = ("requirements.lock", "requirements-train.lock")  # an image of `train` has the second in the place of the first
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Provenance:
    """What was running: commit and whether files differed from it, SHA-256 of the lock, versions."""

    git_commit: str
    git_dirty: str
    lock_digest: str
    python: str
    platform: str
    packages: dict[str, str]


@cache
def provenance() -> Provenance:
    """Of this process; `unknown` where it cannot be told, never a guess."""
    lock = PROJECT / "requirements.lock"
    names = ("bone-age", "keras", "tensorflow", "onnxruntime", "numpy", "opencv-python-headless", "mlflow", "zenml",
             "optuna")  # fmt: skip
    return Provenance(
        git_commit=_git("rev-parse", "HEAD") or os.environ.get("BONE_AGE_GIT_COMMIT", UNKNOWN),
        git_dirty=_dirty(),
        lock_digest=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else UNKNOWN,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in names},
    )


def lock_of(digest: str, commit: str) -> bytes | None:
    """The lock with that SHA-256 (hex), a whole environment's or an image's: today's, else the commit's, or None."""
    for name in LOCKS:
        for found in (_today(name), _committed(name, commit)):
            if found is not None and hashlib.sha256(found).hexdigest() == digest:
                return found
    return None


def _today(name: str) -> bytes | None:
    lock = PROJECT / name
    return lock.read_bytes() if lock.is_file() else None


def _committed(name: str, commit: str) -> bytes | None:
    command = ["git", "-C", str(PROJECT), "cat-file", "blob", f"{commit}:{name}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def operator() -> str:
    """Who runs this process: `BONE_AGE_ACTOR`, else the name that this machine knows."""
    try:
        return os.environ.get("BONE_AGE_ACTOR", "").strip() or getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def code_digest(*parts: str) -> str:
    """SHA-256 (hex) over source files of the package: of the named sub-packages or modules, in a fixed order."""
    digest = hashlib.sha256()
    for part in parts:
        place = PACKAGE / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            digest.update(file.relative_to(PACKAGE).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PROJECT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _dirty() -> str:
    status = _git("status", "--porcelain")
    return UNKNOWN if status is None else str(bool(status)).lower()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
