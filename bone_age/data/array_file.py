"""Large arrays on disk, written through a memory map whose space is reserved first.

A memory map on a full disk ends the process with SIGBUS and no word; reserving the space turns that into an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def create_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new `.npy` file, filled with zeros, as a writable memory map.

    Raises:
        OSError: There is no room for it; nothing is left behind.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return array
