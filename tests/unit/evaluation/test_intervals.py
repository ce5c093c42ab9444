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

from bone_age.data.manifest import AGE_BAND_EDGES_MONTHS
from bone_age.errors import InputError, ModelError
from bone_age.evaluation.intervals import BAND_STARTS_MONTHS, IntervalCalibration


def fitted(n: int, seed: int = 0, coverage: float = 0.9) -> IntervalCalibration:
    generator = np.random.default_rng(seed)
    true = generator.uniform(0, 240, n)
    return IntervalCalibration.fit(true, true + generator.normal(0, 4 + true / 10), coverage)


def test_bands_are_those_by_which_subgroups_are_reported() -> None:
    assert AGE_BAND_EDGES_MONTHS[:-1] == BAND_STARTS_MONTHS


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


def test_bands_of_many_rows_have_their_own_width() -> None:
    widths = [band.half_width_months for band in fitted(4000).bands]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_a_band_of_few_rows_takes_the_pooled_width() -> None:
    true = np.concatenate([np.full(99, 30.0), np.full(300, 100.0)])
    errors = np.concatenate([np.full(99, 1.0), np.full(300, 9.0)])
    calibration = IntervalCalibration.fit(true, true + errors, 0.9)
    assert [(band.n_calibration, band.pooled) for band in calibration.bands] == [
        (99, True),
        (300, False),
        (0, True),
        (0, True),
    ]
    assert {band.half_width_months for band in calibration.bands} == {9.0}


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
    "content", ["", "[]", "{", '{"coverage": 0.9}', b"\xff\xfe", "negative", "nan", "unordered", "no bands"]
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: str | bytes) -> None:
    document = json.loads(fitted(500).model_dump_json())
    if content == "negative":
        document["half_width_months"] = -1
    elif content == "nan":
        document["bands"][1]["half_width_months"] = float("nan")
    elif content == "unordered":
        document["bands"].reverse()
    elif content == "no bands":
        document["bands"] = []
    changed = content in ("negative", "nan", "unordered", "no bands")
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
