"""Split-conformal prediction intervals: how far off the model may be for one child.

The half-width is a quantile of the absolute errors on the validation split, which holds for new radiographs drawn as
those were, whatever the shape of the errors. One width for all ages is too wide where errors are small and too narrow
where they are large, so each band of *predicted* age (the true one is unknown when serving) has its own width, but
only where at least 100 validation rows fall into it: from fewer rows a 90 % quantile is mostly noise, and the pooled
width stands in. The validation split also chose the epoch, so coverage is a little optimistic; that is why it is
measured again on the test split.

Sources: Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018;113:1094-1111; by band: Vovk,
Conditional validity of inductive conformal predictors, ACML 2012. Imports numpy and pydantic only: serving needs it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bone_age.errors import InputError, ModelError

# The bands of `manifest.AGE_BAND_EDGES_MONTHS`; importing that would bring pandas.
BAND_STARTS_MONTHS = (0.0, 60.0, 120.0, 168.0)
MIN_ROWS_FOR_BAND = 100

Months = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BandWidth(BaseModel):
    """Half-width for predictions from `from_months` up to the next band's start.

    Attributes:
        n_calibration: Validation rows whose prediction fell into the band.
        pooled: There were too few of them, so the half-width is that of all rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_months: Months
    n_calibration: int = Field(ge=0)
    half_width_months: Months
    pooled: bool


class IntervalCalibration(BaseModel):
    """What turns a prediction into a prediction interval; saved as JSON with every model.

    Attributes:
        coverage: Share of labels the intervals are made to hold, 0 to 1.
        n_calibration: Validation rows it was fitted on.
        half_width_months: Half-width from all of them.
        bands: Half-width by predicted age, in ascending order, the first from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["split-conformal by predicted-age band"] = "split-conformal by predicted-age band"
    coverage: float = Field(gt=0, lt=1)
    n_calibration: int = Field(ge=1)
    half_width_months: Months
    bands: tuple[BandWidth, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _bands_ascend_from_zero(self) -> Self:
        starts = [band.from_months for band in self.bands]
        if starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
            raise ValueError(f"bands must ascend from 0 months, start at {starts}")
        return self

    @classmethod
    def fit(cls, true_months: npt.ArrayLike, predicted_months: npt.ArrayLike, coverage: float) -> Self:
        """Calibrate on the validation split, both arguments of shape [n].

        Raises:
            InputError: Too few rows for the coverage (the message says how many it takes), shapes that differ, or a
                value that is not finite.
        """
        true = np.asarray(true_months, dtype=np.float64).ravel()
        predicted = np.asarray(predicted_months, dtype=np.float64).ravel()
        if len(true) != len(predicted):
            raise InputError(f"interval calibration: {len(predicted)} predictions for {len(true)} labels")
        errors = np.abs(predicted - true)
        if not np.isfinite(errors).all():
            row = int(np.argmin(np.isfinite(errors)))
            raise InputError(
                f"interval calibration: row {row}: {true[row]} true, {predicted[row]} predicted: not finite"
            )
        require_rows(len(errors), coverage)
        pooled = _conformal_quantile(errors, coverage)
        band_of_row = _band_of(predicted, BAND_STARTS_MONTHS)
        bands = []
        for band, start in enumerate(BAND_STARTS_MONTHS):
            inside = errors[band_of_row == band]
            is_pooled = len(inside) < max(MIN_ROWS_FOR_BAND, _rows_needed(coverage))
            width = pooled if is_pooled else _conformal_quantile(inside, coverage)
            bands.append(
                BandWidth(from_months=start, n_calibration=len(inside), half_width_months=width, pooled=is_pooled)
            )
        return cls(coverage=coverage, n_calibration=len(errors), half_width_months=pooled, bands=tuple(bands))

    def interval(self, predicted_months: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Lower and upper bound, months, in the shape of the predictions; neither is below 0.

        Raises:
            ModelError: A prediction is not finite.
        """
        predicted = np.asarray(predicted_months, dtype=np.float64)
        if not np.isfinite(predicted).all():
            raise ModelError("the model returned a bone age that is not a finite number")
        widths = np.array([band.half_width_months for band in self.bands])
        half = widths[_band_of(predicted, [band.from_months for band in self.bands])]
        return np.maximum(predicted - half, 0.0), np.maximum(predicted + half, 0.0)

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a saved calibration.

        Raises:
            ModelError: The file is absent or is no calibration.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ModelError(f"{path}: no interval calibration: {where}: {first['msg']}") from None


def require_rows(n_validation: int, coverage: float) -> None:
    """Refuse a validation split that is too small for intervals, before hours are spent on training.

    Raises:
        InputError: The message says how many rows it takes.
    """
    needed = _rows_needed(coverage)
    if n_validation < needed:
        raise InputError(
            f"{coverage:.0%} prediction intervals need at least {needed} validation rows, there are {n_validation}"
        )


def _rows_needed(coverage: float) -> int:
    """The smallest n for which the quantile below is one of the n errors."""
    return math.ceil(round(coverage / (1 - coverage), 9))


def _conformal_quantile(errors: npt.NDArray[np.float64], coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest error: with it, coverage holds for any n, not just for large ones."""
    rank = math.ceil(round((len(errors) + 1) * coverage, 9))
    return float(np.partition(errors, rank - 1)[rank - 1])


def _band_of(predicted: npt.NDArray[np.float64], starts: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Index of the band of each prediction; what lies below the first band (a negative prediction) belongs to it."""
    return np.maximum(np.searchsorted(np.asarray(starts), predicted, side="right") - 1, 0)
