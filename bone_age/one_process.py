"""Work that one process does alone, and that a polite kill ends as Ctrl-C does."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bone_age.errors import BusyError


@contextmanager
def alone(lock: Path, work: str) -> Iterator[None]:
    """Two processes that do the same work would write the same files; the lock goes with its process, however it ends.

    Args:
        lock: The file that is locked; its folder exists.
        work: What is done, for the message.
    Raises:
        BusyError: Another process is at it; the message says which.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise BusyError(f"another {work} (process {file.read() or '?'}) runs in {lock.parent}") from None
        if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
            raise BusyError(f"another {work} has just ended in {lock.parent}; start again")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A polite kill ends the work like Ctrl-C does, so that MLflow shows it as killed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
