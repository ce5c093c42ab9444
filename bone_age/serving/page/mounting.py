"""Gradio on the application, behind the gate, with a private folder for uploads that is emptied as time goes by."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from gradio.state_holder import StateHolder
from starlette.routing import Mount

from bone_age.serving.desk import Desk
from bone_age.serving.page.card import card_page
from bone_age.serving.page.examples import draw_examples
from bone_age.serving.page.form import build_form
from bone_age.serving.page.gate import Gate
from bone_age.serving.page.look import head, theme
from bone_age.serving.rest.settings import MIB, load_settings

KEPT_SECONDS = 600
_SWEEP_EVERY_SECONDS = 30
_MAX_KEPT_BYTES = 2048 * MIB


def mount_page(app: FastAPI, desk: Desk) -> None:
    """Put the page at `/` and the model's card at `/model-card`; routes that are added later are not reached.

    Uploads lie in a folder that only this user reads, for `KEPT_SECONDS` at most, and go with the server. Who may
    ask is the guard's to say (`rest/guard.py`), for this page and its uploads as for the REST API.
    """
    folder = Path(tempfile.mkdtemp(prefix="bone-age-page-")).resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")  # the one way to tell Gradio
    examples = folder / "examples"
    for made in (folder / "uploads", examples):
        made.mkdir()

    @app.get("/model-card", response_class=HTMLResponse, include_in_schema=False)
    def model_card() -> HTMLResponse:
        predictor = desk.predictor
        return HTMLResponse(card_page(predictor.bundle, predictor.name))

    drawn = draw_examples(examples)
    page = build_form(desk, drawn)
    gradio.mount_gradio_app(
        app,
        page,
        "/",
        theme=theme(),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=load_settings().upload_mib * MIB,
        allowed_paths=[],
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        app_kwargs={"lifespan": _lifespan(folder, page)},
    )
    mount = app.router.routes[-1]
    assert isinstance(mount, Mount)
    mount.app = Gate(mount.app, head(drawn), folder / "uploads", _MAX_KEPT_BYTES)


def _lifespan(folder: Path, page: gradio.Blocks) -> Any:
    """While the server runs, forget what is older than `KEPT_SECONDS`; at the end, delete the folder."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(_SWEEP_EVERY_SECONDS)
                await asyncio.to_thread(delete_older, folder / "uploads", time.time() - KEPT_SECONDS)
                forget_visits(page.state_holder, time.time() - KEPT_SECONDS)

        sweeping = asyncio.create_task(sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            shutil.rmtree(folder, ignore_errors=True)

    return lifespan


def delete_older(folder: Path, than: float) -> None:
    """Delete files last written before a time (seconds since 1970), and folders that are empty and as old."""
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        try:
            if path.stat().st_mtime < than:
                path.rmdir() if path.is_dir() else path.unlink()
        except OSError:  # gone meanwhile, or a folder that is not empty
            continue


def forget_visits(visits: StateHolder, before: float) -> None:
    """Drop what Gradio remembers of visitors who last asked before a time (seconds since 1970)."""
    for visit, asked_at in list(visits.time_last_used.items()):
        if asked_at.timestamp() < before:
            visits.session_data.pop(visit, None)
            visits.time_last_used.pop(visit, None)
