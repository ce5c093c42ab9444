"""What happens to memory that a program frees: kept for the next time, or returned to the kernel. glibc alone."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h


def keep_freed_memory() -> None:
    """Reuse what a training step frees instead of giving it back to the kernel after every step.

    TensorFlow's host memory comes from malloc; by default each step maps and faults its buffers anew. On two cores this
    took 6 % of the time of an Xception step, and half of it where page faults are dear (benchmarks/training_step.py).
    """
    _set({_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30, _ARENA_MAX: 1})


def return_freed_memory() -> None:
    """Return what an answer frees as soon as it is there: a server waits longer than it answers.

    glibc by itself raises its thresholds to the largest blocks it sees, up to 32 MB, and then keeps them, for each
    thread (benchmarks/serving_load.py: some 820 MB instead of 580, and at most 680 while models change).
    """
    _set({_TRIM_THRESHOLD: 2**24, _MMAP_THRESHOLD: 2**20, _ARENA_MAX: 2})


def give_back_freed_memory() -> None:
    """Return now what has been kept so far."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in options.items():
            mallopt(option, value)
