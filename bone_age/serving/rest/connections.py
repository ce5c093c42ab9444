"""uvicorn's server and connection, with what keeps a request from being lost when the server ends.

uvicorn closes a connection at once on which no request was read yet, although its bytes may lie in the socket already.
Here such a connection is given a moment. Connections that the kernel has made and nobody has taken yet are reset when
the listening socket closes; so newcomers are turned away first, and those are taken. Who connects and says nothing, or
says it byte by byte, is cut off.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import select
import signal
import socket
import struct
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

LAST_MOMENT_S = 0.5
HEADERS_WITHIN_S = 10.0
DOOR_EMPTY_WITHIN_S = 2.0
HANDSHAKE_S = 0.05

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h
_DROP_FIRST_PACKETS = (  # classic BPF over the TCP header: drop what has SYN and not ACK, keep the rest
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0x40000),
)


class Connection(H11Protocol):
    """One client's connection."""

    _waiting: asyncio.TimerHandle | None = None

    @property
    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_request and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not self._in_request and self._waiting is None:
            self._wait_for_headers()

    def _wait_for_headers(self) -> None:
        self._waiting = self.loop.call_later(HEADERS_WITHIN_S, self._give_up)

    def _give_up(self) -> None:
        self._waiting = None
        if not self._in_request:
            self.transport.close()

    def shutdown(self) -> None:
        if self._in_request:
            super().shutdown()
        else:
            self.loop.call_later(LAST_MOMENT_S, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the one shape of errors too."""
        error = {"detail": "this is no HTTP request", "reason": "malformed_request", "request_id": uuid.uuid4().hex}
        body = json.dumps(error).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()


class GracefulServer(uvicorn.Server):
    """A server that says it is leaving before it leaves.

    Args:
        drain_s: After SIGTERM, questions are still taken for so long while `/readyz` is false.
        on_leaving: Called once, when the end was asked for.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, on_leaving: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s, self._on_leaving = drain_s, on_leaving
        self._leaves_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the server in order (SIGTERM after the drain); SIGINT again, at once."""
        if self._leaves_at is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit
            self.should_exit = True
        elif self._leaves_at is None:
            self.leave(self._drain_s if sig == signal.SIGTERM else 0.0)

    def leave(self, after_s: float = 0.0) -> None:
        """End in order; may be called from any thread."""
        self._leaves_at = time.monotonic() + after_s
        self._on_leaving()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in sockets or []:
            turn_newcomers_away(door)
        await asyncio.sleep(HANDSHAKE_S)
        deadline = time.monotonic() + DOOR_EMPTY_WITHIN_S
        while sockets and select.select(sockets, [], [], 0)[0] and time.monotonic() < deadline:
            await asyncio.sleep(0.005)  # meanwhile the event loop takes them
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)


def turn_newcomers_away(door: socket.socket) -> None:
    """Let a listening socket finish the connections that it has begun and begin no other.

    A client that comes now is not answered by the kernel; when it tries again, a second later, the door is closed and
    it is refused. Without Linux's filters one connection can still slip in.
    """
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_FIRST_PACKETS)
    kept = ctypes.create_string_buffer(program, len(program))
    try:
        door.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_FIRST_PACKETS), ctypes.addressof(kept))
        )
    except OSError:
        door.listen(0)


def config_for(app: Any, shutdown_limit_s: float) -> uvicorn.Config:
    """uvicorn without its own logs: they hold paths."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(shutdown_limit_s),
    )
