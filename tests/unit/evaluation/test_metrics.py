"""Figures: checked by hand, against SciPy, and by what no figure may ever do."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bone_age.errors import InputError
from bone_age.evaluation.metrics import Metrics, ScoredRows, measure
from bone_age.evaluation.subgroups import Subgroup, subgroup_name

MONTHS = st.integers(0, 2400).map(lambda tenths: tenths / 10)


def measured(
    true: list[float],
    predicted: list[float],
    half_width: float = 20.0,
    subgroups: list[str] | None = None,
    patients: list[str] | None = None,
    replicates: int = 200,
    coverage: float = 0.9,
) -> tuple[Metrics, tuple[Subgroup, ...]]:
    months = np.array(predicted, dtype=np.float64)
    rows = ScoredRows(
        [f"image-{row}" for row in range(len(true))],
        np.array(true, dtype=np.float64),
        months,
        months - half_width,
        months + half_width,
        subgroups or ["M_060_120"] * len(true),
        patients,
    )
    return measure(rows, coverage, replicates, seed=7)


def test_figures_of_five_radiographs_are_those_computed_by_hand() -> None:
    # errors +3, -6, +12, -24, +25
    metrics, _ = measured([60, 80, 100, 120, 140], [63, 74, 112, 96, 165], half_width=12)
    assert metrics.n == 5
    assert metrics.mae.value == pytest.approx(70 / 5)
    assert metrics.bias.value == pytest.approx(10 / 5)
    assert metrics.rmse.value == pytest.approx((1390 / 5) ** 0.5)
    assert metrics.r2 is not None
    assert metrics.r2.value == pytest.approx(1 - 1390 / 4000)
    assert metrics.p90_ae.value == pytest.approx(24.6)
    assert (metrics.within_6m.value, metrics.within_12m.value, metrics.within_24m.value) == (0.4, 0.6, 0.8)
    assert metrics.coverage.value == 0.6


def test_bounds_agree_with_scipy() -> None:
    generator = np.random.default_rng(4)
    true = generator.normal(127, 41, 200)
    predicted = true + generator.normal(2, 10, 200)
    metrics, _ = measured(true.tolist(), predicted.tolist(), replicates=4000)

    def expect(statistic: object, *data: np.ndarray) -> tuple[float, float]:
        found = stats.bootstrap(
            data, statistic, n_resamples=4000, method="percentile", paired=True, vectorized=False, rng=1
        )
        return found.confidence_interval.low, found.confidence_interval.high

    error = predicted - true
    assert metrics.r2 is not None
    for estimate, expected, tolerance in (
        (metrics.mae, expect(lambda e: np.abs(e).mean(), error), 0.12),
        (metrics.bias, expect(np.mean, error), 0.15),
        (metrics.p90_ae, expect(lambda e: np.percentile(np.abs(e), 90), error), 0.5),
        (
            metrics.r2,
            expect(lambda t, p: 1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum(), true, predicted),
            0.003,
        ),
    ):
        assert (estimate.lo, estimate.hi) == pytest.approx(expected, abs=tolerance)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(MONTHS, MONTHS, st.sampled_from("abc")), min_size=1, max_size=30))
def test_no_figure_leaves_its_range(rows: list[tuple[float, float, str]]) -> None:
    true, predicted, patients = (list(column) for column in zip(*rows, strict=True))
    metrics, _ = measured(true, predicted, patients=patients, replicates=100)
    for name, estimate in metrics.estimates().items():
        assert np.isfinite([estimate.value, estimate.lo, estimate.hi]).all(), name
        assert estimate.lo <= estimate.hi, name
        if name.startswith(("within", "coverage")):
            assert 0 <= estimate.lo <= estimate.hi <= 1
    assert metrics.mae.value <= metrics.rmse.value + 1e-9
    assert abs(metrics.bias.value) <= metrics.mae.value + 1e-9
    assert metrics.within_6m.value <= metrics.within_12m.value <= metrics.within_24m.value
    assert metrics.r2 is None or metrics.r2.value <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(MONTHS, MONTHS), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_row_order(rows: list[tuple[float, float]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, _ = measured(*map(list, zip(*rows, strict=True)), replicates=100)
    second, _ = measured(*map(list, zip(*shuffled, strict=True)), replicates=100)
    assert {name: e.value for name, e in first.estimates().items()} == pytest.approx(
        {name: e.value for name, e in second.estimates().items()}
    )


def test_the_same_seed_gives_the_same_bounds() -> None:
    assert measured([60, 80, 100, 120], [61, 85, 90, 140]) == measured([60, 80, 100, 120], [61, 85, 90, 140])


def test_r2_is_undefined_where_all_labels_are_equal_and_absent_from_the_flat_figures() -> None:
    metrics, _ = measured([100, 100, 100], [90, 100, 120])
    assert metrics.r2 is None
    assert not [name for name in metrics.flat() if name.startswith("r2")]
    assert metrics.flat()["mae"] == pytest.approx(10)


def test_one_radiograph_can_be_measured() -> None:
    metrics, groups = measured([100], [104])
    assert (metrics.n, metrics.mae.value, metrics.mae.lo, metrics.mae.hi) == (1, 4, 4, 4)
    assert [(group.name, group.n) for group in groups] == [("M_060_120", 1)]


def test_subgroups_are_measured_apart_and_empty_ones_left_out() -> None:
    groups = ["F_000_060", "M_120_168", "F_000_060", "M_120_168"]
    _, found = measured([40, 130, 50, 150], [45, 120, 51, 150], subgroups=groups)
    assert [(g.name, g.n, g.mae.value, g.bias.value) for g in found] == [
        ("F_000_060", 2, 3, 3),
        ("M_120_168", 2, 5, -5),
    ]


def test_a_subgroup_of_one_keeps_bounds_though_many_resamples_lack_it() -> None:
    groups = ["F_000_060"] + ["M_120_168"] * 9
    _, found = measured([40] + [130] * 9, [47] + [131] * 9, subgroups=groups)
    assert (found[0].n, found[0].mae.lo, found[0].mae.hi) == (1, 7, 7)


def test_patients_are_counted_apart_from_radiographs() -> None:
    metrics, _ = measured([60, 80, 100], [60, 80, 100], patients=["a", "b", "a"])
    assert (metrics.n, metrics.n_patients) == (3, 2)


def test_intervals_made_for_another_coverage_do_not_pass_for_90_percent() -> None:
    metrics, _ = measured([60, 80], [60, 80], coverage=0.8)
    assert metrics.flat()["coverage_80"] == 1
    assert "coverage_90" not in metrics.flat()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_refused_and_the_image_named(value: float) -> None:
    with pytest.raises(InputError, match=r"image-1.*predicted"):
        measured([60, 80, 100], [60, value, 100])


def test_a_label_that_is_no_number_is_refused_and_the_image_named() -> None:
    with pytest.raises(InputError, match=r"image-2.*true"):
        measured([60, 80, np.nan], [60, 80, 100])


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="no radiograph"):
        measured([], [])


def test_predictions_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        measured([60, 80], [60])


@pytest.mark.parametrize(
    ("sex", "months", "name"),
    [("F", 59.9, "F_000_060"), ("F", 60, "F_060_120"), ("M", 168, "M_168_240"), ("M", 240, "M_168_240")],
)
def test_subgroups_are_named_by_sex_and_band(sex: str, months: float, name: str) -> None:
    assert subgroup_name(sex, months) == name


@pytest.mark.parametrize("sex", ["", "male", "X", "nan"])
def test_sex_is_never_guessed(sex: str) -> None:
    with pytest.raises(InputError, match="expected M or F"):
        subgroup_name(sex, 100)


def test_memory_does_not_grow_with_rows_times_replicates() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(1, 228, 12_000).astype(float)
    predicted = true + generator.normal(0, 10, 12_000)
    tracemalloc.start()
    measured(true.tolist(), predicted.tolist(), subgroups=["M_060_120", "F_060_120"] * 6000, replicates=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
