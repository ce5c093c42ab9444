"""What every request passes on its way in and out: token, size and time of its body, headers, request id, a log line.

`/healthz` and `/readyz` are open, as load balancers bring no token; everything else needs it where one is set,
`/metrics` too (Prometheus can send one). A browser cannot send a bearer token, so on the page and `/docs` it may be
given as the password of HTTP Basic, under any name; not under `/v1`, and not by what another site's page asks for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bone_age.serving.rest.journal import note, whereabouts
from bone_age.serving.rest.metrics import Metrics
from bone_age.serving.rest.refusals import RefusedError, refusal_of
from bone_age.serving.rest.settings import MIB, ServeSettings

OPEN = ("/healthz", "/readyz")
API = ("/v1", "/metrics", "/openapi.json", *OPEN)
DOCUMENTS = ("/docs",)
FORM_BYTES = 16 * 1024  # boundaries, headers and short fields around the image
LINGER_S, LINGER_BYTES = 2.0, 32 * MIB

_NOTHING = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_CSP_API = f"default-src 'none'; {_NOTHING}"
_CSP_DOCUMENTS = f"default-src 'none'; style-src 'unsafe-inline'; {_NOTHING}"
# Gradio writes scripts and styles into its page, and shows pictures from memory; nothing comes from other hosts.
_CSP_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_under(path: str, places: tuple[str, ...]) -> bool:
    """Whether a path is one of the places or below one."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


