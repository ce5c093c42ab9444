"""What an evaluation keeps for monitoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bone_age.data.prepared import PreparedImages
from bone_age.evaluation.evaluated import EvaluatedModel, evaluate_trained
from bone_age.serving.statistics import ImageStatistics
from bone_age.settings import EvaluationSettings


def months_of(images: npt.NDArray[np.uint8], sex: npt.NDArray[np.float32], flip: bool) -> npt.NDArray[np.float32]:
    return np.asarray(images.mean(axis=(1, 2)) + sex[:, 0], np.float32)


def features_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.asarray(images.reshape(len(images), -1)[:, :64], np.float32) + 1


def test_the_sample_is_of_held_out_radiographs_and_is_kept(tiny_images: PreparedImages, tmp_path: Path) -> None:
    settings = EvaluationSettings(bootstrap_replicates=200)
    evaluated = evaluate_trained("model", months_of, features_of, tiny_images, settings, seed=1)
    held_out = tiny_images.table[tiny_images.table["split"] != "train"]
    evaluated.save(tmp_path)
    found = EvaluatedModel.load(tmp_path).sample
    assert found is not None
    assert found.asked == len(held_out)
    assert found.figures["boy"].mean() == pytest.approx((held_out["sex"] == "M").mean(), abs=0.1)
    seen = [tiny_images.images[row] for row in held_out["array_row"]]
    darkest = min(ImageStatistics.of(image, *image.shape).mean for image in seen)
    assert found.figures["grey_mean"].min() == pytest.approx(darkest)
    answers = np.concatenate([evaluated.validation.predictions, evaluated.test.predictions])[:, 3].astype(float)
    assert found.figures["bone_age_months"].max() == pytest.approx(answers.max(), abs=0.001)
