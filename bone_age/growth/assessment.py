"""Bone age against the normal range for a child's chronological age.

Mean skeletal age and SD are read at the chronological age (never at the bone age) and interpolated between rows.
Where the prediction's own interval crosses a limit the answer is `indeterminate`: with an
error of 8.5 months a bare two-SD rule would flag 18 % of healthy ten-year-old boys.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["delayed", "normal", "advanced", "indeterminate"]
REFERENCE = "Brush Foundation series, Greulich & Pyle 1959"
LIMIT_SD = 2.0


class OutsideReferenceError(ValueError):
    """The chronological age lies outside the reference table, which is never extrapolated."""


@dataclass(frozen=True)
class GrowthAssessment:
    """Where a bone age lies; z is in SDs of skeletal age at the chronological age, lower and upper of its interval."""

    chronological_age_months: float
    reference_mean_months: float
    reference_sd_months: float
    z: float
    z_lower: float
    z_upper: float
    verdict: Verdict
    reference: str = REFERENCE


@dataclass(frozen=True)
class _Table:
    age_months: npt.NDArray[np.float64]
    mean_months: npt.NDArray[np.float64]
    sd_months: npt.NDArray[np.float64]


@cache
def _table(sex: str) -> _Table:
    text = resources.files("bone_age.growth").joinpath("brush_foundation.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["sex"] == sex]
    columns = ("chronological_age_months", "mean_skeletal_age_months", "sd_months")
    return _Table(*(np.array([float(row[name]) for row in rows]) for name in columns))


def assess_growth(
    bone_age_months: float,
    lower_months: float,
    upper_months: float,
    chronological_age_months: float,
    sex: Literal["M", "F"],
) -> GrowthAssessment:
    """Place a bone age within the normal range for the child's age.

    Args:
        bone_age_months: Estimated skeletal age, months.
        lower_months: Lower end of the estimate's prediction interval, months.
        upper_months: Upper end of the estimate's prediction interval, months.
        chronological_age_months: Age since birth, months; 3 to 204 for boys, 3 to 192 for girls.
        sex: M or F.
    Raises:
        OutsideReferenceError: The age is outside the reference table, or not a number.
    Source: Brush Foundation series, Greulich & Pyle, Radiographic Atlas, 2nd ed. 1959.
    """
    table = _table(sex)
    youngest, oldest = table.age_months[0], table.age_months[-1]
    if not youngest <= chronological_age_months <= oldest:
        raise OutsideReferenceError(
            f"chronological age {chronological_age_months:g} months is outside the growth reference "
            f"({youngest:g} to {oldest:g} months for {'boys' if sex == 'M' else 'girls'})"
        )
    mean = float(np.interp(chronological_age_months, table.age_months, table.mean_months))
    sd = float(np.interp(chronological_age_months, table.age_months, table.sd_months))
    z, z_lower, z_upper = ((value - mean) / sd for value in (bone_age_months, lower_months, upper_months))
    return GrowthAssessment(chronological_age_months, mean, sd, z, z_lower, z_upper, _verdict(z, z_lower, z_upper))


def _verdict(z: float, z_lower: float, z_upper: float) -> Verdict:
    if any(z_lower < limit < z_upper for limit in (-LIMIT_SD, LIMIT_SD)):
        return "indeterminate"
    if z < -LIMIT_SD:
        return "delayed"
    return "advanced" if z > LIMIT_SD else "normal"
