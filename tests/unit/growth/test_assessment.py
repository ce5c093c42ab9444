import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.growth import OutsideReferenceError, assess_growth


@pytest.mark.parametrize(
    ("sex", "age", "mean", "sd"),
    [("M", 120.0, 125.68, 9.79), ("F", 120.0, 125.66, 11.73), ("M", 24.0, 25.97, 3.92)],
)
def test_a_row_of_the_table_is_read_as_printed(sex: str, age: float, mean: float, sd: float) -> None:
    found = assess_growth(age, age, age, age, "M" if sex == "M" else "F")
    assert (found.reference_mean_months, found.reference_sd_months) == (mean, sd)
    assert found.z == pytest.approx((age - mean) / sd)


def test_between_rows_mean_and_sd_are_interpolated() -> None:
    low, middle, high = (assess_growth(100.0, 99.0, 101.0, age, "F") for age in (96.0, 102.0, 108.0))
    assert middle.reference_mean_months == pytest.approx((low.reference_mean_months + high.reference_mean_months) / 2)
    assert middle.reference_sd_months == pytest.approx((low.reference_sd_months + high.reference_sd_months) / 2)


@pytest.mark.parametrize(("age", "sex"), [(2.9, "M"), (204.1, "M"), (2.9, "F"), (192.1, "F"), (float("nan"), "M")])
def test_outside_the_table_is_refused(age: float, sex: str) -> None:
    with pytest.raises(OutsideReferenceError):
        assess_growth(100.0, 90.0, 110.0, age, "M" if sex == "M" else "F")


@pytest.mark.parametrize(
    ("z", "half_width", "verdict"),
    [(0.0, 0.5, "normal"), (-3.0, 0.5, "delayed"), (3.0, 0.5, "advanced"), (1.8, 0.5, "indeterminate"),
     (-2.2, 0.5, "indeterminate"), (0.0, 2.5, "indeterminate")],
)  # fmt: skip
def test_the_verdict_takes_the_predictions_own_interval_into_account(z: float, half_width: float, verdict: str) -> None:
    norm = assess_growth(120.0, 120.0, 120.0, 120.0, "M")
    months = [norm.reference_mean_months + (z + d) * norm.reference_sd_months for d in (0.0, -half_width, half_width)]
    assert assess_growth(*months, 120.0, "M").verdict == verdict


@given(st.floats(3, 192), st.floats(0, 228), st.floats(0.1, 20))
def test_z_grows_with_bone_age(age: float, bone_age: float, more: float) -> None:
    first = assess_growth(bone_age, bone_age, bone_age, age, "F")
    second = assess_growth(bone_age + more, bone_age + more, bone_age + more, age, "F")
    assert second.z > first.z
