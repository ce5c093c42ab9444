"""What goes over the wire, typed, with examples: the OpenAPI document is made from these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bone_age.growth import AgeConsistency, GrowthAssessment
from bone_age.serving.answering import OLDEST_MONTHS
from bone_age.serving.desk import Reply
from bone_age.serving.predictor import Predictor, Warning

_DIGEST = "9f2c1e0b7a64d853" * 4
_REQUEST = "5b1f0c9ad0c14f0c8f5a2f6f7c3f9f11"
_WARNING = {"code": "inverted", "message": "The radiograph looked inverted (dark bones) and was turned back."}
_ANSWER: dict[str, Any] = {
    "image": "upload",
    "bone_age_months": 124.318,
    "bone_age": "10 years 4 months",
    "lower_months": 110.902,
    "upper_months": 137.734,
    "interval_coverage": 0.9,
    "model": "models:/bone-age/7",
    "model_digest": _DIGEST,
    "dataset_fingerprint": "d657bea0037072aa" * 4,
    "flip_averaging": True,
    "warnings": [_WARNING],
    "growth": None,
    "age_consistency": None,
    "request_id": _REQUEST,
}


class Document(BaseModel):
    """Read off the package's own dataclasses."""

    model_config = ConfigDict(from_attributes=True, frozen=True, protected_namespaces=())


class AnswerDocument(Document):
    """One answer: the object that `bone-age predict --json` lists, and the request's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    image: str = Field(description="Always `upload`: file names can name patients, and are not repeated")
    bone_age_months: float
    bone_age: str = Field(description="The same in years and months")
    lower_months: float = Field(description="Lower end of the prediction interval")
    upper_months: float = Field(description="Upper end of the prediction interval")
    interval_coverage: float = Field(description="Share of radiographs whose bone age lies in the interval")
    model: str = Field(description="The version that answered, or `reference`")
    model_digest: str = Field(description="SHA-256 over the model's files")
    dataset_fingerprint: str = Field(description="SHA-256 over the images and labels it learned from")
    flip_averaging: bool = Field(description="Whether the months are the mean over the image and its mirror image")
    warnings: tuple[Warning, ...]
    growth: GrowthAssessment | None = Field(description="Only where the chronological age is known and in the table")
    age_consistency: AgeConsistency | None = Field(description="How the bone age agrees with the chronological age")
    request_id: str = Field(description="Names the answer in the logs, and for `/v1/feedback`")

    @classmethod
    def of(cls, reply: Reply) -> AnswerDocument:
        return cls.model_validate(reply.answered.prediction.to_json() | {"request_id": reply.request_id})


class ModelDocument(Document):
    """The model that answers now."""

    model: str
    model_digest: str
    architecture: str
    inputs: str
    image_size_px: int
    flip_averaging: bool
    dataset_name: str
    dataset_fingerprint: str
    synthetic: bool
    calibrated_for: str | None = Field(description="The site whose radiographs it was calibrated on, and measured on")
    test_mae_months: float = Field(description="On the test split of its own data set")
    interval_coverage: float
    git_commit: str
    warnings: tuple[Warning, ...] = Field(description="Said with every answer")

    @classmethod
    def of(cls, predictor: Predictor) -> ModelDocument:
        facts = predictor.bundle.facts
        same = ("architecture", "inputs", "flip_averaging", "dataset_name", "dataset_fingerprint", "synthetic",
                "git_commit")  # fmt: skip
        return cls(
            model=predictor.name,
            model_digest=predictor.digest,
            image_size_px=predictor.preprocessing.image_size_px,
            calibrated_for=facts.site.dataset_name if facts.site else None,
            test_mae_months=facts.test_mae,
            interval_coverage=predictor.calibration.coverage,
            warnings=predictor.standing_warnings,
            **{name: getattr(facts, name) for name in same},
        )


class Feedback(BaseModel):
    """What a reader found in the radiograph of an earlier answer."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"request_id": _REQUEST, "bone_age_months": 120, "reader": "R2"}]},
    )

    request_id: str = Field(min_length=1, max_length=128, pattern=r"^[!-~]+$", description="The answer's")
    bone_age_months: float = Field(ge=0, le=OLDEST_MONTHS, allow_inf_nan=False, strict=True)
    reader: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,16}$", description="A short code, not a name")


class FeedbackDocument(Document):
    """It is written."""

    status: Literal["recorded"]
    request_id: str


class StateDocument(Document):
    """Whether the server lives, or is ready."""

    status: Literal["ok", "ready"]


class ErrorDocument(Document):
    """Every error, whatever went wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"detail": "is not a PNG, JPEG or DICOM file", "reason": "unknown_format", "request_id": _REQUEST}
            ]
        }
    )

    detail: str = Field(description="For people, in one line")
    reason: str = Field(description="For programs")
    request_id: str = Field(description="Also in the header `X-Request-ID`")


ERRORS = {
    400: "The form is broken",
    401: "The token is missing or wrong",
    404: "No answer is on record under this request id",
    408: "The upload took too long",
    413: "The upload, or the picture in it, is too large",
    415: "No form, or no PNG, JPEG or DICOM file in it",
    422: "The question cannot be answered: fields, sex, age, or a picture that is no usable hand radiograph",
    503: "Busy, not ready, or too slow; `Retry-After` says when to come back",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: which errors an operation answers with."""
    return {status: {"description": ERRORS[status], "model": ErrorDocument} for status in statuses}


QUESTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "additionalProperties": False,
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "A hand radiograph: PNG, JPEG or DICOM, told by its bytes",
                        },
                        "sex": {
                            "type": "string",
                            "enum": ["M", "F"],
                            "description": "Never guessed; only a DICOM file that says it may come without",
                        },
                        "chronological_age_months": {
                            "type": "number",
                            "minimum": 0,
                            "maximum": OLDEST_MONTHS,
                            "description": "Age since birth on the day of the radiograph; adds a growth assessment",
                        },
                    },
                },
                "encoding": {"image": {"contentType": "image/png, image/jpeg, application/dicom"}},
            }
        },
    }
}
