"""What some dozens of a site's cases may change, and what they may not."""

from __future__ import annotations

import numpy as np
import pytest

from bone_age.errors import InputError
from bone_age.evaluation.intervals import KNOTS_MONTHS, IntervalCalibration
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.evaluation.site_correction import composed, fit_site


def sized_errors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and answers whose error grows with age."""
    random = np.random.default_rng(seed)
    true = random.uniform(24, 216, n)
    return true, true + random.normal(0, 3 + true / 40)


OWN = IntervalCalibration.fit(*sized_errors(2000, 0), 0.9)


def test_a_shift_of_the_site_is_found() -> None:
    true, predicted = sized_errors(60, 1)
    fit = fit_site(true + 9, predicted, OWN)
    assert fit.kind == "shift"
    assert fit.correction.slope == 1
    assert fit.correction.intercept_months == pytest.approx(9, abs=2.5)
    assert fit.mae_months["shift"] < fit.mae_months["none"]


def test_a_line_is_found_where_the_spread_differs() -> None:
    true, predicted = sized_errors(120, 2)
    fit = fit_site(120 + 1.15 * (true - 120), predicted, OWN)
    assert fit.kind == "line"
    assert fit.correction.slope == pytest.approx(1.15, abs=0.05)


def test_a_model_that_is_right_is_mostly_left_alone() -> None:
    """Never far from what it was: the harm of a correction that nobody needed is bounded by its own noise."""
    fits = [fit_site(*sized_errors(50, seed), OWN) for seed in range(10, 40)]
    assert sum(fit.kind == "none" for fit in fits) >= 15
    moved = [abs(fit.correction.slope * 120 + fit.correction.intercept_months - 120) for fit in fits]
    assert max(moved) < 3.5


def test_widths_hold_on_other_children_and_keep_their_shape() -> None:
    true, predicted = sized_errors(80, 3)
    fit = fit_site(true + 6, predicted - 6 + np.where(np.arange(80) % 2, 8, -8), OWN)  # and twice as noisy
    fresh, answers = sized_errors(4000, 4)
    noisy = fit.correction.of((answers - 6 + np.where(np.arange(4000) % 2, 8, -8)).astype(np.float32))
    lower, upper = fit.intervals.interval(noisy)
    assert np.mean((lower <= fresh + 6) & (fresh + 6 <= upper)) == pytest.approx(0.9, abs=0.06)
    widths = [knot.half_width_months for knot in fit.intervals.knots]
    before = [OWN._half_width(np.float64((at - fit.correction.intercept_months) / fit.correction.slope))
              for at in KNOTS_MONTHS]  # fmt: skip
    assert np.ptp(np.array(widths) / np.array(before)) < 1e-9
    assert fit.intervals.n_calibration == 80
    assert fit.intervals.coverage == 0.9


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (lambda true: true / 12, "slope"),  # years
        (lambda true: true + 40, "months apart on average"),  # of other children
    ],
)
def test_what_cannot_be_a_calibration_is_refused(labels, said: str) -> None:  # type: ignore[no-untyped-def]
    true, predicted = sized_errors(60, 5)
    with pytest.raises(InputError, match=said):
        fit_site(labels(true), predicted, OWN)


def test_too_few_rows_for_the_coverage_are_refused() -> None:
    with pytest.raises(InputError, match="at least 9"):
        fit_site(*sized_errors(8, 6), OWN)


def test_two_lines_become_one() -> None:
    first, second = (
        LinearCorrection(slope=1.1, intercept_months=-4),
        LinearCorrection(slope=0.95, intercept_months=3),
    )
    months = np.array([30, 120, 200], np.float32)
    assert composed(first, second).of(months) == pytest.approx(second.of(first.of(months)), abs=1e-4)
