"""Registered versions that nobody trained: real MLflow, real ledger, real evidence, made-up figures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from bone_age import registry, tracking
from bone_age.data.manifest import Dataset
from bone_age.data.splits import split_balance
from bone_age.data.validation import DataValidation
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.comparison import Ablation
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.image_changes import CHANGES
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.evaluation.robustness import Robustness, robustness_of
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.audit_bundle.bundle import AuditBundle, build
from bone_age.governance.entries import Event, NewEntry, timestamp
from bone_age.governance.evidence import Evidence, EvidenceFacts
from bone_age.governance.gates import judge
from bone_age.governance.policy import Policy
from bone_age.governance.recording import import_reference, record_registered
from bone_age.governance.ruling import Ruling
from bone_age.governance.stored import store_evidence, store_lock
from bone_age.governance.succession import install
from bone_age.imaging import PreprocessingSettings
from bone_age.provenance import provenance
from bone_age.serving.bundle import (
    MODEL_KERAS,
    MODEL_ONNX,
    PREPROCESSING,
    TRAINING,
    Bundle,
    ModelFacts,
    Origin,
    write_bundle,
)
from bone_age.settings import EvaluationSettings, Home
from bone_age.tracking import PipelineRun

HOSTILE = "hands <script>alert(1)</script> ![x](http://example.invalid/x.png) | `rm`"
HOSTILE_IMAGE = "=cmd <img src=x onerror=alert(2)> [a](javascript:b)"
POLICY = Policy()
QUICK = EvaluationSettings(bootstrap_replicates=100)
FINDING = Ablation("xception_multi_clahe_off", "xception_multi", Estimate(0.4, -0.2, 1.1))


@dataclass(frozen=True)
class AuditWorld:
    """Versions of the registry: an Xception that was promoted, a ResNet-50, an imported reference model."""

    promoted: int
    resnet: int
    reference: int

    def bundle(self, version: int | None = None) -> AuditBundle:
        return build(version or self.promoted, open_ledger())


@contextmanager
def audit_world(folders: pytest.TempPathFactory) -> Iterator[AuditWorld]:
    """In a home of its own, which the environment names as long as the context is open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_AGE_HOME", str(folders.mktemp("audit") / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("BONE_AGE_DATABASE_URL", raising=False)
        Home().prepare()
        yield _filled(folders.mktemp("made"))
        mlflow.end_run()


def _filled(scratch: Path) -> AuditWorld:
    """Fill the home that the environment names."""
    dataset = _dataset()
    _record_pipeline(dataset)
    xception = _registered(dataset, "xception_multi", scratch / "xception")
    resnet = _registered(dataset, "resnet50_multi", scratch / "resnet")
    _promote(dataset, xception)
    reference, _ = import_reference(_bundle(dataset, "xception_multi", scratch / "reference", "elsewhere", b"another"))
    return AuditWorld(xception, resnet, reference)


