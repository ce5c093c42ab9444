"""Errors against readers: what is measured, and when it is drift."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bone_age.monitoring.bounds import MIN_READ
from bone_age.monitoring.readers import ROLLING, ReadAnswer, compare_errors, reader_errors
from bone_age.serving.prediction_table import Reading
from tests.monitored import drawn

TEST_SPLIT = {"mae": 6.4, "mae_lo": 6.1, "mae_hi": 6.7, "bias": 0.0, "bias_lo": -0.5, "bias_hi": 0.5}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(n: int, seed: int, offset_months: float = 0.0) -> list[ReadAnswer]:
    answers = drawn(n, seed, read_share=1.0, reader_offset_months=offset_months)
    return [known for one in answers if (known := ReadAnswer.of(one)) is not None]


def drift(rows: list[ReadAnswer]) -> set[str]:
    return {one.name for one in compare_errors(rows, TEST_SPLIT, 0.9) if one.is_drift}


def test_readers_that_agree_as_on_the_test_split_are_no_drift() -> None:
    assert sum(bool(drift(read(200, seed))) for seed in range(40)) <= 1


def test_a_bias_is_seen_with_its_size_and_its_sign() -> None:
    rows = read(100, 1, offset_months=8.0)
    assert "reader_bias_months" in drift(rows)
    bias = next(one for one in compare_errors(rows, TEST_SPLIT, 0.9) if one.name == "reader_bias_months")
    assert bias.now == pytest.approx(8, abs=2)
    errors = reader_errors(rows, 0.9)
    assert errors is not None
    assert errors.overall.bias.lo > 5


def test_intervals_that_miss_are_drift_though_the_error_is_the_same() -> None:
    rows = [
        replace(one, lower_months=one.bone_age_months - 5, upper_months=one.bone_age_months + 5) for one in read(150, 2)
    ]
    assert drift(rows) == {"reader_outside_interval"}


def test_hardly_any_reading_gives_no_figures() -> None:
    assert reader_errors([], 0.9) is None
    assert reader_errors(read(9, 3), 0.9) is None
    assert compare_errors(read(MIN_READ - 1, 3, offset_months=30), TEST_SPLIT, 0.9) == []
    errors = reader_errors(read(ROLLING - 1, 3), 0.9)
    assert errors is not None
    assert errors.rolling == ()


def test_rolling_errors_end_with_the_newest_answer_and_go_in_the_order_of_time() -> None:
    rows = read(128, 4)
    errors = reader_errors(rows, 0.9)
    assert errors is not None
    assert errors.rolling[-1].name == rows[-1].time.isoformat(timespec="seconds")
    assert [one.n for one in errors.rolling] == [ROLLING] * len(errors.rolling)
    assert list(errors.rolling) == sorted(errors.rolling, key=lambda one: one.name)


def test_each_readers_last_reading_counts_and_readers_are_averaged() -> None:
    (answer,) = drawn(1, 5)
    assert ReadAnswer.of(answer) is None
    readings = (Reading(NOON, "r1", 90.0), Reading(NOON, "r2", 100.0), Reading(NOON + timedelta(1), "r1", 110.0))
    known = ReadAnswer.of(replace(answer, readings=readings))
    assert known is not None
    assert known.read_months == 105.0
