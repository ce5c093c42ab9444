"""Work over many radiographs in threads, in order, with a progress bar and a bounded number in flight.

Threads, not processes: reading, hashing, decoding and OpenCV release the interpreter lock, and nothing has to be copied
from one process to another.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bone_age.progress import bar

Item = TypeVar("Item")
Result = TypeVar("Result")
IN_FLIGHT_PER_THREAD = 16


def stream_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], description: str, total: int, done: int = 0
) -> Iterator[Result]:
    """Yield `function(item)` for all items on all cores; the first exception ends it.

    Args:
        items: Read only as far ahead as there are threads to keep busy.
        total, done: For the progress bar: how many there are, and how many were done before.
    """
    threads = os.cpu_count() or 1
    in_flight: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool, bar() as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def oldest() -> Result:
            result = in_flight.popleft().result()
            progress.advance(task)
            return result

        try:
            for item in items:
                in_flight.append(pool.submit(function, item))
                if len(in_flight) >= threads * IN_FLIGHT_PER_THREAD:
                    yield oldest()
            while in_flight:
                yield oldest()
        finally:
            pool.shutdown(cancel_futures=True)


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """`[function(item) for item in items]` on all cores, for results that are small."""
    return list(stream_in_threads(function, items, description, len(items)))
