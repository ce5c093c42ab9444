"""What a clinician reads."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.growth import Sex, assess_age_consistency, assess_growth
from bone_age.growth.wording import explain_age_consistency, explain_growth


@pytest.mark.parametrize(
    ("bone_age", "begins"), [(125.0, "Normal"), (80.0, "Delayed"), (170.0, "Advanced"), (145.0, "Indeterminate")]
)
def test_a_growth_assessment_is_explained_with_its_figures(bone_age: float, begins: str) -> None:
    said = explain_growth(assess_growth(bone_age, bone_age - 5, bone_age + 5, 120.0, "M"))
    assert said.startswith(begins + ":")
    assert "120 months" in said
    assert "125.7 months (SD 9.8; Brush Foundation series, Greulich & Pyle 1959)" in said
    assert "no diagnosis" in said


@pytest.mark.parametrize(
    ("bone_age", "begins"),
    [(125.0, "Consistent"), (97.0, "Unusual"), (170.0, "Inconsistent"), (204.0, "Cannot tell")],
)
def test_age_consistency_is_explained_with_what_it_does_not_say(bone_age: float, begins: str) -> None:
    said = explain_age_consistency(assess_age_consistency(bone_age, 120.0, "M", 9.0))
    assert said.startswith(begins)
    assert "It does not say how old the child is" in said
    if begins != "Cannot tell":
        assert "SD 9.8" in said
        assert "SD 9.0" in said
        assert "within 26 months of the expected, for 99 within 34" in said


def test_a_distance_is_said_in_months_with_its_side() -> None:
    assert "lies 46 months below it" in explain_growth(assess_growth(80.0, 75.0, 85.0, 120.0, "M"))
    assert "lies 1 month above it" in explain_growth(assess_growth(126.68, 121.0, 131.0, 120.0, "M"))
    assert "lies at it" in explain_growth(assess_growth(125.7, 121.0, 131.0, 120.0, "M"))


def test_a_model_that_has_measured_nothing_is_named_as_the_reason() -> None:
    assert "this model errs by 50 months" in explain_age_consistency(assess_age_consistency(90.0, 120.0, "F", 50.0))


@given(st.floats(0, 240), st.floats(0, 60), st.floats(3, 192), st.sampled_from(["M", "F"]))
def test_no_text_speaks_of_majority_deceit_or_law(bone_age: float, error: float, age: float, sex: Sex) -> None:
    growth = assess_growth(bone_age, bone_age - error, bone_age + error, age, sex)
    said = explain_growth(growth) + explain_age_consistency(assess_age_consistency(bone_age, age, sex, error))
    assert not re.search(
        r"\b(18 years|(over|under) 18|eighteen|adult|minor|fraud|lie[ds]? about|false|compliant)\b", said
    )
