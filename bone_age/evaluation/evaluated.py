"""One trained model, measured: intervals calibrated on the validation split, figures on validation and test.

The validation split chooses (epoch, interval width, which model); the test split is looked at once, here.
"""

from __future__ import annotations

import json
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
from bone_age.evaluation.answer_sample import AnswerSample, sample_of_held_out
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.likeness import MIN_ROWS, Likeness
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.settings import EvaluationSettings

MonthsOf = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.float32], bool], npt.NDArray[np.float32]]
FeaturesOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
TIMED_IMAGES = 32
LIKENESS_ROWS = 2000  # training radiographs that the likeness is fitted on, as many as cost a few minutes at most
SAMPLE_ROWS = 2000  # held-out radiographs that answers in service are later compared with


@dataclass(frozen=True, eq=False)
class EvaluatedModel:
    """A model's figures on both splits, its calibration, and the milliseconds one image takes alone.

    `flip_averaging` says whether all of it is of the mean over a radiograph and its mirror image; `correction` was
    applied to that mean. `likeness` tells training radiographs from other pictures; None where there are too few.
    `sample` is of held-out radiographs, for monitoring.
    """

    calibration: IntervalCalibration
    validation: Evaluation
    test: Evaluation
    inference_ms_per_image: float
    flip_averaging: bool
    correction: LinearCorrection
    likeness: Likeness | None = None
    sample: AnswerSample | None = None

    def flat_metrics(self) -> dict[str, float]:
        """Every figure by its name in MLflow: `test_mae`, `test_mae_lo`, `test_mae__F_060_120`, `validation_…`."""
        figures = self.validation.flat("validation_") | self.test.flat("test_")
        return figures | {"inference_ms_per_image": self.inference_ms_per_image}

    def save(self, folder: Path) -> None:
        """Write tables and calibration; plots are drawn from them by whoever shows them."""
        (folder / "calibration.json").write_text(self.calibration.model_dump_json(indent=2))
        inference = {
            "ms_per_image": self.inference_ms_per_image,
            "flip_averaging": self.flip_averaging,
            "correction": self.correction.model_dump(),
        }
        if self.likeness is not None:
            self.likeness.save(folder / "likeness.npz")
        if self.sample is not None:
            self.sample.save(folder / "held_out.npz")
        (folder / "inference.json").write_text(json.dumps(inference))
        self.validation.save_tables(folder / "validation")
        self.test.save_tables(folder / "test")

    @classmethod
    def load(cls, folder: Path) -> Self:
        inference = json.loads((folder / "inference.json").read_text())
        return cls(
            IntervalCalibration.model_validate_json((folder / "calibration.json").read_text()),
            Evaluation.load(folder / "validation"),
            Evaluation.load(folder / "test"),
            inference["ms_per_image"],
            inference["flip_averaging"],
            LinearCorrection(**inference["correction"]),
            Likeness.load(folder / "likeness.npz") if (folder / "likeness.npz").is_file() else None,
            AnswerSample.load(folder / "held_out.npz") if (folder / "held_out.npz").is_file() else None,
        )


def evaluate_trained(
    name: str,
    months_of: MonthsOf,
    features_of: FeaturesOf,
    images: PreparedImages,
    settings: EvaluationSettings,
    seed: int,
) -> EvaluatedModel:
    """Calibrate on validation, measure on validation and test; learn what training radiographs look like.

    Args:
        name: What plots and tables call the model.
        months_of: The exported network: images uint8 [N, S, S], sex float32 [N, 1] and whether to average over the
            mirror image, to months [N].
        features_of: The same network: images to pooled features [N, C].
    Raises:
        InputError: Too few validation rows for the coverage, or a prediction that is not finite.
    """
    flip = settings.flip_averaging
    tables = {split: _predicted(months_of, images, split, flip) for split in ("validation", "test")}
    held_out = tables["validation"]
    correction = LinearCorrection()
    if settings.linear_correction:
        correction = LinearCorrection.fit(held_out["bone_age_months"], held_out["predicted_months"])
    for table in tables.values():
        table["predicted_months"] = correction.of(table["predicted_months"].to_numpy())
    calibration = IntervalCalibration.fit(held_out["bone_age_months"], held_out["predicted_months"], settings.coverage)

    def measured(split: str) -> Evaluation:
        scored_set = ScoredSet(images.dataset_name, images.dataset_fingerprint, split, images.synthetic)
        return evaluate_predictions(tables[split], name, scored_set, calibration, settings, seed)

    milliseconds = _milliseconds(months_of, images, flip)
    likeness = _likeness(features_of, images)
    sample = _sample(features_of, images, pd.concat([held_out, tables["test"]]), calibration, likeness)
    return EvaluatedModel(
        calibration, measured("validation"), measured("test"), milliseconds, flip, correction, likeness, sample
    )


def _likeness(features_of: FeaturesOf, images: PreparedImages) -> Likeness | None:
    rows = lowest_hashes(images.split("train"), LIKENESS_ROWS)["array_row"].to_numpy()
    if len(rows) < MIN_ROWS:
        return None
    chunks = [slice(start, start + 256) for start in range(0, len(rows), 256)]
    return Likeness.fit(np.concatenate([features_of(images.images[rows[chunk]]) for chunk in chunks]))


def _sample(
    features_of: FeaturesOf,
    images: PreparedImages,
    predicted: pd.DataFrame,
    calibration: IntervalCalibration,
    likeness: Likeness | None,
) -> AnswerSample:
    table = lowest_hashes(predicted, SAMPLE_ROWS)
    seen = images.images[table["array_row"].to_numpy()]
    chunks = [slice(start, start + 256) for start in range(0, len(seen), 256)]
    features = np.concatenate([features_of(seen[chunk]) for chunk in chunks])
    distances = None if likeness is None else likeness.distances(features)
    months = table["predicted_months"].to_numpy(np.float64)
    bounds = np.stack([months, *calibration.interval(months)], axis=1)
    return sample_of_held_out(seen, features, distances, table["sex"].tolist(), bounds)


def _predicted(months_of: MonthsOf, images: PreparedImages, split: str, flip_averaging: bool) -> pd.DataFrame:
    table = images.split(split)
    rows = table["array_row"].to_numpy()
    array, sex = images.images, sex_input(table["sex"])
    chunks = [slice(start, start + 256) for start in range(0, len(rows), 256)]
    months = [months_of(array[rows[chunk]], sex[chunk], flip_averaging) for chunk in chunks]
    return table.assign(predicted_months=np.concatenate(months) if months else [])


def _milliseconds(months_of: MonthsOf, images: PreparedImages, flip_averaging: bool) -> float:
    """Median time of one preprocessed image through the network alone, on this machine."""
    table = images.split("test").head(TIMED_IMAGES)
    times = []
    for row, sex in zip(table["array_row"], sex_input(table["sex"]), strict=True):
        image = images.images[row : row + 1]
        started = time.perf_counter()
        months_of(image, sex[None], flip_averaging)
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1000)
