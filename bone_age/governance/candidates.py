"""Every trained architecture becomes a version of `bone-age`, so that a loser can still be looked at and promoted.

What a version says of its origin is what its training run recorded, not what this process is: a model that comes out
of ZenML's cache keeps the commit and the pipeline run that trained it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.governance.recording import record_registered, record_trained
from bone_age.governance.stored import store_lock
from bone_age.mlflow_connection import connect
from bone_age.modelling.trained import TrainedModel
from bone_age.registry import find_version, register_bundle, version_facts
from bone_age.serving.bundle import Bundle, ModelFacts, Origin, write_bundle
from bone_age.settings import TrainingConfig


class Candidate(BaseModel):
    """A registered version that wants to be champion.

    Attributes:
        validation_mae: Months; None where it was never measured.
        evidence_sha256: Digest of what was stored of it; empty where nothing was.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    architecture: str
    validation_mae: float | None
    evidence_sha256: str = ""


FROM_THE_RUN = ("git_commit", "git_dirty", "lock_digest", "zenml_run_id")


def register_all(
    models: Sequence[TrainedModel], evaluated: Sequence[EvaluatedModel], config: TrainingConfig, policy_digest: str
) -> list[Candidate]:
    """Register all but ablations; a model whose run has a version already keeps that one.

    Args:
        models, evaluated: In the same order.
    Raises:
        ModelError: A file of a model is damaged.
        BoneAgeError: MLflow does not answer.
    """
    for model in models:
        record_trained(model)
    return [
        _candidate(model, figures, _register(model, figures, config, policy_digest))
        for model, figures in zip(models, evaluated, strict=True)
        if not model.plan.is_ablation
    ]


def _register(model: TrainedModel, figures: EvaluatedModel, config: TrainingConfig, policy_digest: str) -> int:
    found = find_version(model.record.mlflow_run_id)
    version = int(found.version) if found else _write_and_register(model, figures, config, policy_digest)
    store_lock(model.record.mlflow_run_id)
    record_registered(version_facts(version))
    return version


def _write_and_register(
    model: TrainedModel, figures: EvaluatedModel, config: TrainingConfig, policy_digest: str
) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        origin = Origin(config.portable_yaml, figures.test.to_json())
        seen = (figures.likeness, figures.sample)
        bundle = write_bundle(folder, model.folder, figures.calibration, _facts(model, figures), origin, *seen)
        tags = _tags(model, bundle, policy_digest)
        return register_bundle(bundle.folder, model.record.mlflow_run_id, tags, _description(bundle.facts, figures))


def _facts(model: TrainedModel, figures: EvaluatedModel) -> ModelFacts:
    plan, test = model.plan, figures.test
    return ModelFacts(
        architecture=plan.architecture,
        inputs=plan.inputs,
        dataset_name=test.scored_set.dataset,
        dataset_fingerprint=test.scored_set.fingerprint,
        synthetic=test.scored_set.synthetic,
        images_digest=model.record.images_digest,
        weights=plan.training.weights,
        seed=plan.seed,
        mlflow_run_id=model.record.mlflow_run_id,
        test_mae=test.metrics.mae.value,
        flip_averaging=figures.flip_averaging,
        correction=figures.correction,
        git_commit=connect().get_run(model.record.mlflow_run_id).data.tags["git_commit"],
    )


def _tags(model: TrainedModel, bundle: Bundle, policy_digest: str) -> dict[str, str]:
    run = connect().get_run(model.record.mlflow_run_id)
    return {
        "architecture": bundle.facts.architecture,
        "inputs": bundle.facts.inputs,
        "dataset_fingerprint": bundle.facts.dataset_fingerprint,
        "synthetic": str(bundle.facts.synthetic),
        "preprocessing_digest": bundle.preprocessing.digest,
        "policy_digest": policy_digest,
        "seed": str(bundle.facts.seed),
        "onnx_sha256": bundle.onnx_sha256,
        "model_digest": bundle.digest,
    } | {name: run.data.tags[name] for name in FROM_THE_RUN}


def _description(facts: ModelFacts, figures: EvaluatedModel) -> str:
    mae = figures.test.metrics.mae
    figure = f"MAE {mae.value:.1f} months [{mae.lo:.1f}, {mae.hi:.1f}] on {figures.test.caption}"
    use = (
        "Trained on synthetic images: not for radiographs of children." if facts.synthetic else "Not a medical device."
    )
    return f"{facts.architecture} from {facts.inputs}: {figure}. {use}"


def _candidate(model: TrainedModel, figures: EvaluatedModel, version: int) -> Candidate:
    return Candidate(
        version=version,
        architecture=model.plan.architecture,
        validation_mae=figures.validation.metrics.mae.value,
    )
