"""From a site's labelled radiographs to a new version with evidence; who promotes it is a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bone_age import registry, tracking
from bone_age.data.manifest import Dataset
from bone_age.data.validation import DataValidation
from bone_age.errors import InputError
from bone_age.evaluation.baseline import SexMeanBaseline
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.comparison import paired_difference
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.robustness import measure_on_test
from bone_age.evaluation.site_correction import SiteCalibration, SiteFit, fit_site
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.audit_bundle.bundle import attach
from bone_age.governance.collecting import COMPARED_IMAGES, count_leaks, measure_champion
from bone_age.governance.evidence import Evidence, EvidenceFacts
from bone_age.governance.gate import Gate
from bone_age.governance.gates import judge
from bone_age.governance.policy import Policy
from bone_age.governance.recording import record_registered
from bone_age.governance.stored import incumbent_now, load_evidence, predictor_of, recorded_bundle, store_evidence
from bone_age.imaging import preprocess, read_image
from bone_age.mlflow_connection import reopened
from bone_age.one_process import alone
from bone_age.provenance import code_digest, operator
from bone_age.serving.bundle import CONFIG
from bone_age.serving.predictor import Predictor
from bone_age.serving.scoring import score_dataset
from bone_age.settings import EvaluationSettings, Home
from bone_age.site_calibration import version as versions
from bone_age.site_calibration.rows import FIT, TEST, divided, refuse_known, validated

SEED = 0


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What a calibration made.

    Attributes:
        before, after: The model's own and the corrected answers to the rows that were not fitted on.
        difference: MAE after less before, months, paired; below zero the calibration helps.
        gates: As the version stands now; `bone-age promote` judges them again.
        is_new: False where the same model and rows had been calibrated before.
    """

    version: int
    parent: str
    fit: SiteFit
    before: Evaluation
    after: Evaluation
    difference: Estimate
    gates: tuple[Gate, ...]
    is_new: bool


def calibrate(dataset: Dataset, parent: Predictor, policy: Policy, home: Home) -> Calibrated:
    """Fit a correction and new interval widths, register the result, and collect its evidence.

    Raises:
        InputError: The data are too few, unsound or known to the model, or ask for an implausible correction.
        BoneAgeError: MLflow or the database does not answer, or another calibration runs in this home.
    """
    if dataset.synthetic and not parent.bundle.facts.synthetic:
        raise InputError("a model of radiographs cannot be calibrated on drawn hands")
    splits = divided(dataset, parent.calibration.coverage)
    with alone(home.prepare().root / "calibration.lock", "calibration"):
        validation = validated(splits)
        refuse_known(splits, parent)
        return _calibrated(splits, validation, parent, policy)


def _calibrated(splits: Dataset, validation: DataValidation, parent: Predictor, policy: Policy) -> Calibrated:
    settings = EvaluationSettings(coverage=parent.calibration.coverage)
    fitted = score_dataset(parent, splits, splits.split(FIT), FIT, settings, SEED).predictions
    fit = fit_site(fitted["bone_age_months"], fitted["predicted_months"], parent.calibration)
    before = score_dataset(parent, splits, splits.split(TEST), TEST, settings, SEED)
    model = versions.corrected(parent, _site(splits, parent, fit), fit)
    after = score_dataset(model, splits, splits.split(TEST), TEST, settings, SEED)
    number = versions.find(parent.digest, splits)
    is_new = number is None
    if number is None:
        number = versions.register(model, fit, before, after, splits, validation, policy.digest)
    record_registered(registry.version_facts(number))
    gates = _judged(number, splits, validation, parent, policy, settings)
    attach(number)
    patients = dict(zip(splits.table["image_id"], splits.table["patient_id"], strict=True))
    difference = paired_difference(after, before, patients, settings.bootstrap_replicates, SEED)
    return Calibrated(number, parent.name, fit, before, after, difference, gates, is_new)


