"""Folders for what a step makes before it is handed to the artifact store.

They lie on the disk of the home, so that large arrays are linked, not copied, to their place. A step cannot know when
its result has been stored; the folders go when the process ends, and those of killed processes at the next start. Who
still works is told by a lock, which goes with its process however that ends: process numbers say nothing to another
container on the same home.
"""

from __future__ import annotations

import atexit
import fcntl
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from bone_age.settings import Home

LOCK = "in-use"
_held: list[IO[bytes]] = []  # open as long as this process lives


def scratch_folder() -> Path:
    """An empty folder that lives as long as this process."""
    return Path(tempfile.mkdtemp(dir=_own_folder(Home().prepare().root / "scratch")))


def is_in_use(folder: Path) -> bool:
    """Does a process still work in this folder? Yes, too, where the file system cannot tell."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


@cache
def _own_folder(parent: Path) -> Path:
    parent.mkdir(exist_ok=True)
    with (parent / ".lock").open("wb") as turn:  # or a folder is taken for left over before it is locked
        fcntl.flock(turn, fcntl.LOCK_EX)
        for folder in parent.iterdir():
            if folder.is_dir() and not is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)
        own = Path(tempfile.mkdtemp(dir=parent, prefix="of-"))
        lock = (own / LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
