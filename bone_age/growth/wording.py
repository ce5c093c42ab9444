"""The assessments in plain language, for the clinician who reads an answer.

Every text says what was found with its figures, by which table, and what does not follow from it. None names a cause,
an intention or a legal age.
"""

from __future__ import annotations

from bone_age.growth.assessment import LIMIT_SD, GrowthAssessment
from bone_age.growth.consistency import LIMIT_95, LIMIT_99, UNINFORMATIVE_SD_MONTHS, AgeConsistency

NO_DIAGNOSIS = "This places a bone age; it is no diagnosis and names no cause."
NOT_THE_AGE = (
    "It does not say how old the child is: illness, nutrition, treatment, origin and an unusual radiograph move a bone "
    "age too. It is no ground for a decision about a child's age."
)


def explain_growth(growth: GrowthAssessment) -> str:
    """Some sentences for a growth assessment, the verdict first."""
    limit, interval = f"{LIMIT_SD:g} SD", f"z {growth.z_lower:+.1f} to {growth.z_upper:+.1f}"
    verdict = {
        "normal": f"Normal: the model's whole interval ({interval}) lies within {limit} of the mean.",
        "delayed": f"Delayed: the model's whole interval ({interval}) lies more than {limit} below the mean.",
        "advanced": f"Advanced: the model's whole interval ({interval}) lies more than {limit} above the mean.",
        "indeterminate": f"Indeterminate: the model's interval ({interval}) reaches across a limit of {limit}, so this "
        "estimate cannot settle whether the bone age is in the normal range.",
    }[growth.verdict]
    mean, sd = growth.reference_mean_months, growth.reference_sd_months
    return (
        f"{verdict} At {_months(growth.chronological_age_months)} of age the mean is "
        f"{mean:.1f} months (SD {sd:.1f}; {growth.reference}); this bone age lies {_away(growth.z * sd)}, "
        f"z = {growth.z:+.1f}. {NO_DIAGNOSIS}"
    )


def explain_age_consistency(consistency: AgeConsistency) -> str:
    """Some sentences for a bone age held against a stated age, the verdict first."""
    if consistency.verdict == "cannot_tell":
        return f"{_why_not(consistency)} {NOT_THE_AGE}"
    verdict = {
        "consistent": "Consistent: the bone age agrees with the stated age, as it would with many others.",
        "unusual": "Unusual: outside the range of about 95 of 100 healthy children of that age, within that of 99.",
        "inconsistent": "Inconsistent: outside the range of about 99 of 100 healthy children of that age.",
    }[consistency.verdict]
    within_95, within_99 = LIMIT_95 * consistency.spread_months, LIMIT_99 * consistency.spread_months
    return (
        f"{verdict} At a stated age of {_months(consistency.chronological_age_months)} a bone age of "
        f"{consistency.expected_bone_age_months:.1f} months is expected ({consistency.reference}); this one lies "
        f"{_away(consistency.z * consistency.spread_months)}. Healthy children differ "
        f"(SD {consistency.biological_sd_months:.1f}) and the model errs (SD {consistency.model_error_sd_months:.1f}): "
        f"together, answers for about 95 of 100 lie within {within_95:.0f} months of the expected, for 99 within "
        f"{within_99:.0f}. {NOT_THE_AGE}"
    )


def _why_not(consistency: AgeConsistency) -> str:
    if consistency.model_error_sd_months >= UNINFORMATIVE_SD_MONTHS:
        return (
            f"Cannot tell whether bone age and stated age agree: this model errs by "
            f"{consistency.model_error_sd_months:.0f} months (SD), as much as children of all ages differ."
        )
    return (
        "Cannot tell whether bone age and stated age agree: near maturity, from a bone age of 17 years in boys "
        "and 15 years in girls on, children of very different ages have the same bone age."
    )


def _away(months: float) -> str:
    if abs(months) < 0.5:
        return "at it"
    return (
        f"{abs(months):.0f} {'month' if round(abs(months)) == 1 else 'months'} {'above' if months > 0 else 'below'} it"
    )


def _months(months: float) -> str:
    return f"{months:.1f}".removesuffix(".0") + " months"
