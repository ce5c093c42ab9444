"""The one preprocessing of a radiograph (to be completed)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class ClaheSettings(BaseModel):
    """Contrast-limited adaptive histogram equalisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip_limit: float = Field(2.0, gt=0, le=40)
    tiles: int = Field(8, ge=1, le=32)


class PreprocessingSettings(BaseModel):
    """What is done to every image, recorded with every model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size_px: int = Field(299, ge=32, le=2048)
    fit: Literal["stretch", "letterbox"] = "letterbox"
    orient: bool = True
    undo_inversion: bool = True
    clahe: ClaheSettings | None = ClaheSettings()


def preprocess(image: np.ndarray, settings: PreprocessingSettings) -> np.ndarray: ...
