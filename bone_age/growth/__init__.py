"""Growth reference and assessment: where a bone age lies for the child's age."""

from bone_age.growth.assessment import GrowthAssessment, OutsideReferenceError, assess_growth

__all__ = ["GrowthAssessment", "OutsideReferenceError", "assess_growth"]
