"""`bone-age serve`: everything put together, started in the order that answers soonest, ended without losing anybody.

The door opens before the model is loaded, so that `/healthz` answers and `/readyz` says no; the page comes last.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from bone_age.errors import InputError
from bone_age.freed_memory import return_freed_memory
from bone_age.serving.desk import Desk, Reply
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.predictor import Predictor
from bone_age.serving.rest.app import create_api
from bone_age.serving.rest.champion import ChampionFollower
from bone_age.serving.rest.connections import GracefulServer, config_for
from bone_age.serving.rest.guard import Guard
from bone_age.serving.rest.journal import note, start_journal
from bone_age.serving.rest.later_page import LaterPage, Mount
from bone_age.serving.rest.metrics import Metrics
from bone_age.serving.rest.settings import ServeSettings
from bone_age.settings import Home

FLUSH_S = 10.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Recorded:
    """The prediction log as a witness of the desk."""

    def __init__(self, log: PredictionLog, current: Callable[[], Predictor | None]) -> None:
        self._log, self._current = log, current

    def answered(self, reply: Reply, seconds: float) -> None:
        self._log.record(reply.request_id, reply.sex, reply.answered, seconds)

    def refused(self, error: Exception) -> None:
        model = self._current()
        if model is not None:
            self._log.record_refusal(error, model.digest)


class Service:
    """An application for uvicorn, with its beginning and its end."""

    def __init__(self, settings: ServeSettings, reference: str | None, mount: Mount | None) -> None:
        self.metrics, self.log = Metrics(), PredictionLog.open(Home())
        self.follower = ChampionFollower(reference, settings.poll_s, self.metrics)
        self.desk = Desk(
            lambda: self.follower.current,
            settings.workers,
            settings.queue_size,
            settings.time_limit_s,
            witnesses=(self.metrics, _Recorded(self.log, lambda: self.follower.current)),
        )
        self.metrics.read_depth(lambda: self.desk.depth)
        self.page = LaterPage(create_api(settings, self.desk, self.log, self.metrics), mount)
        self._guarded = Guard(self.page, settings, self.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self._guarded(scope, receive, send)
        await receive()
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From before the first request until after the last."""
        page = asyncio.create_task(self._load_page())
        try:
            yield
        finally:
            self.follower.stop()
            await self.desk.close()
            page.cancel()
            await self.page.close()
            counts = await asyncio.to_thread(self.log.close, FLUSH_S)
            note("stopped", predictions_written=counts.written, predictions_dropped=counts.dropped)

    async def _load_page(self) -> None:
        while not self.desk.is_ready:
            await asyncio.sleep(0.1)
        await self.page.load(self.desk)

    def retire(self) -> None:
        """The end was asked for: not ready for new questions, though who comes is still answered."""
        note("leaving")
        self.desk.retire()
        self.page.retire()


def serve(settings: ServeSettings, reference: str | None, mount: Mount | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: The address cannot be had.
        ModelError: There is no usable model to begin with.
    """
    return_freed_memory()
    door = open_door(settings)
    start_journal()
    service, server = prepare(settings, reference, mount)
    host, port = door.getsockname()[:2]
    print(f"bone-age serves at http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C ends it)", flush=True)
    note("listening", port=port, token=settings.api_token is not None)
    if settings.api_token is None and settings.host not in LOOPBACK:
        note("open_to_the_network", logging.WARNING, advice="set BONE_AGE_API_TOKEN: anyone who reaches it may ask")
    server.run(sockets=[door])
    if service.follower.failure is not None:
        raise service.follower.failure


def prepare(settings: ServeSettings, reference: str | None, mount: Mount | None) -> tuple[Service, GracefulServer]:
    """A service whose model is being loaded, and the server to run it with."""
    service = Service(settings, reference, mount)
    server = GracefulServer(config_for(service, settings.time_limit_s + 5), settings.drain_s, service.retire)
    service.follower.start(on_failure=server.leave)
    return service, server


def open_door(settings: ServeSettings) -> socket.socket:
    """A listening socket, taken before anything is loaded.

    Raises:
        InputError: The address is taken, or is none of this machine's.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(2048)
    except OSError as error:
        raise InputError(f"cannot listen at {where}: {error.strerror}; choose another with --host and --port") from None
    return door
