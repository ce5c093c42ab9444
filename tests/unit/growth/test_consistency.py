"""A bone age held against a stated age."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.growth import OutsideReferenceError, Sex, assess_age_consistency
from bone_age.growth.consistency import MATURE_MONTHS

ALARM = ("consistent", "unusual", "inconsistent")
sexes = st.sampled_from(["M", "F"])
ages = st.floats(3, 192)
errors = st.floats(0, 40)


@pytest.mark.parametrize(
    ("sex", "age", "mean", "sd"), [("M", 120.0, 125.68, 9.79), ("F", 120.0, 125.66, 11.73), ("F", 192.0, 189.44, 7.31)]
)
def test_the_spread_is_the_printed_sd_and_the_models_error_in_quadrature(
    sex: Sex, age: float, mean: float, sd: float
) -> None:
    found = assess_age_consistency(100.0, age, sex, 9.0)
    assert (found.expected_bone_age_months, found.biological_sd_months, found.model_error_sd_months) == (mean, sd, 9.0)
    assert found.spread_months == pytest.approx((sd**2 + 81) ** 0.5)
    assert found.z == pytest.approx((100.0 - mean) / (sd**2 + 81) ** 0.5)


@pytest.mark.parametrize(
    ("z", "verdict"),
    [(0.0, "consistent"), (1.95, "consistent"), (-1.95, "consistent"), (1.97, "unusual"), (-1.97, "unusual"),
     (2.57, "unusual"), (2.58, "inconsistent"), (-2.58, "inconsistent")],
)  # fmt: skip
def test_outside_95_percent_is_unusual_and_outside_99_inconsistent(z: float, verdict: str) -> None:
    spread = math.hypot(9.79, 8.0)
    assert assess_age_consistency(125.68 + z * spread, 120.0, "M", 8.0).verdict == verdict


@pytest.mark.parametrize(("sex", "mature"), [("M", 17 * 12), ("F", 15 * 12)])
@pytest.mark.parametrize("age", [100.0, 180.0])
def test_near_maturity_it_cannot_tell_whatever_the_age(sex: Sex, mature: int, age: float) -> None:
    assert assess_age_consistency(mature, age, sex, 9.0).verdict == "cannot_tell"
    assert assess_age_consistency(mature + 20.0, age, sex, 9.0).verdict == "cannot_tell"
    assert assess_age_consistency(mature - 0.01, age, sex, 9.0).verdict in ALARM


def test_a_model_that_has_measured_nothing_cannot_tell() -> None:
    assert assess_age_consistency(20.0, 120.0, "M", 41.0).verdict == "cannot_tell"
    assert assess_age_consistency(20.0, 120.0, "M", 40.0).verdict in ALARM


@pytest.mark.parametrize(("age", "sex"), [(2.9, "M"), (204.1, "M"), (2.9, "F"), (192.1, "F"), (float("nan"), "M")])
def test_outside_the_table_is_refused(age: float, sex: Sex) -> None:
    with pytest.raises(OutsideReferenceError, match="outside the growth reference"):
        assess_age_consistency(100.0, age, sex, 9.0)


@given(sexes, ages, errors, st.floats(0, 240), st.floats(0.1, 20))
def test_z_grows_with_bone_age(sex: Sex, age: float, error: float, bone_age: float, more: float) -> None:
    first, second = (assess_age_consistency(months, age, sex, error) for months in (bone_age, bone_age + more))
    assert second.z > first.z


@given(sexes, ages, errors, st.floats(0, 100))
def test_as_far_above_as_below_is_as_unusual(sex: Sex, age: float, error: float, away: float) -> None:
    expected = assess_age_consistency(0.0, age, sex, error).expected_bone_age_months
    below, above = (assess_age_consistency(expected + side * away, age, sex, error) for side in (-1, 1))
    assert below.z == pytest.approx(-above.z, abs=1e-9)
    told = expected + away < MATURE_MONTHS[sex]
    near_a_limit = min(abs(abs(above.z) - limit) for limit in (1.959964, 2.575829)) < 1e-9
    assert not told or near_a_limit or below.verdict == above.verdict


@given(sexes, ages, st.floats(0, 170), errors, errors)
def test_a_model_that_errs_more_raises_no_more_alarm(
    sex: Sex, age: float, bone_age: float, one: float, other: float
) -> None:
    precise, coarse = (assess_age_consistency(bone_age, age, sex, error) for error in sorted((one, other)))
    assert ALARM.index(coarse.verdict) <= ALARM.index(precise.verdict)
