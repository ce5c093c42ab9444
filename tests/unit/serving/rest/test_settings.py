"""What the environment may say, and what it is told when it says something else."""

from __future__ import annotations

import pytest

from bone_age.errors import InputError
from bone_age.serving.rest.settings import load_settings


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_AGE_SERVE_PORT", "9000")
    monkeypatch.setenv("BONE_AGE_SERVE_HOST", "0.0.0.0")
    assert load_settings(port=None).port == 9000
    assert load_settings(port=7).port == 7
    assert load_settings(port=7).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BONE_AGE_SERVE_PORT", "http", "BONE_AGE_SERVE_PORT"),
        ("BONE_AGE_SERVE_WORKERS", "0", r"BONE_AGE_SERVE_WORKERS: .*\(is '0'\)"),
        (
            "BONE_AGE_SERVE_FRAME_ANCESTORS",
            "https://a.org; script-src *",
            "BONE_AGE_SERVE_FRAME_ANCESTORS: .*expected sites",
        ),
        ("BONE_AGE_SERVE_WORKES", "2", "BONE_AGE_SERVE_WORKES is no setting; known are"),
    ],
)
def test_an_unusable_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        load_settings()


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_AGE_API_TOKEN", "two words")
    with pytest.raises(InputError, match="BONE_AGE_API_TOKEN") as error:
        load_settings()
    assert "two words" not in str(error.value)
    monkeypatch.setenv("BONE_AGE_API_TOKEN", "")
    assert load_settings().api_token is None
    monkeypatch.setenv("BONE_AGE_API_TOKEN", "s3cret")
    assert "s3cret" not in repr(load_settings())
