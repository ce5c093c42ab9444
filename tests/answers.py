"""Answers for tests of the prediction log, and a process that records them (`python -m tests.answers`)."""

from __future__ import annotations

import sys
import time

import numpy as np

from bone_age.serving.prediction_log import PredictionLog
from bone_age.serving.predictor import Answered, Prediction
from bone_age.serving.statistics import ImageStatistics

SECRET_NAME = "doe_jane_19990101.dcm"


def answered(months: float = 112.4, seed: int = 0) -> Answered:
    """An answer to a file with a telling name."""
    drawn = np.random.default_rng(seed)
    prepared = drawn.integers(0, 256, (64, 64)).astype(np.uint8)
    return Answered(
        prediction=Prediction(
            image=f"/incoming/{SECRET_NAME}",
            bone_age_months=months,
            lower_months=months - 12,
            upper_months=months + 12,
            interval_coverage=0.9,
            model="models:/bone-age/7",
            model_digest="ab" * 32,
            dataset_fingerprint="cd" * 32,
            flip_averaging=True,
        ),
        prepared=prepared,
        attention=drawn.random((10, 10), np.float32),
        pooled_features=drawn.random(2048, np.float32),
        statistics=ImageStatistics.of(prepared, 2011, 1487),
        likeness_distance=0.7,
    )


def _record(url: str, prefix: str, times: str) -> None:
    """Records `times` answers, or without an end where it is 0, and says `recording` once it has begun."""
    log, number = PredictionLog.open(url), 0
    answer = answered()
    while not int(times) or number < int(times):
        log.record(f"{prefix}-{number}", "F", answer, 0.08)
        number += 1
        time.sleep(0 if int(times) else 0.001)
        if number == 1:
            print("recording", flush=True)
    print(log.close(60), flush=True)


if __name__ == "__main__":
    _record(*sys.argv[1:])
