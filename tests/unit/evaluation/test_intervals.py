"""Prediction intervals: the coverage they promise, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bone_age.errors import InputError, ModelError
from bone_age.evaluation.intervals import IntervalCalibration


def fitted(n: int, seed: int = 0, coverage: float = 0.9) -> IntervalCalibration:
    generator = np.random.default_rng(seed)
    true = generator.uniform(0, 240, n)
    return IntervalCalibration.fit(true, true + generator.normal(0, 4 + true / 10), coverage)


def test_half_width_is_the_finite_sample_quantile() -> None:
    # 19 errors of 1..19 months: the ceil(20 * 0.9) = 18th smallest
    assert IntervalCalibration.fit(np.full(19, 100.0), 100 + np.arange(1.0, 20), 0.9).half_width_months == 18


@pytest.mark.parametrize("n", [9, 19, 60])
def test_new_radiographs_are_covered_as_promised_even_after_few_rows(n: int) -> None:
    generator = np.random.default_rng(n)
    hits = []
    for _ in range(400):
        errors = generator.standard_t(3, n + 20) * 6
        calibration = IntervalCalibration.fit(np.full(n, 100.0), 100 + errors[:n], 0.9)
        lower, upper = calibration.interval(100 + errors[n:])
        hits.append(np.mean((lower <= 100) & (upper >= 100)))
    assert 0.885 < np.mean(hits) < 0.915 + 1 / (n + 1)


def test_widths_follow_the_errors_at_the_predicted_age() -> None:
    """Errors of SD 4 + age / 10: from 6 at 24 months to 24 at 204."""
    widths = [knot.half_width_months for knot in fitted(4000).knots]
    assert widths == sorted(widths)
    for knot in fitted(4000).knots:
        assert knot.half_width_months == pytest.approx(1.645 * (4 + knot.at_months / 10), rel=0.2)


def test_the_error_sd_is_that_of_the_errors_it_was_fitted_on() -> None:
    calibration = fitted(4000)
    for months in (24.0, 96.0, 150.0, 204.0):
        assert calibration.error_sd_months(months) == pytest.approx(4 + months / 10, rel=0.2)


def test_few_rows_get_one_width() -> None:
    calibration = fitted(99)
    assert {knot.half_width_months for knot in calibration.knots} == {calibration.half_width_months}


def test_a_knot_with_few_rows_follows_the_crowd() -> None:
    """Three toddlers with tenfold errors do not set the width of all toddlers; three hundred do."""

    def width_at_24(n: int) -> float:
        generator = np.random.default_rng(1)
        predicted = np.concatenate([np.full(n, 24.0), generator.uniform(100, 200, 600)])
        errors = np.concatenate([np.full(n, 50.0), np.full(600, 5.0)])
        return IntervalCalibration.fit(predicted - errors, predicted, 0.9).knots[0].half_width_months

    assert width_at_24(3) < 20
    assert width_at_24(300) > 40


@pytest.mark.parametrize("growth", [0.0, 0.1])
def test_scaled_intervals_hold_everywhere_and_are_not_wider_than_one_width(growth: float) -> None:
    """With errors that grow with age narrower on average and even over ages; with equal errors at most 2 % wider."""
    covered, by_age, scaled, one_width = [], [], [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        predicted = np.clip(generator.normal(127, 41, 2000), 5, 228)
        true = predicted + generator.normal(0, 1, 2000) * (6 + growth * predicted)
        calibration = IntervalCalibration.fit(true[:1000], predicted[:1000], 0.9)
        lower, upper = calibration.interval(predicted[1000:])
        held = (lower <= true[1000:]) & (true[1000:] <= upper)
        covered.append(held.mean())
        bands = np.digitize(predicted[1000:], [60, 120, 168])
        by_age.append([held[bands == band].mean() for band in range(4)])
        scaled.append((upper - np.maximum(lower, 0)).mean())
        one_width.append(2 * calibration.half_width_months)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert np.mean(by_age, axis=0) == pytest.approx(0.9, abs=0.05)
    assert np.mean(scaled) < np.mean(one_width) * (1.02 if growth == 0 else 0.98)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 400), min_size=1, max_size=20))
def test_bounds_are_never_negative_and_never_crossed(predicted: list[float]) -> None:
    lower, upper = fitted(50).interval(predicted)
    assert (lower >= 0).all()
    assert (lower <= upper).all()


def test_bounds_have_the_shape_of_the_predictions() -> None:
    calibration = fitted(50)
    for shape in ((), (3,), (3, 1)):
        lower, upper = calibration.interval(np.full(shape, 100.0))
        assert lower.shape == upper.shape == shape


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.8, 4)])
def test_too_few_rows_are_refused_with_the_number_it_takes(coverage: float, needed: int) -> None:
    fitted(needed, coverage=coverage)
    with pytest.raises(InputError, match=f"at least {needed} validation rows, there are {needed - 1}"):
        fitted(needed - 1, coverage=coverage)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are 0"):
        IntervalCalibration.fit([], [], 0.9)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="row 2"):
        IntervalCalibration.fit(np.ones(20), np.r_[1.0, 1.0, np.nan, np.ones(17)], 0.9)
    with pytest.raises(ModelError, match="not a finite"):
        fitted(50).interval([100, np.inf])


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    calibration = fitted(500)
    calibration.save(tmp_path / "calibration.json")
    assert IntervalCalibration.load(tmp_path / "calibration.json") == calibration


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"coverage": 0.9}', b"\xff\xfe", "negative", "nan", "unordered", "no knots"]
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: str | bytes) -> None:
    document = json.loads(fitted(500).model_dump_json())
    if content == "negative":
        document["half_width_months"] = -1
    elif content == "nan":
        document["knots"][1]["half_width_months"] = float("nan")
    elif content == "unordered":
        document["knots"].reverse()
    elif content == "no knots":
        document["knots"] = []
    changed = content in ("negative", "nan", "unordered", "no knots")
    path = tmp_path / "calibration.json"
    path.write_bytes(
        json.dumps(document).encode() if changed else content.encode() if isinstance(content, str) else content
    )
    with pytest.raises(ModelError, match=r"calibration\.json: no interval calibration") as caught:
        IntervalCalibration.load(path)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        IntervalCalibration.load(tmp_path / "calibration.json")


def test_a_calibration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        fitted(50).coverage = 0.5  # type: ignore[misc]


def test_serving_gets_intervals_without_pandas_matplotlib_or_scipy() -> None:
    code = "import sys, bone_age.evaluation.intervals; print({'pandas', 'matplotlib', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
