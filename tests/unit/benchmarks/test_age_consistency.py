"""The simulation behind the documented false-alarm rates, on errors whose size is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.age_consistency import of_one_age, shares, with_errors
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.growth import Sex

ERROR_SD = 9.0


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 228, 8000)
    sexes = np.where(np.arange(8000) % 2, "M", "F")
    predicted = true + rng.normal(0, ERROR_SD, 8000)
    return pd.DataFrame({"sex": sexes, "bone_age_months": true, "predicted_months": predicted})


@pytest.mark.parametrize(("sex", "age", "mean", "sd"), [("M", 120.0, 125.68, 9.79), ("F", 84.0, 89.3, 9.64)])
@pytest.mark.parametrize("real", [True, False])
def test_one_healthy_child_in_20_is_unusual_and_one_in_100_inconsistent(
    sex: Sex, age: float, mean: float, sd: float, real: bool, measured: pd.DataFrame
) -> None:
    calibration = IntervalCalibration.fit(measured["bone_age_months"], measured["predicted_months"], 0.9)
    rng = np.random.default_rng(2)
    children = rng.normal(mean, sd, 10_000)
    answers = with_errors(children, sex, calibration, measured if real else None, rng)
    assert np.std(answers - children) == pytest.approx(ERROR_SD, rel=0.15)
    found = shares(of_one_age(answers, age, sex, calibration))
    assert found["cannot tell"] == 0
    assert found["outside 95 %"] == pytest.approx(0.05, abs=0.012)
    assert found["outside 99 %"] == pytest.approx(0.01, abs=0.005)
    assert found["naive 95 %"] > 0.12  # 2 SD of biology are 1.4 SD of what is seen
    assert found["bare 2 SD"] == pytest.approx(found["naive 95 %"], abs=0.02)
