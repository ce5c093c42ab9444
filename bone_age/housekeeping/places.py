"""The home: whose it is, who else can write to it, and how much room is left."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from bone_age.housekeeping.check import Check, State
from bone_age.settings import Home

ENOUGH_GB, LITTLE_GB = 10.0, 1.0  # a run of four networks leaves about 3 GB of artifacts and caches
GUARDED = ("ledger.db", "mlflow.db", "schedule.env")


def home_checks(home: Home) -> Iterator[Check]:
    """Nothing is created."""
    root = home.root
    if not root.is_dir():
        yield from _absent(root)
        yield _room(next(parent for parent in root.parents if parent.is_dir()))
        return
    owner = root.stat().st_uid
    if not os.access(root, os.W_OK | os.X_OK):
        said = f"{root} belongs to uid {owner} and cannot be written by uid {os.geteuid()}"
        yield Check("home", State.ERROR, said, f"`chown -R {os.geteuid()} {root}`, or another BONE_AGE_HOME")
    elif owner != os.geteuid():
        said = f"{root} belongs to uid {owner}, this is uid {os.geteuid()}"
        yield Check("home", State.WARNING, said, "run as its owner, or files of two owners get in each other's way")
    else:
        yield Check("home", State.OK, f"{root} can be written")
    open_to_all = [path for path in (root, *(root / name for name in GUARDED)) if path.exists() and _is_open(path)]
    if open_to_all:
        names = " ".join(map(str, open_to_all))
        yield Check("permissions", State.WARNING, f"anybody can write to {names}", f"`chmod o-w {names}`")
    foreign = [path for name in GUARDED if (path := root / name).exists() and not os.access(path, os.R_OK | os.W_OK)]
    for path in foreign:
        yield Check("permissions", State.ERROR, f"{path} cannot be read and written", f"`chown {os.geteuid()} {path}`")
    yield _room(root)


def _absent(root: Path) -> Iterator[Check]:
    if root.exists():
        yield Check("home", State.ERROR, f"{root} is no folder", "name another in BONE_AGE_HOME")
        return
    parent = next(parent for parent in root.parents if parent.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        yield Check("home", State.ABSENT, f"{root} is not there yet", "the first command that needs it makes it")
    else:
        yield Check("home", State.ERROR, f"{root} cannot be made in {parent}", "name another in BONE_AGE_HOME")


def _room(place: Path) -> Check:
    free = shutil.disk_usage(place).free / 1e9
    said = f"{free:.1f} GB free at {place}"
    if free < LITTLE_GB:
        return Check("disk", State.ERROR, said, "`bone-age prune` shows what may go")
    if free < ENOUGH_GB:
        return Check(
            "disk", State.WARNING, f"{said}; a training wants {ENOUGH_GB:g}", "`bone-age prune` shows what may go"
        )
    return Check("disk", State.OK, said)


def _is_open(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IWOTH)
