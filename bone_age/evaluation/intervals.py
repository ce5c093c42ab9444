"""Split-conformal prediction intervals: how far off the model may be for one child.

The half-width is a quantile of the absolute errors on the validation split, which holds for new radiographs drawn as
those were, whatever the shape of the errors. One width for all ages is too wide where errors are small and too narrow
where they are large, so errors are first divided by their usual size at the *predicted* age (the true one is unknown
when serving): a line through six knots, each the mean error around it, drawn towards the mean of all by as much as ten
rows weigh, so that a knot with few rows follows the crowd. Bands with a width each, which were used before, jump at
their borders and need 100 rows a band (benchmarks/coverage.py compares the three). The usual size at a row is taken
from the other nine tenths of the rows, or the quantile would be of errors that made their own scale. The validation
split also chose the epoch, so coverage is a little optimistic; that is why it is measured again on the test split.

Sources: Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018;113:1094-1111 (its locally
weighted form). Imports numpy and pydantic only: serving needs it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bone_age.errors import InputError, ModelError
from bone_age.evaluation.linear_correction import LinearCorrection

KNOTS_MONTHS = (24.0, 60.0, 96.0, 132.0, 168.0, 204.0)
PRIOR_ROWS = 10.0
MIN_ROWS_TO_SCALE = 100
FOLDS = 10
MAX_ERROR_SD_MONTHS = 240.0

Months = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Knot(BaseModel):
    """Half-width where a bone age of `at_months` is predicted; between knots it follows the line.

    Attributes:
        n_calibration: Validation rows that weigh in, each by its nearness.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_months: Months
    n_calibration: float = Field(ge=0, allow_inf_nan=False)
    half_width_months: Months


class IntervalCalibration(BaseModel):
    """What turns a prediction into a prediction interval; saved as JSON with every model.

    Attributes:
        coverage: Share of labels the intervals are made to hold, 0 to 1.
        n_calibration: Validation rows it was fitted on.
        half_width_months: The one half-width that would hold for all ages; what the knots are to be compared with.
        knots: Half-width by predicted age, in ascending order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["split-conformal, scaled by predicted age", "that of another data set, rescaled"] = (
        "split-conformal, scaled by predicted age"
    )
    coverage: float = Field(gt=0, lt=1)
    n_calibration: int = Field(ge=1)
    half_width_months: Months
    knots: tuple[Knot, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _knots_ascend(self) -> Self:
        places = [knot.at_months for knot in self.knots]
        if any(after <= before for before, after in pairwise(places)):
            raise ValueError(f"knots must ascend, are at {places}")
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
        scale = np.ones(len(KNOTS_MONTHS))
        usual = np.ones(len(errors))
        if len(errors) >= MIN_ROWS_TO_SCALE:
            scale = _usual_error(errors, predicted)
            fold = np.arange(len(errors)) % FOLDS
            for held_out in range(FOLDS):
                of_others = _usual_error(errors[fold != held_out], predicted[fold != held_out])
                usual[fold == held_out] = _between_knots(predicted[fold == held_out], of_others)
        quantile = _conformal_quantile(errors / usual, coverage)
        nearness = _nearness(predicted).sum(axis=0)
        return cls(
            coverage=coverage,
            n_calibration=len(errors),
            half_width_months=_conformal_quantile(errors, coverage),
            knots=tuple(
                Knot(at_months=at, n_calibration=round(float(n), 1), half_width_months=float(quantile * size))
                for at, n, size in zip(KNOTS_MONTHS, nearness, scale, strict=True)
            ),
        )

    def rescaled(
        self, errors: npt.NDArray[np.float64], predicted_months: npt.NDArray[np.float64], line: LinearCorrection
    ) -> IntervalCalibration:
        """These intervals for answers that a line is drawn through, wide enough for other children's errors.

        The shape over age is kept, as few rows cannot give one; only its height follows the errors.

        Args:
            errors: Absolute errors of the corrected answers, months [n].
            predicted_months: The same rows' answers before the line, [n].
        """
        height = _conformal_quantile(errors / np.maximum(self._half_width(predicted_months), 1e-6), self.coverage)
        before = (np.array(KNOTS_MONTHS) - line.intercept_months) / line.slope
        corrected = np.maximum(line.slope * predicted_months + line.intercept_months, 0)
        widths = height * np.maximum(self._half_width(before), 1e-6)
        return IntervalCalibration(
            method="that of another data set, rescaled",
            coverage=self.coverage,
            n_calibration=len(errors),
            half_width_months=_conformal_quantile(errors, self.coverage),
            knots=tuple(
                Knot(at_months=at, n_calibration=round(float(n), 1), half_width_months=float(width))
                for at, n, width in zip(KNOTS_MONTHS, _nearness(corrected).sum(axis=0), widths, strict=True)
            ),
        )

    def interval(self, predicted_months: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Lower and upper bound, months, in the shape of the predictions; neither is below 0.

        Raises:
            ModelError: A prediction is not finite.
        """
        predicted = np.asarray(predicted_months, dtype=np.float64)
        if not np.isfinite(predicted).all():
            raise ModelError("the model returned a bone age that is not a finite number")
        half = self._half_width(predicted)
        return np.maximum(predicted - half, 0.0), np.maximum(predicted + half, 0.0)

    def error_sd_months(self, at_months: float) -> float:
        """The model's error at a bone age as an SD: that of the normal distribution which its interval would suit.

        Finite for every calibration that can be loaded, and at most the whole range of bone ages.
        """
        quantile = -NormalDist().inv_cdf((1 - self.coverage) / 2)
        if quantile <= 0:  # a coverage next to 0 says nothing of the errors
            return MAX_ERROR_SD_MONTHS
        return min(float(self._half_width(np.float64(at_months))) / quantile, MAX_ERROR_SD_MONTHS)

    def _half_width(self, at_months: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
        knots = [knot.at_months for knot in self.knots]
        return np.asarray(np.interp(at_months, knots, [knot.half_width_months for knot in self.knots]))

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


def _nearness(predicted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of each row belongs to each knot, [n, knots]; a row between two is shared, outside it is the last's."""
    one_hot = np.eye(len(KNOTS_MONTHS))
    return np.stack([np.interp(predicted, KNOTS_MONTHS, of_knot) for of_knot in one_hot], axis=-1)


def _usual_error(errors: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean absolute error around each knot, drawn towards that of all rows; never 0."""
    nearness = _nearness(predicted)
    mean = max(float(errors.mean()), 1e-6)
    return np.asarray((nearness.T @ errors + PRIOR_ROWS * mean) / (nearness.sum(axis=0) + PRIOR_ROWS))


def _between_knots(predicted: npt.NDArray[np.float64], at_knots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.interp(predicted, KNOTS_MONTHS, at_knots)
