from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.evaluation.linear_correction import LinearCorrection

RNG = np.random.default_rng(3)
TRUE = RNG.uniform(12, 216, 400)
SHRUNK = (114 + 0.8 * (TRUE - 114) + RNG.normal(0, 8, 400) + 5).astype(np.float32)


def bias(predicted: np.ndarray, rows: np.ndarray) -> float:
    return float((predicted - TRUE)[rows].mean())


def test_it_takes_bias_at_both_ends_and_on_average() -> None:
    corrected = LinearCorrection.fit(TRUE, SHRUNK).of(SHRUNK)
    for rows in (TRUE < 60, TRUE > 168):
        assert abs(bias(corrected, rows)) < 0.3 * abs(bias(SHRUNK, rows))
    assert corrected.mean() == pytest.approx(TRUE.mean(), abs=1e-3)
    assert np.abs(corrected - TRUE).mean() < np.abs(SHRUNK - TRUE).mean()


def test_its_slope_lies_between_least_squares_and_equal_spread() -> None:
    least_squares = np.polyfit(SHRUNK, TRUE, 1)[0]
    equal_spread = TRUE.std() / SHRUNK.std()
    assert least_squares < LinearCorrection.fit(TRUE, SHRUNK).slope < equal_spread


@pytest.mark.parametrize("predicted", [np.full(400, 100.0), RNG.normal(100, 20, 400), TRUE[::-1]])
def test_answers_that_say_little_of_the_age_are_left_alone(predicted: np.ndarray) -> None:
    assert LinearCorrection.fit(TRUE, predicted) == LinearCorrection()


def test_no_rows_and_equal_labels_are_left_alone() -> None:
    assert LinearCorrection.fit([], []) == LinearCorrection()
    assert LinearCorrection.fit([100, 100], [90, 110]) == LinearCorrection()


def test_without_a_line_answers_stay_the_same_to_the_bit() -> None:
    assert LinearCorrection().of(SHRUNK) is SHRUNK


def test_the_line_leads_no_newborn_below_birth() -> None:
    newborn = np.array([0.5, 3.0, 90.0], np.float32)
    assert LinearCorrection(slope=1.04, intercept_months=-4.4).of(newborn).tolist() == pytest.approx([0, 0, 89.2])


@given(st.floats(0.5, 2), st.floats(-50, 50))
def test_a_line_of_the_answers_gives_the_same_corrected_answers(slope: float, shift: float) -> None:
    """Whatever scale and offset a network ends with, the corrected months are the same."""
    moved = (slope * SHRUNK.astype(np.float64) + shift).astype(np.float32)
    one, other = (LinearCorrection.fit(TRUE, answers).of(answers) for answers in (SHRUNK, moved))
    np.testing.assert_allclose(one, other, atol=1e-2)
