"""The wire's documents against what the command line prints, and the page that describes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bone_age.serving.desk import Desk
from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL
from bone_age.serving.rest.app import create_api
from bone_age.serving.rest.documents import AnswerDocument
from bone_age.serving.rest.metrics import Metrics
from bone_age.serving.rest.openapi_page import openapi_page
from bone_age.serving.rest.settings import ServeSettings
from tests.served import png


@pytest.fixture(scope="module")
def openapi() -> dict:  # type: ignore[type-arg]
    log = PredictionLog.open("sqlite:////nowhere/predictions.db")
    return create_api(ServeSettings(), Desk(lambda: None), log, Metrics()).openapi()


def test_an_answer_has_the_keys_of_predict_json_and_the_request_id() -> None:
    predictor = Predictor.from_folder(REFERENCE_MODEL)
    keys = set(predictor.predict(png(), "F").to_json())
    assert set(AnswerDocument.model_fields) == keys | {"request_id"}


def test_every_error_of_every_operation_has_the_one_shape(openapi: dict) -> None:  # type: ignore[type-arg]
    for operations in openapi["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorDocument"}


def test_the_page_names_every_operation_and_nothing_of_another_host(openapi: dict) -> None:  # type: ignore[type-arg]
    page = openapi_page(openapi)
    for path in openapi["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script" not in page
    assert set(re.findall(r"https?://[^/<\s]+", page)) == {"http://127.0.0.1:8000"}


def test_the_page_escapes_what_the_document_holds(openapi: dict) -> None:  # type: ignore[type-arg]
    info = openapi["info"] | {"description": "<script>alert(1)</script>"}
    assert "<script" not in openapi_page(openapi | {"info": info})


def test_the_templates_are_part_of_the_package() -> None:
    import bone_age.serving.rest as package

    assert (Path(package.__file__).parent / "openapi_page.html.jinja").is_file()
