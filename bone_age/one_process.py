"""Work that one process does alone, and that a polite kill ends as Ctrl-C does."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

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


_AMID = ("sqlalchemy", "sqlmodel", "zenml.zen_stores", "mlflow.store")
_AGAIN_S = 0.05
_PATIENCE = 200  # ten seconds, for a database that does not answer


class _Interruption:
    """Turns signals into `KeyboardInterrupt` in the main thread, where that does no harm and is not lost.

    Raised within a database's session it would leave a transaction open, and its lock would stop the next statement
    for a minute; raised while Python calls back for an object that goes (`weakref`, `__del__`) it would be printed and
    forgotten. So the first is put off, and the second sent again.
    """

    def __init__(self) -> None:
        self._hook = sys.unraisablehook
        self._put_off = 0
        self._is_over = False
        self._timer: threading.Timer | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        self._put_off += 1
        if _is_amid_a_database(frame) and self._put_off < _PATIENCE:
            self._send_again(number)
            return
        self._put_off = 0
        raise KeyboardInterrupt

    def unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is KeyboardInterrupt:
            self._send_again(signal.SIGTERM)
        else:
            self._hook(lost)

    def end(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()  # or what it sends meets the handler of before, which ends the process

    def _send_again(self, number: int) -> None:
        self._timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()


def _is_amid_a_database(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_AMID):
            return True
        frame = frame.f_back
    return False


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A polite kill ends the work like Ctrl-C does, so that MLflow shows it as killed; both between statements."""
    interruption = _Interruption()
    before = {number: signal.signal(number, interruption.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    hook, sys.unraisablehook = sys.unraisablehook, interruption.unraisable
    try:
        yield
    finally:
        interruption.end()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
