"""Bootstrap bounds: checked against SciPy's bootstrap and by what resampling patients must mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import paired_mae_difference, patient_of_rows

GENERATOR = np.random.default_rng(1)
TRUE = GENERATOR.normal(127, 41, 150)
A = TRUE + GENERATOR.normal(0, 8, 150)
B = TRUE + GENERATOR.normal(0, 12, 150)


def test_paired_difference_and_its_bounds_agree_with_scipy() -> None:
    found = paired_mae_difference(TRUE, A, B, None, 4000, seed=1)
    each = np.abs(A - TRUE) - np.abs(B - TRUE)
    expected = stats.bootstrap((each,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert found.value == pytest.approx(each.mean())
    assert found.lo == pytest.approx(expected.low, abs=0.15)
    assert found.hi == pytest.approx(expected.high, abs=0.15)


def test_a_model_does_not_differ_from_itself() -> None:
    found = paired_mae_difference(TRUE, A, A, None, 100, seed=1)
    assert (found.value, found.lo, found.hi) == (0, 0, 0)
    assert not found.excludes_zero


def test_swapping_the_models_mirrors_the_difference() -> None:
    ab = paired_mae_difference(TRUE, A, B, None, 500, seed=1)
    ba = paired_mae_difference(TRUE, B, A, None, 500, seed=1)
    assert (ba.value, ba.lo, ba.hi) == pytest.approx((-ab.value, -ab.hi, -ab.lo))


def test_copies_of_a_patients_radiograph_add_no_certainty() -> None:
    patients = [f"p{row}" for row in range(150)]
    once = paired_mae_difference(TRUE, A, B, patients, 500, seed=1)
    thrice = paired_mae_difference(np.tile(TRUE, 3), np.tile(A, 3), np.tile(B, 3), patients * 3, 500, seed=1)
    as_rows = paired_mae_difference(np.tile(TRUE, 3), np.tile(A, 3), np.tile(B, 3), None, 500, seed=1)
    assert (thrice.lo, thrice.hi) == pytest.approx((once.lo, once.hi))
    assert as_rows.hi - as_rows.lo < 0.7 * (once.hi - once.lo)


def test_rows_without_a_patient_id_are_patients_of_their_own() -> None:
    assert patient_of_rows(["", "a", "", "a"], 4).tolist() == [0, 1, 2, 1]


def test_a_patient_is_never_mistaken_for_a_nameless_row() -> None:
    assert len(set(patient_of_rows(["1", "", "0"], 3).tolist())) == 3


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0, 2.0], [1.0])])
def test_rows_that_cannot_be_paired_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(InputError, match="cannot compare"):
        paired_mae_difference(a, a, b, None, 100, seed=1)


def test_a_prediction_that_is_no_number_is_refused_and_its_row_named() -> None:
    with pytest.raises(InputError, match="row 1:"):
        paired_mae_difference([1, 2, 3], [1, np.nan, 3], [1, 2, 3], None, 100, seed=1)
