"""Folders for what a step makes before it is handed to the artifact store.

They lie on the disk of the home, so that large arrays are linked, not copied, to their place. A step cannot know when
its result has been stored; the folders go when the process ends, and those of killed processes at the next start.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from bone_age.settings import Home


def scratch_folder() -> Path:
    """An empty folder that lives as long as this process."""
    return Path(tempfile.mkdtemp(dir=_own_folder(Home().prepare().root / "scratch")))


@cache
def _own_folder(parent: Path) -> Path:
    parent.mkdir(exist_ok=True)
    for left_over in parent.glob("pid-*"):
        if not Path(f"/proc/{left_over.name.removeprefix('pid-')}").exists():
            shutil.rmtree(left_over, ignore_errors=True)
    own = parent / f"pid-{os.getpid()}"
    own.mkdir(exist_ok=True)
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
