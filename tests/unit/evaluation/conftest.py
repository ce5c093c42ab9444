"""Simulated labels and predictions, and evaluations made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bone_age.data.manifest import Dataset
from bone_age.data.synthetic import render_hand
from bone_age.evaluation.baseline import BASELINE_NAME
from bone_age.evaluation.comparison import Comparison, DatasetFacts, ModelSummary, compare
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.imaging import PreprocessingSettings
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


@dataclass
class FakePredictor:
    """A model that is a formula of the preprocessed image; 64 px, no CLAHE, nothing undone unless asked for."""

    formula: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]
    preprocessing: PreprocessingSettings
    calibration: IntervalCalibration
    name: str = "fake"

    def predict_prepared(self, images: npt.NDArray[np.uint8], sex: list[str]) -> npt.NDArray[np.float32]:
        assert images.dtype == np.uint8
        assert images.shape[0] == len(sex)
        return np.asarray(self.formula(images), np.float32)


@pytest.fixture(scope="session")
def fake_predictor(calibration: IntervalCalibration) -> Callable[..., FakePredictor]:
    def make(formula: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]], **changed: Any) -> FakePredictor:
        plain: dict[str, Any] = {"image_size_px": 64, "orient": False, "undo_inversion": False, "clahe": None}
        return FakePredictor(formula, PreprocessingSettings(**plain | changed), calibration)

    return make


@pytest.fixture(scope="session")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Eight synthetic hands; the last one is inverted."""
    root = tmp_path_factory.mktemp("hands")
    labels = [24.0, 60.0, 90.0, 120.0, 132.0, 150.0, 180.0, 204.0]
    for row, months in enumerate(labels):
        hand = render_hand(months, "F" if row % 2 else "M", seed=row, height_px=96, width_px=80)
        looks_inverted = hand[:, :4].mean() > hand.mean()
        wanted = row == len(labels) - 1
        cv2.imwrite(str(root / f"hand{row}.png"), hand if looks_inverted == wanted else 255 - hand)
    ids = [f"hand{row}" for row in range(len(labels))]
    table = pd.DataFrame(
        {
            "image_id": ids,
            "path": [f"{name}.png" for name in ids],
            "sha256": [f"{row:064x}" for row in range(len(labels))],
            "sex": ["F" if row % 2 else "M" for row in range(len(labels))],
            "bone_age_months": labels,
            "patient_id": ids,
            "split": "test",
        }
    )
    return Dataset("hands", root, table, synthetic=True)
