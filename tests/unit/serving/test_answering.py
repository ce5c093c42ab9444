"""The whole answer: an estimate, and growth where the child's age is known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.data.synthetic import render_hand
from bone_age.errors import InputError
from bone_age.evaluation.intervals import IntervalCalibration, Knot
from bone_age.serving.answering import answer, chronological_age_from_dates, require_question
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL

HAND_LIKE = render_hand(120, "F", seed=3)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_folder(REFERENCE_MODEL)


def test_growth_is_assessed_where_the_age_is_known(predictor: Predictor) -> None:
    found = answer(predictor, HAND_LIKE, "F", chronological_age_months=126)
    assert found.growth is not None
    assert found.growth.chronological_age_months == 126
    assert found.growth.z == pytest.approx(
        (found.bone_age_months - found.growth.reference_mean_months) / found.growth.reference_sd_months
    )
    assert answer(predictor, HAND_LIKE, "F").growth is None


def test_age_consistency_is_assessed_with_the_models_error_where_the_bone_age_is_expected(
    predictor: Predictor,
) -> None:
    """At 24 months the mean of the girls is 24.16, where the reference model's 90 % half-width is 12.906 months."""
    found = answer(predictor, HAND_LIKE, "F", chronological_age_months=24).age_consistency
    assert found is not None
    assert found.model_error_sd_months == pytest.approx(12.917 / 1.6449, abs=0.01)
    assert found.spread_months == pytest.approx((found.model_error_sd_months**2 + 4.64**2) ** 0.5)
    assert answer(predictor, HAND_LIKE, "F").age_consistency is None


@pytest.mark.parametrize(("coverage", "half_width"), [(1e-300, 1e308), (1 - 2**-53, 1e308), (1e-300, 0.0), (0.5, 0.0)])
def test_no_calibration_stops_an_answer(predictor: Predictor, coverage: float, half_width: float) -> None:
    strange = IntervalCalibration(
        coverage=coverage,
        n_calibration=1,
        half_width_months=half_width,
        knots=(Knot(at_months=0, n_calibration=0, half_width_months=half_width),),
    )
    odd = Predictor(replace(predictor.bundle, calibration=strange), "odd")
    found = answer(odd, HAND_LIKE, "F", chronological_age_months=126)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.age_consistency is not None
    assert found.growth is not None
    if half_width == 1e308:
        assert found.age_consistency.verdict == "cannot_tell"
        assert found.growth.verdict == "indeterminate"


def test_an_age_outside_the_table_is_a_warning_and_the_estimate_stays(predictor: Predictor) -> None:
    found = answer(predictor, HAND_LIKE, "F", chronological_age_months=230)
    assert found.growth is None
    assert found.age_consistency is None
    assert found.warnings[-1].code == "no_growth_assessment"
    assert found.bone_age_months == answer(predictor, HAND_LIKE, "F").bone_age_months


@pytest.mark.parametrize(
    ("sex", "age", "said"),
    [
        ("X", None, "--sex is 'X', expected M or F"),
        ("", 12.0, "--sex is ''"),
        ("F", -1.0, "--age is -1 months, expected 0 to 240"),
        ("M", 241.0, "--age is 241 months"),
        ("M", float("nan"), "--age is nan months"),
    ],
)
def test_what_no_radiograph_could_be_answered_with_is_refused(sex: str, age: float | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        require_question(sex, age, ("--sex", "--age"))
    require_question("M", 0.0, ("--sex", "--age"))
    require_question("F", None, ("--sex", "--age"))


@pytest.mark.parametrize(
    ("birth", "examined", "months"),
    [
        (date(2014, 3, 5), date(2024, 3, 5), 120),
        (date(2014, 3, 5), date(2024, 3, 4), 119 + 28 / 29),
        (date(2020, 1, 31), date(2020, 2, 29), 1),
        (date(2020, 2, 29), date(2021, 2, 28), 12),
        (date(2024, 4, 10), date(2024, 4, 10), 0),
        (date(2024, 4, 10), date(2024, 4, 25), 0.5),
        (date(9999, 12, 1), date(9999, 12, 31), 30 / 31),
        (date(2004, 5, 6), date(2024, 5, 6), 240),
    ],
)
def test_a_birthday_is_a_whole_month(birth: date, examined: date, months: float) -> None:
    assert chronological_age_from_dates(birth, examined) == pytest.approx(months)


@given(st.dates(date(1900, 1, 1), date(2080, 1, 1)), st.integers(0, 7300))
def test_a_day_later_is_never_younger_and_years_are_years(birth: date, days: int) -> None:
    age, next_day = (chronological_age_from_dates(birth, birth + timedelta(days + more)) for more in (0, 1))
    assert age <= next_day <= age + 0.1
    assert age == pytest.approx(days / 30.436875, abs=0.13)


def test_dates_that_cannot_be_are_refused_without_being_repeated() -> None:
    with pytest.raises(InputError, match=r"^the examination date is before the date of birth$"):
        chronological_age_from_dates(date(2024, 4, 10), date(2024, 4, 9))
    with pytest.raises(InputError, match=r"^date of birth and examination date are 240\.03 months apart") as refused:
        chronological_age_from_dates(date(2004, 5, 6), date(2024, 5, 7))
    assert "2004" not in str(refused.value)
