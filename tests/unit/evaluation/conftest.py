"""Simulated labels and predictions, and evaluations made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bone_age.evaluation.baseline import BASELINE_NAME
from bone_age.evaluation.comparison import Comparison, DatasetFacts, ModelSummary, compare
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.settings import EvaluationSettings

QUICK = EvaluationSettings(bootstrap_replicates=200)


def simulated(n: int, error_months: float = 10.0, seed: int = 0) -> pd.DataFrame:
    """Labels as those of real radiographs (mean 127, SD 41 months, whole half-years) and predictions about them."""
    labels, errors = np.random.default_rng(seed), np.random.default_rng([seed, int(error_months * 10)])
    months = np.clip((labels.normal(127, 41, n) / 6).round() * 6, 1, 228)
    return pd.DataFrame(
        {
            "image_id": [f"image-{row}" for row in range(n)],
            "sex": labels.choice(["M", "F"], n),
            "bone_age_months": months,
            "predicted_months": months + errors.normal(0, error_months, n),
            "patient_id": [f"patient-{row}" for row in range(n)],
        }
    )


@pytest.fixture(scope="session")
def simulate() -> Callable[..., pd.DataFrame]:
    return simulated


@pytest.fixture(scope="session")
def calibration() -> IntervalCalibration:
    table = simulated(150, seed=99)
    return IntervalCalibration.fit(table["bone_age_months"], table["predicted_months"], 0.9)


@pytest.fixture(scope="session")
def evaluate(calibration: IntervalCalibration) -> Callable[..., Evaluation]:
    def evaluate_table(table: pd.DataFrame, model: str = "xception_multi", **scored: Any) -> Evaluation:
        where = {"dataset": "hands", "fingerprint": "ab" * 32, "split": "test", "synthetic": True} | scored
        return evaluate_predictions(table, model, ScoredSet(**where), calibration, QUICK, seed=3)

    return evaluate_table


@pytest.fixture(scope="session")
def summary(evaluate: Callable[..., Evaluation]) -> Callable[..., ModelSummary]:
    def summarise(
        name: str, test_error: float, validation_error: float | None = None, n: int = 60, **changed: Any
    ) -> ModelSummary:
        history = pd.DataFrame(
            {
                "train_loss": [30.0, 12.5],
                "validation_loss": [33.0, 14.0],
                "train_mae": [40.0, 12.0],
                "validation_mae": [44.0, 13.0],
                "learning_rate": [1e-3, 5e-4],
            }
        )
        facts: dict[str, Any] = {
            "architecture": name,
            "inputs": "image + sex",
            "test": evaluate(simulated(n, test_error), name),
            "validation": evaluate(simulated(40, validation_error or test_error, seed=5), name, split="validation"),
            "history": history,
            "best_epoch": 1,
            "seconds_per_epoch": 21.5,
            "inference_ms_per_image": 74.25,
            "parameters_total": 21_300_001,
            "parameters_trainable": 14_000_002,
            "weights": "none",
            "image_size_px": 80,
            "mlflow_run_id": "8f" * 16,
        }
        return ModelSummary(name=name, **facts | changed)

    return summarise


@pytest.fixture(scope="session")
def baseline(evaluate: Callable[..., Evaluation]) -> Evaluation:
    return evaluate(simulated(60).assign(predicted_months=127.0), BASELINE_NAME)


@pytest.fixture
def comparison(summary: Callable[..., ModelSummary], baseline: Evaluation) -> Comparison:
    models = [
        summary("xception_multi_clahe_off", 9.0, architecture="xception_multi", ablation_of="xception_multi"),
        summary("xception_multi", 8.0),
        summary("resnet50_multi", 14.0, weights="/models/<b>resnet</b>.h5"),
    ]
    facts = DatasetFacts(
        "hands", "ab" * 32, True, {"train": 280, "validation": 40, "test": 60}, ("thin band <i>F</i>",)
    )
    return compare(models, baseline, facts, {}, "name: quickstart  # <script>alert(1)</script>\n", "night", QUICK, 3)
