from __future__ import annotations

import itertools
import os
import threading

import pytest

from bone_age.data.threads import IN_FLIGHT_PER_THREAD, stream_in_threads


def test_results_come_in_order_and_items_are_read_only_a_little_ahead() -> None:
    numbers = itertools.count()
    results = stream_in_threads(lambda item: item * 2, numbers, "doubling", total=1000)
    assert list(itertools.islice(results, 500)) == [2 * item for item in range(500)]
    assert next(numbers) <= 500 + (os.cpu_count() or 1) * IN_FLIGHT_PER_THREAD
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_the_first_exception_ends_it() -> None:
    done = []

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("broken")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="broken"):
        list(stream_in_threads(work, range(100_000), "working", total=100_000))
    assert len(done) < 1000
