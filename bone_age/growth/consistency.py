"""Whether a bone age agrees with a stated chronological age, given how healthy children and the model's answers vary.

Both vary: children of one age differ in bone age (the reference's SD), and the model errs (its own measured error). The
spread to expect is the two in quadrature; with the children's alone, a multiple of the healthy would be called
inconsistent (benchmarks/age_consistency.py). The rule speaks of agreement only: many causes, illness among them, move
a bone age, and it names none. Near maturity bone age no longer tells ages apart, and it says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bone_age.growth.reference import REFERENCE, Sex, norm_at

ConsistencyVerdict = Literal["consistent", "unusual", "inconsistent", "cannot_tell"]
LIMIT_95, LIMIT_99 = 1.959964, 2.575829  # quantiles of the normal distribution, two-sided
MATURE_MONTHS: dict[Sex, float] = {"M": 204.0, "F": 180.0}
# Bone ages of children of all ages differ by this SD (training radiographs of the RSNA challenge): a model that errs as
# widely has measured nothing.
UNINFORMATIVE_SD_MONTHS = 41.0


@dataclass(frozen=True)
class AgeConsistency:
    """How far a bone age lies from what the stated age lets one expect; z is in units of `spread_months`.

    `spread_months` is `biological_sd_months` and `model_error_sd_months` in quadrature.
    """

    chronological_age_months: float
    expected_bone_age_months: float
    biological_sd_months: float
    model_error_sd_months: float
    spread_months: float
    z: float
    verdict: ConsistencyVerdict
    reference: str = REFERENCE


def assess_age_consistency(
    bone_age_months: float, chronological_age_months: float, sex: Sex, model_error_sd_months: float
) -> AgeConsistency:
    """Hold a bone age against a stated chronological age.

    Args:
        bone_age_months: Estimated skeletal age, months.
        chronological_age_months: Stated age since birth, months; 3 to 204 for boys, 3 to 192 for girls.
        sex: M or F.
        model_error_sd_months: SD of the model's error where the *expected* bone age lies, finite and not negative.
    Returns:
        `unusual` outside the range of 95 % of healthy children, `inconsistent` outside that of 99 %, else `consistent`;
        `cannot_tell` from `MATURE_MONTHS` of bone age on, and with a model that errs by `UNINFORMATIVE_SD_MONTHS`.
    Raises:
        OutsideReferenceError: The age is outside the reference table, or not a number.
    """
    norm = norm_at(chronological_age_months, sex)
    spread = math.hypot(norm.sd_months, model_error_sd_months)
    z = (bone_age_months - norm.mean_months) / spread
    tells = bone_age_months < MATURE_MONTHS[sex] and model_error_sd_months < UNINFORMATIVE_SD_MONTHS
    return AgeConsistency(
        chronological_age_months,
        norm.mean_months,
        norm.sd_months,
        model_error_sd_months,
        spread,
        z,
        _verdict(z) if tells else "cannot_tell",
    )


def _verdict(z: float) -> ConsistencyVerdict:
    if abs(z) > LIMIT_99:
        return "inconsistent"
    return "unusual" if abs(z) > LIMIT_95 else "consistent"
