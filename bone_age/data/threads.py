"""Work over many radiographs in threads, in order, with a progress bar and a bounded number in flight.

Threads, not processes: reading, hashing, decoding and OpenCV release the interpreter lock, and nothing has to be copied
from one process to another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bone_age.progress import bar

Item = TypeVar("Item")
Result = TypeVar("Result")
IN_FLIGHT_PER_THREAD = 16


def stream_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Yield `function(item)` for all items on all cores; the first exception ends it."""
    threads = os.cpu_count() or 1
    chunk = threads * IN_FLIGHT_PER_THREAD
    with ThreadPoolExecutor(threads) as pool, bar() as progress:
        task = progress.add_task(description, total=len(items), note="")
        for start in range(0, len(items), chunk):
            for result in pool.map(function, items[start : start + chunk]):
                progress.advance(task)
                yield result


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """`[function(item) for item in items]` on all cores, for results that are small."""
    return list(stream_in_threads(function, items, description))