class Guard:
    """The outermost layer; wraps the whole application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._upload_mib, self.upload_time_limit_s = settings.upload_mib, settings.upload_time_limit_s
        self.frame_ancestors = settings.frame_ancestors
        token = settings.api_token
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        await _Passage(self, scope, receive, send).run(self._app)

    def require_token(self, scope: Scope) -> None:
        """Raises:
        RefusedError: A token is needed and was not given.
        """
        if self._token is None or is_under(scope["path"], OPEN):
            return
        headers = Headers(scope=scope)
        with_basic = not is_under(scope["path"], API)
        given = _given_token(headers, with_basic and _is_own_site(scope["method"], headers))
        if not hmac.compare_digest(given, self._token):
            asked = 'Basic realm="bone-age", charset="UTF-8"' if with_basic else 'Bearer realm="bone-age"'
            raise RefusedError(401, "token_needed", "the token is missing or wrong", {"WWW-Authenticate": asked})

    def require_size(self, path: str, n_bytes: int) -> None:
        """Raises:
        RefusedError: So many bytes are too many.
        """
        without_image = is_under(path, API) and path != "/v1/predict"
        if n_bytes > FORM_BYTES + (0 if without_image else self._upload_mib * MIB):
            limit = f"{FORM_BYTES // 1024} KiB" if without_image else f"{self._upload_mib} MiB"
            raise RefusedError(413, "upload_too_large", f"the upload exceeds the limit of {limit}")

    def passed(self, scope: Scope, status: int, seconds: float) -> None:
        """Write down a request that was answered; by its route, since a path can hold anything."""
        route = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requested(route, method, status)
        if route in OPEN and status == 200:
            return  # load balancers ask every second
        request_id = scope["state"]["request_id"]
        note("request", route=route, method=method, status=status, seconds=round(seconds, 4), request_id=request_id)

    def refused(self, error: Exception) -> None:
        self._metrics.refused(error)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def route_of(scope: Scope) -> str:
    """The route that a request met: its pattern, `page`, or `unknown`."""
    found = getattr(scope.get("route"), "path", None)
    if isinstance(found, str):
        return found
    return "unknown" if is_under(scope["path"], (*API, *DOCUMENTS)) else "page"


class _Passage:
    """One request on its way."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._read_bytes, self._body_read, self._status = 0, False, 0
        self._cut_off: RefusedError | None = None  # why the body was not read to its end
        self._replaced = False
        self._body_due_at = asyncio.get_running_loop().time() + guard.upload_time_limit_s
        self._headers = Headers(scope=scope)
        self._request_id = scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex

    async def run(self, app: ASGIApp) -> None:
        started = time.perf_counter()
        try:
            await self._refuse_or_run(app)
        except Exception as error:
            if self._cut_off is None:
                note("error", logging.ERROR, request_id=self._request_id, **whereabouts(error))
            if not self._status:
                await refusal_of(error).response(self._request_id)(self._scope, self._receive, self.send)
        finally:
            self._guard.passed(self._scope, self._status or 499, time.perf_counter() - started)

    async def _refuse_or_run(self, app: ASGIApp) -> None:
        try:
            self._guard.require_token(self._scope)
            declared = self._headers.get("content-length", "")
            self._guard.require_size(self._scope["path"], int(declared) if declared.isdecimal() else 0)
        except RefusedError as refusal:
            self._guard.refused(refusal)
            return await refusal.response(self._request_id)(self._scope, self._receive, self.send)
        await app(self._scope, self.receive, self.send)

    async def receive(self) -> Message:
        """The body within its limits of size and time, whatever length was declared."""
        if self._body_read:
            return await self._receive()  # waits until the client goes away
        try:
            message = await self._body_in_time()
            if message["type"] == "http.request":
                self._read_bytes += len(message.get("body", b""))
                self._body_read = not message.get("more_body", False)
                self._guard.require_size(self._scope["path"], self._read_bytes)
            else:
                self._cut_off = refusal_of(ClientDisconnect())
        except RefusedError as refusal:
            self._cut_off = refusal
            raise
        return message

    async def _body_in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._body_due_at):
                return await self._receive()
        except TimeoutError:
            limit = self._guard.upload_time_limit_s
            raise RefusedError(408, "upload_too_slow", f"the upload took longer than {limit:g} s") from None

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        failed = message["type"] == "http.response.start" and message["status"] >= 400
        if failed and self._cut_off is not None and message["status"] != self._cut_off.status:
            # FastAPI and Gradio take what `receive` raised for a broken body or a fault of their own
            self._guard.refused(self._cut_off)
            await self._cut_off.response(self._request_id)(self._scope, self._receive, self.send)
            self._replaced = True
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            self._add_headers(headers)
            if self._status >= 400 and not self._body_read:
                await self._linger()
                if not self._body_read:
                    headers["Connection"] = "close"
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        path = self._scope["path"]
        headers["X-Request-ID"] = self._request_id
        for name, value in _HEADERS.items():
            headers[name] = value
        own = is_under(path, (*API, *DOCUMENTS))
        documents = is_under(path, DOCUMENTS)
        framed_by = self._guard.frame_ancestors
        page = _CSP_PAGE + (framed_by or "'none'")
        headers["Content-Security-Policy"] = _CSP_DOCUMENTS if documents else _CSP_API if own else page
        if framed_by and not own:
            del headers["X-Frame-Options"]  # knows no list of sites, and browsers that know CSP need it not
        if own or "cache-control" not in headers:
            headers["Cache-Control"] = "no-store"
        if "server" in headers:
            del headers["server"]

    async def _linger(self) -> None:
        """Read on a little and throw it away: who is still sending would not see an answer, only a broken pipe."""
        if "expect" in self._headers:
            return  # waits for leave to send, and gets the answer instead
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                left = LINGER_BYTES
                while left > 0 and not self._body_read:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._body_read = not message.get("more_body", False)


def _given_token(headers: Headers, with_basic: bool) -> bytes:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic" and with_basic:
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    return b""


def _is_own_site(method: str, headers: Headers) -> bool:
    """Browsers send Basic credentials by themselves, also for what another site's page asks them to fetch.

    A link on another site's page may be followed: the page it leads to cannot be framed or read from there.
    """
    follows_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    return follows_link or headers.get("sec-fetch-site", "none") in ("same-origin", "none")
