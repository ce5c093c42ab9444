"""From the trained and evaluated models of a run to their comparison: baseline, facts, paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bone_age.data.manifest import SPLITS
from bone_age.data.prepared import PreparedImages
from bone_age.evaluation.baseline import BASELINE_NAME, SexMeanBaseline
from bone_age.evaluation.comparison import Comparison, DatasetFacts, ModelSummary, compare
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.modelling.trained import TrainedModel
from bone_age.settings import EvaluationSettings, TrainingConfig


def compare_trained(
    models: Sequence[TrainedModel],
    evaluated: Sequence[EvaluatedModel],
    images: PreparedImages,
    warnings: Sequence[str],
    config: TrainingConfig,
    run_name: str,
) -> Comparison:
    """Compare the models of one run on the test split.

    Args:
        models, evaluated: In the same order.
        images: Any of the run's prepared images; only the rows and their splits are read.
        warnings: What validation and splitting remarked; quarantined images are added.
    Raises:
        InputError: Models tested on different rows, or too few validation rows for the intervals.
    """
    facts = DatasetFacts(
        name=images.dataset_name,
        fingerprint=images.dataset_fingerprint,
        synthetic=images.synthetic,
        n_by_split={split: len(images.split(split)) for split in SPLITS},
        validation_warnings=(*warnings, *_quarantine_warnings(images)),
    )
    test = images.split("test")
    return compare(
        [_summary(model, figures) for model, figures in zip(models, evaluated, strict=True)],
        _baseline(images, config.evaluation, config.seed),
        facts,
        dict(zip(test["image_id"], test["patient_id"], strict=True)),
        config.portable_yaml,
        run_name,
        config.evaluation,
        config.seed,
    )


def _quarantine_warnings(images: PreparedImages) -> list[str]:
    reasons = images.quarantined["reason"].tolist()
    return [f"{len(reasons)} images were set aside as unreadable: {'; '.join(reasons[:5])}"] if reasons else []


def _summary(model: TrainedModel, figures: EvaluatedModel) -> ModelSummary:
    plan, record = model.plan, model.record
    return ModelSummary(
        name=plan.name,
        architecture=plan.architecture,
        inputs=plan.inputs,
        test=figures.test,
        validation=figures.validation,
        history=pd.DataFrame(record.epochs),
        best_epoch=record.best_epoch,
        seconds_per_epoch=record.seconds_per_epoch,
        inference_ms_per_image=figures.inference_ms_per_image,
        parameters_total=record.parameters_total,
        parameters_trainable=record.parameters_trained,
        weights=plan.training.weights,
        image_size_px=plan.preprocessing.image_size_px,
        mlflow_run_id=record.mlflow_run_id,
        ablation_of=plan.ablation_of,
    )


def _baseline(images: PreparedImages, settings: EvaluationSettings, seed: int) -> Evaluation:
    """The mean for that sex, with intervals calibrated on validation like any model's."""
    train = images.split("train")
    baseline = SexMeanBaseline.fit(train["sex"].tolist(), train["bone_age_months"].tolist())

    def predicted(split: str) -> pd.DataFrame:
        rows = images.split(split)
        return rows.assign(predicted_months=baseline.predict(rows["sex"].tolist()))

    held_out = predicted("validation")
    calibration = IntervalCalibration.fit(held_out["bone_age_months"], held_out["predicted_months"], settings.coverage)
    scored_set = ScoredSet(images.dataset_name, images.dataset_fingerprint, "test", images.synthetic)
    return evaluate_predictions(predicted("test"), BASELINE_NAME, scored_set, calibration, settings, seed)
