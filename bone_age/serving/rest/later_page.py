"""The page at `/`, which takes seconds to import: loaded when the model is there, and until then a line that says so.

It is an application of its own beside the API, so that it can come later, with its own start and end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bone_age.serving.desk import Desk
from bone_age.serving.rest.guard import API, DOCUMENTS, is_under
from bone_age.serving.rest.journal import note, whereabouts
from bone_age.serving.rest.refusals import RefusedError, refusal_of

_LINE = """<!doctype html><html lang="en"><head><meta charset="utf-8">{head}<title>bone-age</title>
<meta name="viewport" content="width=device-width"></head><body><main><h1>bone-age</h1>
<p>{said} The REST API is described at <a href="/docs">/docs</a>.</p></main></body></html>"""
STARTING = _LINE.format(
    head='<meta http-equiv="refresh" content="1">', said="The page is starting and appears by itself in a few seconds."
)
FAILED = _LINE.format(head="", said="The page could not start; the server's log says why.")

Mount = Callable[[FastAPI, Desk], None]


def mount_gradio(app: FastAPI, desk: Desk) -> None:
    """Import Gradio and the page, and put it into `app`."""
    from bone_age.serving.page import mount_page

    mount_page(app, desk)


class LaterPage:
    """Hands paths of the API to `api`, and all others to the page."""

    def __init__(self, api: ASGIApp, mount: Mount | None) -> None:
        self._api, self._mount = api, mount
        self._page: FastAPI | None = None
        self._meanwhile, self._status = STARTING, 200
        self._lifetime = AsyncExitStack()
        self._closing = asyncio.Event()

    async def load(self, desk: Desk) -> None:
        """Import the page on a thread and start it; a page that cannot start leaves the API as it is."""
        if self._mount is None:
            return
        page = FastAPI(openapi_url=None, redirect_slashes=False)
        try:
            await asyncio.to_thread(self._mount, page, desk)
            await self._lifetime.enter_async_context(page.router.lifespan_context(page))
        except Exception as error:
            note("page_cannot_start", logging.ERROR, **whereabouts(error))
            self._meanwhile, self._status = FAILED, 503
            return
        self._page = page
        note("page_ready")

    def retire(self) -> None:
        """Let go of the streams that a browser holds open as long as the page is shown."""
        self._closing.set()

    async def close(self) -> None:
        await self._lifetime.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._mount is None or is_under(scope["path"], (*API, *DOCUMENTS)):
            await self._api(scope, receive, send)
        elif self._page is not None:
            await self._page(scope, self._until_closing(scope, receive), _in_one_shape(scope, receive, send))
        elif scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            await HTMLResponse(self._meanwhile, self._status)(scope, receive, send)
        else:
            starting = RefusedError(503, "not_ready", "the page is starting", {"Retry-After": "1"})
            await starting.response(scope["state"]["request_id"])(scope, receive, send)

    def _until_closing(self, scope: Scope, receive: Receive) -> Receive:
        if "/heartbeat/" not in scope["path"]:
            return receive

        async def received() -> Message:
            coming, closing = asyncio.ensure_future(receive()), asyncio.ensure_future(self._closing.wait())
            done, others = await asyncio.wait((coming, closing), return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            return coming.result() if coming in done else {"type": "http.disconnect"}

        return received


def _in_one_shape(scope: Scope, receive: Receive, send: Send) -> Send:
    """The page's own errors, text or Gradio's JSON, in the shape of all others; the JSON's sentence is kept."""
    start: Message = {}
    body = bytearray()

    async def sent(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and message["status"] >= 400:
            start = message
        elif not start:
            await send(message)
        else:
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                refusal = refusal_of(HTTPException(start["status"], _said(start, bytes(body))))
                await refusal.response(scope["state"]["request_id"])(scope, receive, send)

    return sent


def _said(start: Message, body: bytes) -> str | None:
    """The detail of a JSON error; of a form that Gradio did not understand, nothing."""
    if not Headers(raw=start["headers"]).get("content-type", "").startswith("application/json"):
        return None
    try:
        said = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        return None
    return said if isinstance(said, str) else None