def _site(splits: Dataset, parent: Predictor, fit: SiteFit) -> SiteCalibration:
    is_registered = parent.name.startswith("models:/")
    return SiteCalibration(
        dataset_name=splits.name,
        dataset_fingerprint=splits.fingerprint,
        parent=parent.name if is_registered else f"the model with digest {parent.digest[:12]}",
        parent_digest=parent.digest,
        fitted_rows=len(splits.split(FIT)),
        tested_rows=len(splits.split(TEST)),
        kind=fit.kind,
        correction=fit.correction,
    )


def _judged(
    number: int,
    splits: Dataset,
    validation: DataValidation,
    parent: Predictor,
    policy: Policy,
    settings: EvaluationSettings,
) -> tuple[Gate, ...]:
    """Evidence anew, as policy and champion may be others since; then the gates."""
    ledger = open_ledger()
    incumbent = incumbent_now(ledger)
    evidence = _evidence(number, splits, validation, parent, policy, settings)
    with reopened(evidence.facts.mlflow_run_id):
        if evidence.robustness is not None:
            tracking.log_robustness(evidence.robustness)
    store_evidence(evidence)
    bundle = recorded_bundle(ledger, number)
    stale = evidence.staleness(bundle.digest, bundle.facts.measured_on, policy.digest)
    serves = incumbent is not None and incumbent.version == number
    return judge(evidence, policy, None if serves else incumbent, stale)


def _evidence(
    number: int,
    splits: Dataset,
    validation: DataValidation,
    parent: Predictor,
    policy: Policy,
    settings: EvaluationSettings,
) -> Evidence:
    own, rows = predictor_of(number), splits.split(TEST)
    champion = measure_champion(splits, rows, settings, SEED)
    milliseconds, timed = champion.timed_beside(own) if champion else (None, None)
    compared = rows.head(COMPARED_IMAGES)
    facts = EvidenceFacts(
        version=number,
        architecture=own.bundle.facts.architecture,
        model_digest=own.digest,
        dataset_fingerprint=splits.fingerprint,
        policy_digest=policy.digest,
        synthetic=own.bundle.facts.synthetic,
        mlflow_run_id=registry.version_facts(number).run_id,
        trained_by=operator(),
        code_digest=code_digest("imaging", "data/prepared", "modelling"),
        data_errors=len(validation.errors),
        leaks=count_leaks(splits, validation),
        baseline_mae=_baseline_mae(splits),
        onnx_difference_months=_onnx_difference(parent),
        preprocessing_compared=len(compared),
        preprocessing_differences=_prepared_differently(own, parent, splits, compared["path"].tolist()),
        latency_ms=milliseconds,
        champion=timed,
    )
    return Evidence(
        facts=facts,
        test=score_dataset(own, splits, rows, TEST, settings, SEED),
        manifest=splits.table,
        config_yaml=(own.bundle.folder / CONFIG).read_text(encoding="utf-8"),
        robustness=measure_on_test(own, splits, rows["image_id"], policy.robustness_rows, settings, SEED),
        champion=champion.test if champion else None,
    )


def _baseline_mae(splits: Dataset) -> float:
    fitted, tested = splits.split(FIT), splits.split(TEST)
    baseline = SexMeanBaseline.fit(fitted["sex"].tolist(), fitted["bone_age_months"].tolist())
    return float(np.abs(baseline.predict(tested["sex"].tolist()) - tested["bone_age_months"]).mean())


def _onnx_difference(parent: Predictor) -> float | None:
    """What was measured of the parent, whose network the version carries byte for byte; None where nothing is known."""
    for version in registry.all_versions():
        if version.model_digest == parent.digest and version.evidence_sha256:
            return load_evidence(version).facts.onnx_difference_months
    return None


def _prepared_differently(own: Predictor, parent: Predictor, splits: Dataset, paths: list[str]) -> int:
    """Of some test images, how many the version prepares to other bytes than the model that was calibrated."""
    images = [read_image(splits.path_of(relative)) for relative in paths]
    pairs = [(preprocess(image, own.preprocessing), preprocess(image, parent.preprocessing)) for image in images]
    return sum(not np.array_equal(one, other) for one, other in pairs)
