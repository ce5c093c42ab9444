"""A process that decodes what it is sent and says what that cost in memory (`python -m tests.decoding`)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Outcome:
    """What became of some bytes.

    Attributes:
        refusal: The `ImageError`'s message; None where there is a picture.
        shape, dtype: The picture's.
        peak_mb: The most memory that the process and the child it may start held meanwhile, interpreter, libraries and
            file included.
    """

    refusal: str | None
    shape: list[int]
    dtype: str
    peak_mb: float


class DecodingProcess:
    """Its death, silence, or an exception other than `ImageError` is an error here."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.decoding"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[1], **pipes)

    def decode(self, data: bytes) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(data).to_bytes(8, "big") + data)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise AssertionError(f"decoding ended the process ({self._process.returncode}): {said.decode()[-2000:]}")
        return Outcome(**json.loads(line))

    def close(self) -> None:
        self._process.communicate()


def _decode_for_ever() -> None:
    from bone_age.imaging import ImageError, decode_image

    while size := int.from_bytes(sys.stdin.buffer.read(8), "big"):
        data = sys.stdin.buffer.read(size)
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's own measure of the peak starts anew
        picture, refusal = None, None
        with _watched_children() as together_mb:
            try:
                picture = decode_image(data)
            except ImageError as error:
                refusal = str(error)
        said = {
            "refusal": refusal,
            "shape": [] if picture is None else list(picture.shape),
            "dtype": "" if picture is None else str(picture.dtype),
            "peak_mb": max(_peak_mb(), *together_mb),
        }
        del picture
        print(json.dumps(said), flush=True)


@contextmanager
def _watched_children() -> Iterator[list[float]]:
    """What this process and its children hold together, MB, every few milliseconds."""
    process, done, together_mb = psutil.Process(), threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.005):
            with suppress(psutil.NoSuchProcess):
                children = process.children()
                if children:
                    held = [each.memory_info().rss for each in (process, *children)]
                    together_mb.append(sum(held) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield together_mb
    done.set()
    watcher.join()


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    _decode_for_ever()
