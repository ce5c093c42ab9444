"""How the server runs: every field is an environment variable `BONE_AGE_SERVE_…`; the token is `BONE_AGE_API_TOKEN`."""

from __future__ import annotations

import os
import re
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bone_age.errors import InputError

PREFIX = "BONE_AGE_SERVE_"
MIB = 1024**2


class ServeSettings(BaseSettings):
    """Where to listen, and how much of the machine strangers may take."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(2, ge=1, le=64)  # one reads an image while the network is busy with another
    queue_size: int = Field(64, ge=0, le=10_000)
    time_limit_s: float = Field(30, gt=0, le=600)  # from the whole upload to the answer
    upload_time_limit_s: float = Field(30, gt=0, le=600)
    upload_mib: int = Field(64, ge=1, le=128)  # uncompressed, 16 bit: 32 megapixels, more than detectors have
    uploads_mib: int = Field(256, ge=1)  # all that are held at a time
    poll_s: float = Field(3, ge=0.05, le=3600)  # how often the registry is asked for the champion
    drain_s: float = Field(1, ge=0, le=120)  # after SIGTERM `/readyz` is false for so long before the door closes
    page: bool = True
    frame_ancestors: str = ""  # sites that may show the page in a frame, as CSP names them; none by default
    api_token: SecretStr | None = Field(None, validation_alias="BONE_AGE_API_TOKEN")

    @field_validator("frame_ancestors")
    @classmethod
    def _are_sites(cls, sites: str) -> str:
        if not all(re.fullmatch(r"https?://[\w.*-]+(:\d+)?", site, re.ASCII) for site in sites.split()):
            raise ValueError("expected sites as https://example.org, with blanks between them")
        return " ".join(sites.split())

    @field_validator("api_token")
    @classmethod
    def _usable(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None or not token.get_secret_value():
            return None
        if not all("!" <= character <= "~" for character in token.get_secret_value()):
            raise ValueError("only printable ASCII characters without blanks can be sent as a bearer token")
        return token


def load_settings(**chosen: Any) -> ServeSettings:
    """From the environment; what is chosen (and not None) goes before it.

    Raises:
        InputError: A variable has an unusable value or an unknown name; it is named, a token is not shown.
    """
    known = {f"{PREFIX}{name}".upper() for name in ServeSettings.model_fields if name != "api_token"}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise InputError(f"{unknown[0]} is no setting; known are {', '.join(sorted(known))}")
    try:
        return ServeSettings(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        raise InputError("; ".join(map(_in_words, error.errors()))) from None


def _in_words(issue: Any) -> str:
    name = str(issue["loc"][0])
    variable = name if name.startswith("BONE_AGE_") else f"{PREFIX}{name}".upper()
    shown = "" if "TOKEN" in variable else f" (is {issue['input']!r})"
    return f"{variable}: {issue['msg']}{shown}"
