"""A server on a loopback port of its own, in this process, for tests that ask it over real connections."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import numpy as np
from PIL import Image

from bone_age.data.synthetic import render_hand
from bone_age.serving.rest.connections import GracefulServer
from bone_age.serving.rest.later_page import Mount
from bone_age.serving.rest.server import Service, open_door, prepare
from bone_age.serving.rest.settings import ServeSettings


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    service: Service
    server: GracefulServer

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def ask(self, image: bytes, sex: str | None = "F", **fields: str) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/predict", files={"image": image}, data=({"sex": sex} if sex else {}) | fields)

    def wait_for_model(self, name: str, within_s: float = 20) -> None:
        eventually(lambda: self.service.desk.predictor.name == name, within_s)


def eventually(holds: Any, within_s: float = 20) -> None:
    """Wait until something holds; what it says last is the test's failure."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


@contextmanager
def serving(reference: str | None = None, mount: Mount | None = None, **settings: Any) -> Iterator[Served]:
    """A server whose model is loaded."""
    chosen = ServeSettings(**{"port": 0, "drain_s": 0, "poll_s": 0.1} | settings)
    door = open_door(chosen)
    service, server = prepare(chosen, reference, mount)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        assert service.follower.loaded.wait(60), service.follower.failure
        yield Served(f"http://127.0.0.1:{door.getsockname()[1]}", service, server)
    finally:
        server.leave()
        thread.join(30)
        assert not thread.is_alive()


def png(pixels: np.ndarray[Any, Any] | None = None) -> bytes:
    """A drawn hand that the reference model answers, or other pixels, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(hand() if pixels is None else pixels).save(file, "PNG")
    return file.getvalue()


@cache
def hand() -> np.ndarray[Any, Any]:
    """Uint8 [256, 208]."""
    return render_hand(48.0, "F", 1, 256, 208)
