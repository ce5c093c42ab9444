"""Every error as a status, a reason for programs and a sentence for people: one shape, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from bone_age.errors import DatabaseUnavailableError, InputError, UnknownRequestError
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.imaging import ImageError
from bone_age.imaging.grey import ImageTooLargeError, UnknownFormatError
from bone_age.serving.desk import BusyError, NotReadyError, TooSlowError


@dataclass
class RefusedError(Exception):
    """A request that gets no answer; `headers` go with it."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    def response(self, request_id: str) -> JSONResponse:
        body = {"detail": self.detail, "reason": self.reason, "request_id": request_id}
        return JSONResponse(body, self.status, headers=dict(self.headers))


# The first that fits is taken.
_KNOWN: tuple[tuple[type[Exception], int, str], ...] = (
    (UnlikeTrainingError, 422, "unlike_training"),
    (UnknownFormatError, 415, "unknown_format"),
    (ImageTooLargeError, 413, "image_too_large"),
    (ImageError, 422, "unusable_image"),
    (UnknownRequestError, 404, "unknown_request"),
    (InputError, 422, "unusable_question"),
    (ClientDisconnect, 400, "upload_broken_off"),
    (MultiPartException, 400, "malformed_upload"),
    (DatabaseUnavailableError, 503, "database_unavailable"),
    (NotReadyError, 503, "not_ready"),
    (TooSlowError, 503, "too_slow"),
)
_HTTP = {
    400: "malformed_upload",
    404: "not_found",
    405: "method_not_allowed",
    422: "unusable_question",
    500: "internal_error",
    503: "busy",
}


def refusal_of(error: Exception) -> RefusedError:
    """What is told of an error; of one that nobody expected, nothing but that it happened."""
    match error:
        case RefusedError():
            return error
        case BusyError():
            return RefusedError(503, "busy", str(error), {"Retry-After": str(error.retry_after_s)})
        case HTTPException():
            reason = _HTTP.get(error.status_code, "refused")
            return RefusedError(error.status_code, reason, error.detail, error.headers or {})
        case RequestValidationError():
            return RefusedError(422, "unusable_question", "; ".join(map(_in_words, error.errors())))
    for kind, status, reason in _KNOWN:
        if isinstance(error, kind):
            return RefusedError(status, reason, str(error), {"Retry-After": "1"} if status == 503 else {})
    return RefusedError(500, "internal_error", "the server made a mistake; its log names this request's id")


def _in_words(issue: Mapping[str, object]) -> str:
    place = issue["loc"]
    names = [str(part) for part in place if part != "body"] if isinstance(place, tuple) else []
    return f"{'.'.join(names) or 'body'}: {issue['msg']}"
