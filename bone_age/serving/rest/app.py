"""The routes, and what they are wrapped in."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from bone_age.errors import BoneAgeError
from bone_age.imaging import ImageError
from bone_age.serving.desk import Desk, NotReadyError
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.rest.documents import (
    QUESTION,
    AnswerDocument,
    Feedback,
    FeedbackDocument,
    ModelDocument,
    StateDocument,
    errors,
)
from bone_age.serving.rest.metrics import Metrics
from bone_age.serving.rest.openapi_page import openapi_page
from bone_age.serving.rest.refusals import RefusedError, refusal_of
from bone_age.serving.rest.settings import ServeSettings
from bone_age.serving.rest.uploads import UploadRoom, read_question

LABEL = "upload"
DESCRIPTION = (
    "Bone age in months from a hand radiograph and the child's sex, with a prediction interval. Not a medical device. "
    "Every error is `{detail, reason, request_id}`."
)


def create_api(settings: ServeSettings, desk: Desk, log: PredictionLog, metrics: Metrics) -> FastAPI:
    """The REST API; the guard and the page are put around it by the server."""
    api = FastAPI(
        title="bone-age",
        version=version("bone-age"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _answer_errors(api, metrics)
    _add_questions(api, settings, desk)
    _add_feedback(api, log)
    _add_states(api, desk, log, metrics)
    _describe_token(api)

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(openapi_page(api.openapi()))

    return api


def _answer_errors(api: FastAPI, metrics: Metrics) -> None:
    async def answered(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, RefusedError | MultiPartException | RequestValidationError | ClientDisconnect):
            metrics.refused(error)  # the desk counts its own
        return refusal_of(error).response(request.state.request_id)

    expected = (
        ClientDisconnect,
        HTTPException,
        RequestValidationError,
        RefusedError,
        MultiPartException,
        BoneAgeError,
        ImageError,
    )
    for kind in (*expected, Exception):
        api.add_exception_handler(kind, answered)


def _add_questions(api: FastAPI, settings: ServeSettings, desk: Desk) -> None:
    room = UploadRoom(settings)

    @api.post(
        "/v1/predict",
        summary="Estimate the bone age of one radiograph",
        response_model=AnswerDocument,
        responses=errors(400, 401, 408, 413, 415, 422, 503),
        openapi_extra=QUESTION,
    )
    async def predict(request: Request) -> Any:
        with room.share() as share:
            asked = await read_question(request, share)
            months = asked.chronological_age_months
            reply = await desk.answer(asked.image, asked.sex, months, LABEL, request.state.request_id)
        return AnswerDocument.of(reply)

    @api.get(
        "/v1/model",
        summary="Which model answers now, and what it learned from",
        response_model=ModelDocument,
        responses=errors(401, 503),
    )
    async def model() -> Any:
        return ModelDocument.of(desk.predictor)


def _add_feedback(api: FastAPI, log: PredictionLog) -> None:
    @api.post(
        "/v1/feedback",
        summary="Attach a reader's bone age to an earlier answer",
        response_model=FeedbackDocument,
        responses=errors(400, 401, 404, 413, 422, 503),
    )
    async def feedback(told: Feedback) -> Any:
        await asyncio.to_thread(log.feedback, told.request_id, told.bone_age_months, told.reader)
        return {"status": "recorded", "request_id": told.request_id}


def _add_states(api: FastAPI, desk: Desk, log: PredictionLog, metrics: Metrics) -> None:
    @api.get("/healthz", summary="Whether the process lives", response_model=StateDocument)
    async def healthz() -> Any:
        return {"status": "ok"}

    @api.get(
        "/readyz",
        summary="Whether questions are answered: a model is loaded, and the server is not shutting down",
        response_model=StateDocument,
        responses=errors(503),
    )
    async def readyz() -> Any:
        if not desk.is_ready:
            raise NotReadyError("no model is loaded yet, or the server is shutting down")
        return {"status": "ready"}

    @api.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(401)},
    )
    async def read_metrics() -> Response:
        return Response(metrics.text(log.counts()), media_type=CONTENT_TYPE_LATEST)


def _describe_token(api: FastAPI) -> None:
    """Say in the OpenAPI document where a token is needed, if one is set."""
    document = api.openapi()
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operations in document["paths"].values():
        for operation in operations.values():
            if "401" in operation["responses"]:
                operation["security"] = [{"token": []}]
