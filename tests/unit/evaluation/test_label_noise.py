from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.evaluation.evaluation import ScoredSet
from bone_age.evaluation.label_noise import LabelNoise, estimate_label_noise, heaping_by_band
from bone_age.settings import EvaluationSettings

QUICK = EvaluationSettings(bootstrap_replicates=200)
SET = ScoredSet("hands", "ab" * 32, "test")


def simulated(reader: float, shared: float, random: float, n: int = 4000) -> LabelNoise:
    """Labels and predictions of children with known ages, from errors of known SD."""
    rng = np.random.default_rng(8)
    age = rng.uniform(40, 200, n)
    common = age + rng.normal(0, shared, n)
    label, plain, mirrored = age + rng.normal(0, reader, n), *(common + rng.normal(0, random, (2, n)))
    return estimate_label_noise(label, plain, mirrored + 1.5, None, "m", SET, QUICK, seed=0)


def test_the_readers_noise_is_found_where_the_model_has_no_error_in_common() -> None:
    found = simulated(reader=7, shared=0, random=4)
    assert found.label_noise_sd_upper.lo < 7 < found.label_noise_sd_upper.hi
    assert found.model_random_sd.lo < 4 < found.model_random_sd.hi
    assert found.residual_sd.value == pytest.approx(sqrt(7**2 + 4**2), rel=0.03)


def test_an_error_in_common_makes_the_bound_larger_and_never_smaller() -> None:
    found = simulated(reader=7, shared=6, random=4)
    assert found.label_noise_sd_upper.lo > 7
    assert found.label_noise_sd_upper.value == pytest.approx(sqrt(7**2 + 6**2), rel=0.03)


def test_a_model_that_answers_the_same_for_the_mirror_image_leaves_the_whole_residual() -> None:
    found = simulated(reader=7, shared=3, random=0)
    assert found.model_random_sd.value == pytest.approx(0, abs=1e-6)
    assert found.label_noise_sd_upper.value == pytest.approx(found.residual_sd.value)


@given(st.lists(st.tuples(*[st.floats(0, 240)] * 3), min_size=2, max_size=30))
def test_the_bound_never_exceeds_the_residual(rows: list[tuple[float, float, float]]) -> None:
    label, plain, mirrored = zip(*rows, strict=True)
    found = estimate_label_noise(
        label, plain, mirrored, None, "m", SET, EvaluationSettings(bootstrap_replicates=100), 0
    )
    assert 0 <= found.label_noise_sd_upper.value <= found.residual_sd.value + 1e-6


def test_labels_even_over_months_do_not_heap() -> None:
    for band in heaping_by_band(np.arange(0, 228)):
        assert band.excess_of_12 == pytest.approx(0, abs=1e-9)
        assert band.excess_of_6 == pytest.approx(0, abs=1e-9)
        assert band.rounding_sd_months == pytest.approx(sqrt(1 / 12))


@pytest.mark.parametrize(("step", "share_of_12", "sd"), [(12, 1.0, 3.4641), (6, 0.5, 1.7321)])
def test_labels_rounded_to_years_or_half_years_are_found(step: int, share_of_12: float, sd: float) -> None:
    (every, *_) = heaping_by_band(np.arange(0, 240, step))
    assert (every.share_of_12, every.share_of_6) == (share_of_12, 1.0)
    assert every.excess_of_6 == pytest.approx(5 / 6)
    assert every.rounding_sd_months == pytest.approx(sd, abs=1e-3)


def test_labels_that_heap_between_half_years_show_among_the_commonest() -> None:
    plates = np.repeat([82, 94, 106], 50)
    band = heaping_by_band(np.concatenate([plates, np.arange(60, 120)]))[1]
    assert band.share_of_6 < 0.1
    assert band.share_of_10_commonest == pytest.approx((150 + 3 + 7) / 210)
    assert heaping_by_band(np.arange(60, 120))[1].share_of_10_commonest == pytest.approx(10 / 60)


def test_bands_are_told_apart_and_empty_ones_left_out() -> None:
    bands = {band.band: band for band in heaping_by_band([12, 24, 61, 62, 240])}
    assert list(bands) == ["all", "000_060", "060_120", "168_240"]
    assert bands["000_060"].share_of_12 == 1
    assert bands["060_120"].share_of_6 == 0


@pytest.mark.parametrize(
    ("label", "plain", "mirrored", "message"),
    [
        ([1.0], [1.0], [1.0], "for 1 labels"),
        ([1.0, 2.0], [1.0], [1.0, 2.0], "1 and 2"),
        ([1, 2], [1, np.nan], [1, 2], "row 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(label: list, plain: list, mirrored: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_label_noise(label, plain, mirrored, None, "m", SET, QUICK, 0)


def test_saved_figures_can_be_read_back_with_their_assumptions(tmp_path: Path) -> None:
    found = simulated(5, 2, 2, n=200)
    found.save(tmp_path)
    assert LabelNoise.model_validate_json((tmp_path / "label_noise.json").read_text()) == found
    assert "independent of the readers'" in (tmp_path / "label_noise.json").read_text()
    assert pd.read_csv(tmp_path / "heaping.csv")["n"].iloc[0] == 200
