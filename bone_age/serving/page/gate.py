"""What stands before Gradio: it lets through what the page needs, and nothing else of Gradio's many routes.

Gradio also serves files from disk, fetches addresses for whoever asks, keeps records of runs and shows its API. A
radiograph is a patient's: here no uploaded file can be fetched again by anybody, a question can name only files of the
private upload folder, and its own start page is cleaned of everything that points to another host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_QUESTION_BYTES = 256 * 1024
_API = "/gradio_api/"
_ASKED = frozenset({"queue/join", "queue/data", "upload", "upload_progress", "cancel", "reset", "startup-events"})
_SHOWN = ("/assets/", "/static/", "/svelte/")
_SINGLE = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt"})


@dataclass(frozen=True)
class Gate:
    """An ASGI application around Gradio's.

    Attributes:
        head: HTML to put at the end of the start page's head.
        folder: Where uploads lie; the only files a question may name.
        max_kept_bytes: Of all uploads that lie in the folder; beyond it, uploads wait until some were deleted.
    """

    gradio: Application
    head: str
    folder: Path
    max_kept_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._refuse(404, "not found", scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        route = path.removeprefix(_API).rstrip("/") if path.startswith(_API) else ""
        if not (path in _SINGLE or path.startswith(_SHOWN) or route in _ASKED or route.startswith("heartbeat/")):
            return await self._refuse(404, "not found", scope, receive, send)
        if path == "/":
            return await self._start_page(scope, receive, send)
        if route == "upload" and size_of(self.folder) > self.max_kept_bytes:
            return await self._refuse(
                503, "too many uploads at the moment; try again in a few minutes", scope, receive, send
            )
        if route == "queue/join":
            body = await _read(receive, MAX_QUESTION_BYTES)
            if body is None or not self._names_only_uploads(body):
                return await self._refuse(400, "not a question of this page", scope, receive, send)
            receive = _again(body, receive)
        await self.gradio(scope, receive, _kept_by_browsers(send) if path.startswith("/assets/") else send)

    def _names_only_uploads(self, body: bytes) -> bool:
        """Gradio would fetch an address that stands where a file's path does."""
        try:
            return all(Path(path).is_relative_to(self.folder) and ".." not in path for path in _paths(json.loads(body)))
        except (ValueError, RecursionError):
            return False

    async def _start_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's start page, cleaned, with `head` at the end of its head."""
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            is_head = scope["method"] == "HEAD"
            page = b"" if is_head else _cleaned(b"".join(parts).decode(), self.head).encode()
            headers = MutableHeaders(raw=list(start["headers"]))
            headers["cache-control"] = "no-store"
            if not is_head:
                headers["content-length"] = str(len(page))
            await send({"type": "http.response.start", "status": start["status"], "headers": headers.raw})
            await send({"type": "http.response.body", "body": page})

        await self.gradio({**scope, "headers": plain}, receive, collect)

    async def _refuse(self, status: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(reason, status)(scope, receive, send)


def _cleaned(page: str, head: str) -> str:
    page = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*', "", page)
    page = re.sub(r'<link rel="manifest"[^>]*>\s*', "", page)
    return page.replace("</head>", f"{head}</head>", 1)


def _paths(document: Any) -> list[str]:
    """What stands under `path` or `url` anywhere in a document."""
    if isinstance(document, list):
        return [path for value in document for path in _paths(value)]
    if not isinstance(document, dict):
        return []
    named = [str(document["path"])] if document.get("path") is not None else []
    return named + [path for value in document.values() for path in _paths(value)]


def _kept_by_browsers(send: Send) -> Send:
    """Gradio's scripts carry a digest in their names, and need not be fetched twice."""

    async def kept(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["cache-control"] = "private, max-age=31536000, immutable"
        await send(message)

    return kept


def size_of(folder: Path) -> int:
    sizes = []
    for file in folder.rglob("*"):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:  # deleted meanwhile
            continue
    return sum(sizes)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The request's body; None when it is longer than `limit` or broke off."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > limit:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, then what follows it."""
    given = False

    async def first_the_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first_the_body
