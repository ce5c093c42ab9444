"""A real browser before a real server: Debian's Chromium, driven by Playwright, and `bone-age serve` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parent.parent / "build" / "screenshots"
_STARTS_WITHIN_S = 120


@dataclass(frozen=True)
class RunningServer:
    """Its address, where it may put temporary files, and where it writes what it says."""

    url: str
    temporary: Path
    log: Path


@contextmanager
def running_server(folder: Path, **environment: str) -> Iterator[RunningServer]:
    """`bone-age serve` with the reference model in an empty home, until the page answers; ended by SIGTERM."""
    temporary, log = folder / "tmp", folder / "log"
    temporary.mkdir(parents=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BONE_AGE_", "MLFLOW_", "GRADIO_"))}
    places = {"BONE_AGE_HOME": str(folder / "home"), "TMPDIR": str(temporary)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bone_age.cli", "serve", "--port", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=inherited | places | environment,
        )
    try:
        yield RunningServer(_address_of(process, log), temporary, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()


def _address_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, once it says that the page is there."""
    until = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.2)
        said = log.read_text()
        if '"page_ready"' in said and (found := re.search(r"serves at (http://\S+?)/", said)):
            return found[1]
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


@dataclass
class Visit:
    """A page in a context of its own, and what the browser asked for and complained of."""

    page: Page
    server: str
    tolerated: tuple[str, ...] = ()
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._requested)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(self.tolerated):
            self.complaints.append(message.text)

    def foreign(self) -> list[str]:
        own = (f"{self.server}/", "data:", f"blob:{self.server}/")
        return [url for url in self.requests if not url.startswith(own)]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips where Chromium is absent."""
    if not CHROMIUM.exists():
        pytest.skip("needs Chromium: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
