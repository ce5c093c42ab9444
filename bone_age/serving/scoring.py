"""A registered model on a labelled data set, from the files up: what `bone-age evaluate` and the champion's gate use.

The images are decoded and preprocessed anew with the settings that came with the model, so the figure is that of the
path which answers users, whatever the pipeline has cached.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.manifest import Dataset
from bone_age.data.threads import stream_in_threads
from bone_age.errors import InputError
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.imaging import ImageError, preprocess, read_image
from bone_age.serving.predictor import Predictor
from bone_age.settings import EvaluationSettings

BATCH = 32


def score_dataset(
    predictor: Predictor, dataset: Dataset, rows: pd.DataFrame, split: str, settings: EvaluationSettings, seed: int
) -> Evaluation:
    """Predict every radiograph of `rows` (of `dataset.table`) and measure.

    Args:
        split: What `rows` are: `train`, `validation`, `test` or `all`.
    Raises:
        InputError: An image cannot be used; leaving it out would be a figure over other rows than asked for.
    """

    def prepared(relative: str) -> npt.NDArray[np.uint8]:
        try:
            return preprocess(read_image(dataset.path_of(relative)), predictor.preprocessing)
        except ImageError as error:
            raise InputError(str(error)) from None

    images = stream_in_threads(prepared, rows["path"].tolist(), f"predicting with {predictor.name}", len(rows))
    sexes = iter(rows["sex"].tolist())
    months = []
    while batch := list(islice(images, BATCH)):
        months.append(predictor.predict_prepared(np.stack(batch), list(islice(sexes, len(batch)))))
    return evaluate_predictions(
        rows.assign(predicted_months=np.concatenate(months) if months else []),
        predictor.name,
        ScoredSet(dataset.name, dataset.fingerprint, split, dataset.synthetic),
        predictor.calibration,
        settings,
        seed,
    )
