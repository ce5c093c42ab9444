"""Growth reference, assessment and age consistency: what a bone age means at the child's age."""

from bone_age.growth.assessment import GrowthAssessment, assess_growth
from bone_age.growth.consistency import AgeConsistency, assess_age_consistency
from bone_age.growth.reference import OutsideReferenceError, Sex, norm_at

__all__ = [
    "AgeConsistency",
    "GrowthAssessment",
    "OutsideReferenceError",
    "Sex",
    "assess_age_consistency",
    "assess_growth",
    "norm_at",
]
