"""A model version in eight bits, measured anew: it is another model, with its own intervals, limits and figures.

Rounding moves every answer a little, so nothing that was measured of the parent is taken for granted. The scales come
from training radiographs; intervals and the measure of likeness are fitted again where the training fitted them; the
figures are of the same test split.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import Progress

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset, sex_input
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.data.splits import assign_splits
from bone_age.errors import InputError
from bone_age.evaluation.evaluated import LIKENESS_ROWS, SAMPLE_ROWS, TIMED_IMAGES, EvaluatedModel, evaluate_trained
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.exporting.folder import require_free, write_whole_folder
from bone_age.modelling.int8_network import CALIBRATION_ROWS, store_as_int8
from bone_age.progress import bar
from bone_age.scratch import scratch_folder
from bone_age.serving.bundle import (
    CALIBRATION,
    CARD,
    CONFIG,
    FACTS,
    FIGURES,
    HELD_OUT,
    LIKENESS,
    MODEL_KERAS,
    MODEL_ONNX,
    Bundle,
)
from bone_age.serving.card import model_card
from bone_age.serving.int8 import Int8Facts, require_exact_sums
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import TrainingConfig, load_config

COMPARED_ROWS = 256


@dataclass(frozen=True, eq=False)
class Int8Export:
    """The folder, and what its model was measured to do."""

    bundle: Bundle
    evaluated: EvaluatedModel
    facts: Int8Facts

    @property
    def mae_moved_months(self) -> float:
        """MAE on the test split less the parent's on the same radiographs."""
        return self.evaluated.test.metrics.mae.value - self.facts.parent_test_mae


def export_int8(bundle: Bundle, source: str, out: Path) -> Int8Export:
    """Write `out`, whole or not at all, without the Keras model.

    Args:
        source: The data set that trained the model, as `--data` names it.
    Raises:
        InputError: It is another data set, the model cannot be exported so, or `out` cannot be written.
        ModelError: This processor cannot run it.
    """
    require_free(out)
    require_exact_sums()
    if bundle.facts.site is not None:
        raise InputError(f"calibrated for {bundle.facts.site.dataset_name}: export {bundle.facts.site.parent} as int8")
    if bundle.facts.int8 is not None:
        raise InputError("this model is in eight bits already")
    config = load_config(bundle.folder / CONFIG)
    dataset = _rows_needed(_dataset_of(bundle, source, config))
    scratch = scratch_folder()
    images = prepare_images(dataset, bundle.preprocessing, config.validation.error_unreadable_share, scratch)
    onnx = scratch / MODEL_ONNX
    scaled_on = lowest_hashes(images.split("train"), CALIBRATION_ROWS)
    store_as_int8(bundle.onnx, onnx, images.images[scaled_on["array_row"].to_numpy()], sex_input(scaled_on["sex"]))
    evaluated = _measured(onnx, bundle, images, config)
    facts = Int8Facts(
        parent_digest=bundle.digest,
        parent_test_mae=bundle.facts.test_mae,
        calibration_rows=len(scaled_on),
        **_differences(bundle.onnx, onnx, images),
    )

    def change(folder: Path) -> None:
        shutil.copyfile(onnx, folder / MODEL_ONNX)
        _describe(folder, bundle, evaluated, facts)

    left_out = (MODEL_KERAS, LIKENESS, HELD_OUT)
    return Int8Export(write_whole_folder(bundle, out, change, left_out), evaluated, facts)


def _dataset_of(bundle: Bundle, source: str, config: TrainingConfig) -> Dataset:
    dataset = load_dataset(config.data.model_copy(update={"source": source}))
    if dataset.fingerprint != bundle.facts.dataset_fingerprint:
        raise InputError(
            f"{source}: fingerprint {dataset.fingerprint[:12]}, but the model was trained on "
            f"{bundle.facts.dataset_name} {bundle.facts.dataset_fingerprint[:12]}: int8 is fitted and measured on those"
        )
    return assign_splits(dataset, config.split)


def _rows_needed(dataset: Dataset) -> Dataset:
    train = lowest_hashes(dataset.split("train"), LIKENESS_ROWS)
    return dataset.with_table(pd.concat([train, dataset.split("validation"), dataset.split("test")]))


def _measured(onnx: Path, bundle: Bundle, images: PreparedImages, config: TrainingConfig) -> EvaluatedModel:
    """Exactly as a training measures its model, with a progress bar."""
    network = OnnxNetwork(onnx)
    facts = bundle.facts
    settings = config.evaluation.model_copy(
        update={"flip_averaging": facts.flip_averaging, "linear_correction": facts.correction != LinearCorrection()}
    )
    test, held_out = len(images.split("test")), len(images.split("validation")) + len(images.split("test"))
    total = held_out + min(test, TIMED_IMAGES) + min(len(images.split("train")), LIKENESS_ROWS)
    with bar() as progress:
        task = progress.add_task("measuring the model in eight bits", total=total + min(held_out, SAMPLE_ROWS), note="")
        return evaluate_trained(
            facts.architecture,
            _counted(network.predict_months, progress, task),
            _counted(network.features, progress, task),
            images,
            settings,
            facts.seed,
        )


def _counted(function: Callable[..., Any], progress: Progress, task: Any) -> Callable[..., Any]:
    def counted(images: Any, *arguments: Any) -> Any:
        result = function(images, *arguments)
        progress.advance(task, len(images))
        return result

    return counted


def _differences(before: Path, after: Path, images: PreparedImages) -> dict[str, Any]:
    """How far answers to validation radiographs, without mirror images, are from each other."""
    rows = lowest_hashes(images.split("validation"), COMPARED_ROWS)
    pictures, sex = images.images[rows["array_row"].to_numpy()], sex_input(rows["sex"])
    months = [OnnxNetwork(path).predict_months(pictures, sex).astype(np.float64) for path in (before, after)]
    moved = np.abs(months[1] - months[0])
    return {
        "compared_rows": len(rows),
        "mean_absolute_difference_months": round(float(moved.mean()), 3),
        "largest_difference_months": round(float(moved.max()), 3),
    }


def _describe(folder: Path, bundle: Bundle, evaluated: EvaluatedModel, int8: Int8Facts) -> None:
    figures = evaluated.test.to_json()
    facts = bundle.facts.model_copy(
        update={"test_mae": evaluated.test.metrics.mae.value, "correction": evaluated.correction, "int8": int8}
    )
    (folder / CALIBRATION).write_text(evaluated.calibration.model_dump_json(indent=2))
    if evaluated.likeness is not None:
        evaluated.likeness.save(folder / LIKENESS)
    if evaluated.sample is not None:
        evaluated.sample.save(folder / HELD_OUT)
    (folder / FACTS).write_text(facts.model_dump_json(indent=2))
    (folder / FIGURES).write_text(json.dumps(figures, indent=2))
    (folder / CARD).write_text(model_card(facts.model_dump(), bundle.preprocessing, evaluated.calibration, figures))
