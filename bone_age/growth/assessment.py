"""Bone age against the normal range for a child's chronological age.

Where the prediction's own interval crosses a limit the answer is `indeterminate`: with an error of 8.5 months a bare
two-SD rule would flag 18 % of healthy ten-year-old boys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bone_age.growth.reference import REFERENCE, Sex, norm_at

Verdict = Literal["delayed", "normal", "advanced", "indeterminate"]
LIMIT_SD = 2.0


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


def assess_growth(
    bone_age_months: float, lower_months: float, upper_months: float, chronological_age_months: float, sex: Sex
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
    norm = norm_at(chronological_age_months, sex)
    z, z_lower, z_upper = (
        (value - norm.mean_months) / norm.sd_months for value in (bone_age_months, lower_months, upper_months)
    )
    verdict = _verdict(z, z_lower, z_upper)
    return GrowthAssessment(chronological_age_months, norm.mean_months, norm.sd_months, z, z_lower, z_upper, verdict)


def _verdict(z: float, z_lower: float, z_upper: float) -> Verdict:
    if any(z_lower < limit < z_upper for limit in (-LIMIT_SD, LIMIT_SD)):
        return "indeterminate"
    if z < -LIMIT_SD:
        return "delayed"
    return "advanced" if z > LIMIT_SD else "normal"
