"""One trained model, measured: intervals calibrated on the validation split, figures on validation and test.

The validation split chooses (epoch, interval width, which model); the test split is looked at once, here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.manifest import sex_input
from bone_age.data.prepared import PreparedImages
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.settings import EvaluationSettings

MonthsOf = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.float32]], npt.NDArray[np.float32]]
TIMED_IMAGES = 32


@dataclass(frozen=True, eq=False)
class EvaluatedModel:
    """A model's figures on both splits, its calibration, and the milliseconds one image takes alone."""

    calibration: IntervalCalibration
    validation: Evaluation
    test: Evaluation
    inference_ms_per_image: float

    def flat_metrics(self) -> dict[str, float]:
        """Every figure by its name in MLflow: `test_mae`, `test_mae_lo`, `test_mae__F_060_120`, `validation_…`."""
        figures = self.validation.flat("validation_") | self.test.flat("test_")
        return figures | {"inference_ms_per_image": self.inference_ms_per_image}

    def save(self, folder: Path) -> None:
        """Write tables and calibration; plots are drawn from them by whoever shows them."""
        (folder / "calibration.json").write_text(self.calibration.model_dump_json(indent=2))
        (folder / "inference_ms.txt").write_text(repr(self.inference_ms_per_image))
        self.validation.save_tables(folder / "validation")
        self.test.save_tables(folder / "test")

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(
            IntervalCalibration.model_validate_json((folder / "calibration.json").read_text()),
            Evaluation.load(folder / "validation"),
            Evaluation.load(folder / "test"),
            float((folder / "inference_ms.txt").read_text()),
        )


def evaluate_trained(
    name: str, months_of: MonthsOf, images: PreparedImages, settings: EvaluationSettings, seed: int
) -> EvaluatedModel:
    """Calibrate on validation, measure on validation and test.

    Args:
        name: What plots and tables call the model.
        months_of: The exported network: images uint8 [N, S, S] and sex float32 [N, 1] to months [N].
    Raises:
        InputError: Too few validation rows for the coverage, or a prediction that is not finite.
    """
    tables = {split: _predicted(months_of, images, split) for split in ("validation", "test")}
    calibration = IntervalCalibration.fit(
        tables["validation"]["bone_age_months"], tables["validation"]["predicted_months"], settings.coverage
    )

    def measured(split: str) -> Evaluation:
        scored_set = ScoredSet(images.dataset_name, images.dataset_fingerprint, split, images.synthetic)
        return evaluate_predictions(tables[split], name, scored_set, calibration, settings, seed)

    return EvaluatedModel(calibration, measured("validation"), measured("test"), _milliseconds(months_of, images))


def _predicted(months_of: MonthsOf, images: PreparedImages, split: str) -> pd.DataFrame:
    table = images.split(split)
    rows = table["array_row"].to_numpy()
    array, sex = images.images, sex_input(table["sex"])
    chunks = range(0, len(rows), 256)
    months = [months_of(array[rows[start : start + 256]], sex[start : start + 256]) for start in chunks]
    return table.assign(predicted_months=np.concatenate(months) if months else [])


def _milliseconds(months_of: MonthsOf, images: PreparedImages) -> float:
    """Median time of one preprocessed image through the network alone, on this machine."""
    table = images.split("test").head(TIMED_IMAGES)
    times = []
    for row, sex in zip(table["array_row"], sex_input(table["sex"]), strict=True):
        image = images.images[row : row + 1]
        started = time.perf_counter()
        months_of(image, sex[None])
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1000)