def _dataset() -> Dataset:
    random = np.random.default_rng(7)
    n = 90
    table = pd.DataFrame(
        {
            "image_id": [HOSTILE_IMAGE, *(f"image-{row}" for row in range(1, n))],
            "path": [f"images/{row}.png" for row in range(n)],
            "sha256": [hashlib.sha256(str(row).encode()).hexdigest() for row in range(n)],
            "sex": random.choice(["M", "F"], n),
            "bone_age_months": np.clip(random.normal(120, 40, n).round(), 1, 228),
            "patient_id": [f"patient-{row}" for row in range(n)],
            "split": ["test", "train", "validation"] * (n // 3),
        }
    )
    return Dataset(HOSTILE, Path("/nowhere"), table, synthetic=True)


def _record_pipeline(dataset: Dataset) -> None:
    validation = DataValidation(
        passed=True,
        errors=(),
        warnings=("3 images are faint",),
        result={"success": True},
        html="<html>fine</html>",
        n=len(dataset),
        fingerprint=dataset.fingerprint,
        near_duplicates=(),
    )
    with tracking.parent_run(PipelineRun("0000-1", "world")):
        mlflow.log_text(POLICY.model_dump_json(indent=2), POLICY.artifact)
        tracking.log_validation(validation)
        tracking.log_splits(dataset, split_balance(dataset, 1))
        ablation = asdict(FINDING) | {"finding": FINDING.finding}
        mlflow.log_dict(
            {"run": "world", "test_set": "hands, test split", "ablations": [ablation]}, "report/report.json"
        )


def _evaluated(dataset: Dataset, name: str) -> EvaluatedModel:
    random = np.random.default_rng(3)
    rows = {split: dataset.split(split) for split in ("validation", "test")}
    tables = {
        split: table.assign(predicted_months=table["bone_age_months"] + random.normal(0, 6, len(table)))
        for split, table in rows.items()
    }
    tables["test"].iloc[0, tables["test"].columns.get_loc("predicted_months")] += 60  # the worst error by far
    calibration = IntervalCalibration.fit(
        tables["validation"]["bone_age_months"], tables["validation"]["predicted_months"], 0.9
    )

    def scored(split: str) -> Evaluation:
        where = ScoredSet(dataset.name, dataset.fingerprint, split, dataset.synthetic)
        return evaluate_predictions(tables[split], name, where, calibration, QUICK, seed=1)

    return EvaluatedModel(calibration, scored("validation"), scored("test"), 12.5, False, LinearCorrection())


def _bundle(dataset: Dataset, name: str, scratch: Path, run_id: str, onnx: bytes) -> Bundle:
    model, folder = scratch / "model", scratch / "bundle"
    for made in (model, folder):
        made.mkdir(parents=True)
    (model / MODEL_ONNX).write_bytes(onnx)
    (model / MODEL_KERAS).write_bytes(b"weights " * 1000)
    (model / PREPROCESSING).write_text(PreprocessingSettings().model_dump_json())
    (model / TRAINING).write_text("{}")
    figures = _evaluated(dataset, name)
    facts = ModelFacts(
        architecture=name,
        inputs="image + sex",
        dataset_name=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        synthetic=True,
        images_digest="ab" * 32,
        weights="none",
        seed=3,
        mlflow_run_id=run_id,
        test_mae=figures.test.metrics.mae.value,
        git_commit=provenance().git_commit,
    )
    return write_bundle(folder, model, figures.calibration, facts, Origin("name: world\n", figures.test.to_json()))


def _registered(dataset: Dataset, name: str, scratch: Path) -> int:
    with tracking.architecture_run(PipelineRun("0000-1", "world"), name) as run_id:
        tracking.log_params({"training": {"epochs": 2}, "seed": 3})
        mlflow.log_dict(asdict(provenance()), "environment.json")
        mlflow.log_text("image_id,reason\n", "preprocessing/quarantine.csv")
        figures = _evaluated(dataset, name)
        mlflow.log_metrics(figures.test.flat("test_"))
        tracking.log_saved(figures, "evaluation")
    store_lock(run_id)
    ended = timestamp(datetime.now(UTC))
    told = {"actor": "A. Wu", "reason": f"training of {name} finished", "run_id": run_id, "details": {"ended": ended}}
    open_ledger().append(NewEntry(event=Event.TRAINED, **told))
    bundle = _bundle(dataset, name, scratch, run_id, name.encode())
    tags = {
        "architecture": name,
        "inputs": "image + sex",
        "dataset_fingerprint": dataset.fingerprint,
        "synthetic": "True",
        "model_digest": bundle.digest,
        "onnx_sha256": bundle.onnx_sha256,
        "policy_digest": POLICY.digest,
        "lock_digest": provenance().lock_digest,
        "git_dirty": provenance().git_dirty,
    }
    version = registry.register_bundle(bundle.folder, run_id, tags, "of the world")
    record_registered(registry.version_facts(version))
    return version


def _robustness(dataset: Dataset) -> Robustness:
    rows = dataset.split("test").reset_index(drop=True)
    table = rows[["image_id", "sex", "bone_age_months"]].assign(unchanged=rows["bone_age_months"] + 5)
    table = table.assign(**{change.name: table["unchanged"] + 1.5 for change in CHANGES})
    where = ScoredSet(dataset.name, dataset.fingerprint, "test", dataset.synthetic)
    return robustness_of(table, rows["patient_id"].tolist(), CHANGES, "xception_multi", where, QUICK, seed=1)


def _promote(dataset: Dataset, version: int) -> None:
    """Judged for real; made champion whatever the gates say."""
    facts = registry.version_facts(version)
    told = EvidenceFacts(
        version=version,
        architecture=facts.architecture,
        model_digest=facts.model_digest,
        dataset_fingerprint=dataset.fingerprint,
        policy_digest=POLICY.digest,
        synthetic=True,
        mlflow_run_id=facts.run_id,
        trained_by="A. Wu",
        code_digest="c0de",
        data_errors=0,
        leaks=0,
        baseline_mae=33.0,
        onnx_difference_months=0.001,
        preprocessing_compared=30,
        preprocessing_differences=0,
    )
    test = _evaluated(dataset, facts.architecture).test
    evidence = Evidence(told, test, dataset.table, "name: world\n", _robustness(dataset))
    digest = store_evidence(evidence)
    ruling = Ruling(evidence, digest, POLICY, None, judge(evidence, POLICY, None))
    ruling.keep_policy()
    install(open_ledger(), ruling.entry(Event.PROMOTED, "Dr. Roe <roe@example.invalid>", "reviewed the report"))
    ruling.announced(open_ledger(), "promoted")


def record_another_version() -> None:
    """Something happens to a version that is none of these."""
    open_ledger().append(NewEntry(event=Event.REJECTED, actor="somebody", version=77, reason="another version"))
