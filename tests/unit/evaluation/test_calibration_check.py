from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.evaluation.calibration_check import BandBias, CalibrationCheck, check_calibration
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.settings import EvaluationSettings

Evaluate = Callable[..., Evaluation]
Simulate = Callable[..., pd.DataFrame]


def band(check: CalibrationCheck, basis: str, name: str) -> BandBias:
    return next(one for one in check.bands if (one.basis, one.band) == (basis, name))


def uniform_ages(n: int, seed: int = 0) -> pd.DataFrame:
    ages = np.random.default_rng(seed).uniform(0, 240, n)
    return pd.DataFrame({"image_id": [str(row) for row in range(n)], "sex": "F", "bone_age_months": ages})


def test_a_shift_in_one_band_is_found_there_and_only_there(evaluate: Evaluate) -> None:
    table = uniform_ages(1200)
    shift = np.where(table["bone_age_months"].between(60, 120, inclusive="left"), 5.0, 0.0)
    check = check_calibration(evaluate(table.assign(predicted_months=table["bone_age_months"] + shift)))
    assert band(check, "true", "060_120").bias.value == pytest.approx(5.0)
    assert {one.band for one in check.outside if one.basis == "true"} == {"060_120"}
    assert band(check, "true", "000_060").verdict == "within"
    assert band(check, "true", "000_060").is_settled


def test_a_model_that_hedges_has_a_slope_above_one(evaluate: Evaluate) -> None:
    """Predictions half as far from 120 months as the ages: true = 2 * predicted - 120, to the digit."""
    table = uniform_ages(400)
    check = check_calibration(evaluate(table.assign(predicted_months=60 + table["bone_age_months"] / 2)))
    assert check.slope is not None
    assert check.intercept_months is not None
    assert check.slope.value == pytest.approx(2.0, abs=1e-5)
    assert check.intercept_months.value == pytest.approx(-120.0, abs=1e-3)
    assert band(check, "true", "000_060").bias.value > 20
    assert band(check, "true", "168_240").bias.value < -20


def test_noisy_labels_of_a_perfect_model_show_a_bias_by_true_age_and_none_by_predicted_age(evaluate: Evaluate) -> None:
    rng = np.random.default_rng(4)
    perfect = np.clip(rng.normal(127, 40, 6000), 24, 216)
    table = uniform_ages(6000).assign(bone_age_months=perfect + rng.normal(0, 8, 6000), predicted_months=perfect)
    check = check_calibration(evaluate(table))
    assert band(check, "true", "000_060").bias.lo > 0
    assert band(check, "true", "168_240").bias.hi < 0
    assert {one.verdict for one in check.of("predicted")} == {"within"}


@pytest.mark.parametrize(("n", "verdict"), [(99, "too few rows"), (100, "outside")])
def test_a_verdict_takes_a_hundred_rows(evaluate: Evaluate, n: int, verdict: str) -> None:
    table = uniform_ages(n).assign(bone_age_months=80.0, predicted_months=90.0)
    assert [one.verdict for one in check_calibration(evaluate(table)).bands] == [verdict, verdict]


def test_a_verdict_that_the_bounds_do_not_settle_says_so(evaluate: Evaluate) -> None:
    errors = np.random.default_rng(1).normal(0, 30, 100)
    errors += 3.5 - errors.mean()
    table = uniform_ages(100).assign(bone_age_months=80.0, predicted_months=80.0 + errors)
    one = band(check_calibration(evaluate(table)), "true", "060_120")
    assert (one.verdict, one.is_settled) == ("outside", False)


def test_equal_predictions_have_no_line(evaluate: Evaluate, simulate: Simulate) -> None:
    check = check_calibration(evaluate(simulate(50).assign(predicted_months=127.0)))
    assert check.slope is None
    assert check.intercept_months is None
    assert [one.band for one in check.of("predicted")] == ["120_168"]


def test_predictions_outside_the_range_belong_to_the_nearest_band(evaluate: Evaluate) -> None:
    table = uniform_ages(2).assign(bone_age_months=[10.0, 230.0], predicted_months=[-4.0, 260.0])
    check = check_calibration(evaluate(table))
    assert [one.band for one in check.of("predicted")] == ["000_060", "168_240"]


def test_bounds_are_wider_where_rows_are_of_the_same_patients(evaluate: Evaluate) -> None:
    errors = np.repeat(np.random.default_rng(2).normal(0, 10, 60), 5)
    table = uniform_ages(300).assign(bone_age_months=80.0, predicted_months=80.0 + errors)
    evaluation = evaluate(table)
    rows = check_calibration(evaluation).bias
    patients = check_calibration(evaluation, [str(row // 5) for row in range(300)]).bias
    assert patients.hi - patients.lo > 1.5 * (rows.hi - rows.lo)


@given(st.integers(0, 1000), st.floats(-20, 20))
@settings(max_examples=10, deadline=None)
def test_rows_of_the_bands_add_up_and_their_biases_average_to_the_whole(seed: int, shift: float) -> None:
    table = uniform_ages(40, seed)
    noise = np.random.default_rng(seed).normal(shift, 20, 40)
    table = table.assign(predicted_months=table["bone_age_months"] + noise)
    calibration = IntervalCalibration.fit([1.0] * 20, [2.0] * 20, 0.9)
    few = EvaluationSettings(bootstrap_replicates=100)
    check = check_calibration(evaluate_predictions(table, "m", ScoredSet("d", "f", "test"), calibration, few, seed=0))
    for basis in ("true", "predicted"):
        bands = check.of(basis)
        assert sum(one.n for one in bands) == 40
        assert sum(one.n * one.bias.value for one in bands) / 40 == pytest.approx(check.bias.value)


def test_another_number_of_patients_is_refused(evaluate: Evaluate, simulate: Simulate) -> None:
    with pytest.raises(InputError, match="3 patient ids for 20 rows"):
        check_calibration(evaluate(simulate(20)), ["a", "b", "c"])


def test_saved_figures_can_be_read_back(evaluate: Evaluate, simulate: Simulate, tmp_path: Path) -> None:
    check = check_calibration(evaluate(simulate(300)))
    check.save(tmp_path)
    assert CalibrationCheck.model_validate_json((tmp_path / "calibration.json").read_text()) == check
    assert pd.read_csv(tmp_path / "calibration.csv")["n"].sum() == 600
    assert (tmp_path / "plots" / "bias_by_band.png").read_bytes().startswith(b"\x89PNG")
