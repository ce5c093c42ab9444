"""Work over many radiographs in threads, with a progress bar.

Threads, not processes: reading, hashing and decoding release the interpreter lock, and nothing has to be copied from
one process to another. For results that are small: all of them are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bone_age.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """`[function(item) for item in items]` on all cores; the first exception ends it."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(track(pool.map(function, items), description, total=len(items)))
