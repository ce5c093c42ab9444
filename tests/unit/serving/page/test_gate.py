"""What the gate lets through to Gradio, and what it changes on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from bone_age.serving.page.gate import MAX_QUESTION_BYTES, Gate

START_PAGE = """<html><head><meta property="og:image" content="https://elsewhere.example/x.jpg" />
<link rel="manifest" href="/manifest.json" /><title>x</title></head><body></body></html>"""


async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
    """In Gradio's place: says what reached it."""
    body = (await receive()).get("body", b"") if scope["method"] == "POST" else b""
    response: Response = JSONResponse({"path": scope["path"], "body": body.decode()})
    if scope["path"] == "/":
        response = HTMLResponse(START_PAGE)
    await response(scope, receive, send)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(Gate(gradio, "<style></style>", tmp_path, max_kept_bytes=1000))


def test_the_start_page_names_no_other_host(client: TestClient) -> None:
    page = client.get("/").text
    assert "//" not in page
    assert "manifest" not in page
    assert page.index("<style></style>") < page.index("</head>")
    assert client.head("/").text == ""


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=/etc/passwd", "/gradio_api/file/x", "/gradio_api/proxy=http://a", "/gradio_api/run/x", "/login",
     "/gradio_api/call/x", "/gradio_api/info", "/gradio_api/component_server", "/monitoring", "/gradio_api/vibe-edit",
     "/gradio_api/deep_link", "/gradio_api/stream/x", "/gradio_api/dev/reload", "/manifest.json", "/gradio_api/",
     "/gradio_api/queue/join/../../file=/etc/passwd", "//etc/passwd"],
)  # fmt: skip
def test_other_routes_of_gradio_are_closed(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


@pytest.mark.parametrize("path", ["/gradio_api/queue/data", "/gradio_api/heartbeat/x", "/config", "/theme.css"])
def test_what_the_page_needs_is_open(client: TestClient, path: str) -> None:
    assert client.get(path).json()["path"] == path


def test_scripts_are_kept_by_browsers_and_nothing_else_is(client: TestClient) -> None:
    assert "immutable" in client.get("/assets/a.js").headers["cache-control"]
    assert "cache-control" not in client.get("/config").headers


def test_a_question_names_uploads_and_nothing_else(client: TestClient, tmp_path: Path) -> None:
    def join(path: Any) -> Response:
        return client.post("/gradio_api/queue/join", content=json.dumps({"data": [[{"deep": {"path": path}}]]}))

    own = str(tmp_path / "ab12" / "hand.png")
    answer = join(own)
    assert answer.status_code == 200
    assert own in json.loads(answer.json()["body"])["data"][0][0]["deep"]["path"]
    for path in ("/etc/passwd", "http://a/x", str(tmp_path / ".." / "x"), "hand.png", 7, [own], {}):
        assert join(path).status_code == 400, path


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b" " * (MAX_QUESTION_BYTES + 1)])
def test_what_is_no_question_is_refused(client: TestClient, content: bytes) -> None:
    assert client.post("/gradio_api/queue/join", content=content).status_code == 400


def test_uploads_wait_while_too_many_are_kept(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/gradio_api/upload").status_code == 200
    (tmp_path / "x").write_bytes(bytes(1001))
    assert client.post("/gradio_api/upload").status_code == 503
