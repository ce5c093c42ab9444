"""The training pipeline: from a data set to four registered models, the best Xception of which may become champion.

Steps are named after what they make; the four trainings do not depend on each other, so an orchestrator that can runs
them side by side. Steps that speak to MLflow about the run as a whole (record, register, collect, promote, publish,
attach) always run, all others are cached.
"""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from bone_age.governance.policy import Policy
from bone_age.settings import TrainingConfig
from steps.attach_bundle import attach_bundles
from steps.collect_evidence import collect_evidence
from steps.compare import compare_models
from steps.evaluate import evaluate_model
from steps.ingest import ingest_dataset
from steps.preprocess import preprocess_images
from steps.promote import promote_best
from steps.record import record_configuration
from steps.record_data import record_data
from steps.register import register_models
from steps.report import publish_report
from steps.robustness import measure_robustness
from steps.split import split_dataset
from steps.train import train_model
from steps.validate import validate_data


@pipeline(name="bone-age-training", execution_mode=ExecutionMode.FAIL_FAST)
def training_pipeline(config: TrainingConfig, policy: Policy, dataset_key: str, world_key: str) -> None:
    """Train, compare, register and, on evidence, promote.

    Args:
        dataset_key: Changes with any byte of the data set, which ZenML's cache cannot see.
        world_key: Names the MLflow database; results cached for another one point to runs that are not there.
    """
    record_configuration(config, policy)
    dataset = ingest_dataset(config.data, dataset_key, world_key, after="record_configuration")
    validation = validate_data(dataset, config.validation, config.split)
    splits = split_dataset(dataset, validation, config.split, config.evaluation.coverage)

    record_data(dataset, validation, splits, config.split.warn_band_below)

    images, models, evaluated = {}, [], []
    xceptions = []
    for plan in config.plans:
        size = plan.preprocessing.digest  # one preprocessing for all trainings that want the same
        if size not in images:
            images[size] = preprocess_images(
                splits, plan.preprocessing, config.validation.error_unreadable_share, after="record_data"
            )
        model = train_model(images[size], plan, id=plan.name)
        figures = evaluate_model(model, images[size], config.evaluation, config.seed, id=f"evaluate_{plan.name}")
        models.append(model)
        evaluated.append(figures)
        if plan.is_candidate:
            robustness = measure_robustness(
                model,
                figures,
                images[size],
                splits,
                config.evaluation,
                policy.robustness_rows,
                config.seed,
                id=f"robustness_{plan.name}",
            )
            xceptions.append((model, figures, robustness, images[size]))

    comparison = compare_models(models, evaluated, next(iter(images.values())), validation, splits, config)
    registered = candidates = register_models(models, evaluated, config, policy.digest, after="compare_models")
    if xceptions:
        measured = [list(one_kind) for one_kind in zip(*xceptions, strict=True)]
        candidates = collect_evidence(candidates, *measured, comparison, validation, splits, config, policy.digest)
    decision = promote_best(candidates, policy)
    publish_report(comparison, decision, [robustness for _, _, robustness, _ in xceptions])
    attach_bundles(registered, after="publish_report")  # the report is in them
