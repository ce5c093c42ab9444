"""The log names no patient, whatever a library or an error says."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from bone_age.errors import InputError
from bone_age.serving.rest.journal import JsonLines, note, whereabouts


def formatted(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = json.loads(JsonLines().format(record))
    return found


def test_a_librarys_message_and_an_errors_are_left_out() -> None:
    try:
        int("Jane Doe")
    except ValueError:
        record = logging.LogRecord("lib", logging.ERROR, "x.py", 3, "file %s", ("Jane Doe.dcm",), sys.exc_info())
    found = formatted(record)
    assert "Doe" not in json.dumps(found)
    assert (found["logger"], found["error"]) == ("lib", "ValueError")


def test_a_note_is_one_json_object(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bone_age.serving"):
        note("request", status=200, route="/v1/predict\n{")
    found = formatted(caplog.records[-1])
    assert (found["event"], found["status"], found["level"]) == ("request", 200, "info")


def test_an_error_is_named_by_type_and_place() -> None:
    from bone_age.serving.rest.settings import load_settings

    with pytest.raises(InputError) as caught:
        load_settings(port="Jane Doe")
    found = whereabouts(caught.value)
    assert found["place"].startswith("serving/rest/settings.py:")
    assert "Doe" not in json.dumps(found)
