"""What a site's own labelled radiographs change about a model's answers: a straight line, and the intervals' width.

Another device or another reader shifts answers by a few months, and the intervals no longer hold what they promise.
From some fifty cases a shift, or a line where it shows, is learned; a network is not. Which of the three (nothing, a
shift, a line) is taken is decided by the error of each row predicted from all others, and from those errors comes the
new width as well: the model's usual error at the predicted age is kept in shape, and multiplied by one conformal
quantile. Imports numpy and pydantic only: serving needs it.

Source of leave-one-out errors in place of a held-out split: Barber et al., Predictive Inference with the Jackknife+,
Ann Stat 2021;49:486-507.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bone_age.errors import InputError
from bone_age.evaluation.intervals import IntervalCalibration, require_rows
from bone_age.evaluation.linear_correction import LinearCorrection

Kind = Literal["none", "shift", "line"]
FloatArray = npt.NDArray[np.float64]

MIN_CASES = 50
LARGEST_SHIFT_MONTHS = 24.0
SLOPES = (0.67, 1.5)  # wide: of thirty rows the slope is known to within some 0.05


class SiteCalibration(BaseModel):
    """What a version says of the site that it was calibrated for.

    Attributes:
        parent, parent_digest: The model that was calibrated, by name and by its digest.
        fitted_rows, tested_rows: Radiographs that made the correction, and those that it was measured on.
        correction: On top of the parent's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset_name: str
    dataset_fingerprint: str
    parent: str
    parent_digest: str
    fitted_rows: int = Field(ge=1)
    tested_rows: int = Field(ge=1)
    kind: Kind
    correction: LinearCorrection


@dataclass(frozen=True)
class SiteFit:
    """A correction chosen on a site's rows, with what each choice would have cost there.

    Attributes:
        correction: On top of the model's own; no change where `kind` is `none`.
        intervals: For the corrected answers.
        mae_months: Leave-one-out MAE of each choice, by kind.
    """

    kind: Kind
    correction: LinearCorrection
    intervals: IntervalCalibration
    mae_months: dict[Kind, float]


def fit_site(true_months: npt.ArrayLike, predicted_months: npt.ArrayLike, intervals: IntervalCalibration) -> SiteFit:
    """Choose and fit the correction of a model's answers, both arguments of shape [n].

    Args:
        predicted_months: With the model's own correction.
        intervals: The model's own; their shape and coverage are kept.
    Raises:
        InputError: Too few rows for the coverage, or a correction so large that labels or model must be wrong.
    """
    true, predicted = (np.asarray(months, np.float64).ravel() for months in (true_months, predicted_months))
    require_rows(len(true), intervals.coverage)
    left_out = {kind: _left_out(kind, true, predicted) for kind in _KINDS}
    mae = {kind: float(np.abs(months - true).mean()) for kind, months in left_out.items()}
    kind = min(_KINDS, key=lambda one: mae[one])  # the simplest of equals: it stands first
    correction = _fitted(kind, true, predicted)
    _refuse_implausible(correction, predicted)
    errors = np.abs(left_out[kind] - true)
    return SiteFit(kind, correction, intervals.rescaled(errors, predicted, correction), mae)


def composed(first: LinearCorrection, second: LinearCorrection) -> LinearCorrection:
    """The one line that does what `first` and then `second` do."""
    return LinearCorrection(
        slope=second.slope * first.slope,
        intercept_months=second.slope * first.intercept_months + second.intercept_months,
    )


def _left_out(kind: Kind, true: FloatArray, predicted: FloatArray) -> FloatArray:
    """Each row's corrected months, by the correction fitted on all others."""
    if kind == "none":
        return predicted
    months = np.empty(len(true))
    for row in range(len(true)):
        others = np.arange(len(true)) != row
        correction = _fitted(kind, true[others], predicted[others])
        months[row] = correction.slope * predicted[row] + correction.intercept_months
    return np.maximum(months, 0)


def _fitted(kind: Kind, true: FloatArray, predicted: FloatArray) -> LinearCorrection:
    if kind == "none":
        return LinearCorrection()
    if kind == "shift":
        return LinearCorrection(intercept_months=float(np.mean(true - predicted)))
    return LinearCorrection.fit(true, predicted)


def _refuse_implausible(correction: LinearCorrection, predicted: FloatArray) -> None:
    """A line that turns years into months, or one child into another, is no calibration."""
    low, high = SLOPES
    centre = float(predicted.mean())
    shift = correction.slope * centre + correction.intercept_months - centre
    if not low <= correction.slope <= high:
        raise InputError(
            f"the line through labels and answers has slope {correction.slope:.3f}, expected {low} to {high}: are the "
            "labels bone ages in months, and is the preprocessing right for these radiographs?"
        )
    if abs(shift) > LARGEST_SHIFT_MONTHS:
        raise InputError(
            f"labels and answers lie {shift:+.1f} months apart on average, more than {LARGEST_SHIFT_MONTHS:g}: this is "
            "no calibration any more; are labels, sexes and images those of the same children?"
        )


_KINDS: tuple[Kind, ...] = ("none", "shift", "line")
