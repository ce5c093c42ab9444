"""All that MLflow and the ledger hold of a version, verified, as the files that its bundle is made of.

Everything is read from the version's own runs: what this checkout, this day or another version says is left aside, so
that the same version gives the same files. No weights and no pictures; the SHA-256 of the weights is in
`model/checksums.json`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from bone_age import registry
from bone_age.errors import ModelError
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.robustness import Robustness
from bone_age.governance.audit_bundle.extract import Extract
from bone_age.governance.chain import Chain
from bone_age.governance.policy import POLICIES
from bone_age.governance.stored import LOCK, fetched_evidence
from bone_age.mlflow_connection import connect, first_line
from bone_age.registry import VersionFacts
from bone_age.serving.bundle import CHECKSUMS, FIGURES, MODEL_KERAS, MODEL_ONNX, Bundle, load_bundle

Loaded = TypeVar("Loaded")
ROBUSTNESS = "answers to changed radiographs"
WEIGHTS = (MODEL_ONNX, MODEL_KERAS)
CALIBRATION_RUN = "site_calibration"  # the tag `kind` of a run that calibrated a model for a site
VERSION_TAGS = ("architecture", "inputs", "dataset_fingerprint", "synthetic", "preprocessing_digest", "policy_digest",
                "git_commit", "git_dirty", "lock_digest", "seed", "zenml_run_id", "onnx_sha256", "model_digest",
                "reference", "calibrated_from", "calibrated_from_digest", "site_fingerprint", "site_rows")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Artifacts of a run that go into the bundle.

    Attributes:
        path: Where they go.
        run: The version's own `training` run, or the `pipeline` run above it.
        artifact: Where they are, a file or a folder.
        meaning: What it is, for the list of what is absent.
    """

    path: str
    run: str
    artifact: str
    meaning: str


PARTS = (
    Part("evaluation", "training", "evaluation", "predictions and figures of validation and test"),
    Part("robustness", "training", "robustness", ROBUSTNESS),
    Part("environment/environment.json", "training", "environment.json", "interpreter, platform and main packages"),
    Part("environment/requirements.lock", "training", LOCK, "the lock of all packages"),
    Part("preprocessing", "training", "preprocessing", "preprocessing and images that could not be read"),
    Part("policies", "training", POLICIES, "policies that the version was judged by"),
    Part("policies", "pipeline", POLICIES, "the policy of the pipeline run"),
    Part("data_validation", "pipeline", "data_validation", "result of Great Expectations"),
    Part("dataset", "pipeline", "splits", "manifest with a SHA-256 a radiograph, and the splits"),
    Part("report/report.json", "pipeline", "report/report.json", "comparison with the run's other models, ablations"),
    Part("report/report.html", "pipeline", "report/report.html", "the same to read"),
    Part("config.json", "pipeline", "config.json", "configuration of the pipeline run"),
)


@dataclass(frozen=True, eq=False)
class Sources:
    """What is known of a version.

    Attributes:
        tags: Those of the version that never change after its registration.
        run: Its training's.
        files: Content by path in the bundle.
        absent: Why something is not there, in words, by what it is.
        test, robustness: None where the version has none.
        figures: The document of `metrics.json`, empty where there is none.
        extract: Of the ledger.
    """

    facts: VersionFacts
    tags: dict[str, str]
    bundle: Bundle
    run: Run
    files: dict[str, bytes]
    absent: dict[str, str]
    test: Evaluation | None
    robustness: Robustness | None
    figures: dict[str, Any]
    extract: Extract

    def document(self, path: str) -> Any:
        """A JSON file; an empty document where it is absent."""
        return json.loads(self.files.get(path, b"{}"))


def gather(version: int, ledger: Chain) -> Sources:
    """Read and verify everything of a version.

    Raises:
        ModelError: No such version, its run is gone, or a file of it was changed; it is named.
        BoneAgeError: The ledger's chain is broken, or MLflow does not answer.
    """
    facts = registry.version_facts(version)
    run = _run(facts.run_id, f"version {version}")
    extract = Extract.of(ledger, version, facts.run_id)
    bundle = _model(facts, extract)
    files = {f"model/{name}": (bundle.folder / name).read_bytes() for name in _listed(bundle) if name not in WEIGHTS}
    absent: dict[str, str] = {}
    _add_parts(run, files, absent)
    _drop_foreign_lock(run, files, absent)
    test, robustness = _add_evidence(facts, extract, files, absent)
    if test is None and "evaluation/test/metrics.json" in files:
        test = _read(files, "evaluation/test/", Evaluation.load)
    if robustness is None and "robustness/robustness.json" in files:
        robustness = _read(files, "robustness/", Robustness.load)
    if robustness is not None:
        absent.pop(ROBUSTNESS, None)
    tags = connect().get_model_version(registry.REGISTERED_MODEL, str(version)).tags
    return Sources(
        facts=facts,
        tags={name: tags[name] for name in VERSION_TAGS if name in tags},
        bundle=bundle,
        run=run,
        files=files,
        absent=absent,
        test=test,
        robustness=robustness,
        figures=test.to_json() if test else json.loads(files.get(f"model/{FIGURES}", b"{}")),
        extract=extract,
    )


def _run(run_id: str, whose: str) -> Run:
    try:
        run = connect().get_run(run_id)
    except MlflowException:
        raise ModelError(f"{whose}: its run {run_id} is gone") from None
    if run.info.lifecycle_stage != "active":
        raise ModelError(f"{whose}: its run {run_id} is deleted; `mlflow runs restore` brings it back")
    return run


def _model(facts: VersionFacts, extract: Extract) -> Bundle:
    bundle = load_bundle(registry.resolve(f"models:/{registry.REGISTERED_MODEL}/{facts.version}")[1])
    for where, recorded in (("the ledger", extract.recorded("model_digest")), ("its tag", facts.model_digest)):
        if recorded and recorded != bundle.digest:
            raise ModelError(
                f"version {facts.version}: {bundle.folder / CHECKSUMS} is not what {where} recorded; "
                "`bone-age audit verify` shows all that is amiss"
            )
    return bundle


def _listed(bundle: Bundle) -> list[str]:
    return sorted([*json.loads((bundle.folder / CHECKSUMS).read_text()), CHECKSUMS])


def _add_parts(run: Run, files: dict[str, bytes], absent: dict[str, str]) -> None:
    runs: dict[str, Run] = {"training": run}
    how = "calibrated for a site" if run.data.tags.get("kind") == CALIBRATION_RUN else "imported"
    why_no_pipeline = f"no pipeline run made this version; it was {how}"
    if parent := run.data.tags.get("mlflow.parentRunId"):
        try:
            runs["pipeline"] = _run(parent, "the pipeline run above it")
        except ModelError as error:
            why_no_pipeline = str(error)
    for part in PARTS:
        found = artifacts_of(runs[part.run].info.run_id, part.artifact) if part.run in runs else {}
        for inner, content in found.items():
            files[f"{part.path}/{inner}" if inner else part.path] = content
        if not found:
            is_there = part.run in runs
            absent[part.meaning] = f"was not recorded with the {part.run} run" if is_there else why_no_pipeline


def artifacts_of(run_id: str, path: str) -> dict[str, bytes]:
    """Content by path below `path`, `""` for a file; empty where there is none. Pictures are left out.

    Raises:
        ModelError: It is listed and cannot be read.
    """
    client = connect()
    folder = path.rpartition("/")[0]
    if all(file.path != path for file in client.list_artifacts(run_id, folder or None)):
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            place = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch))
        except Exception as error:  # each artifact store has its own errors
            raise ModelError(f"run {run_id}: {path} cannot be read: {first_line(error)}") from None
        if place.is_file():
            return {"": place.read_bytes()}
        inside = (file for file in place.rglob("*") if file.is_file() and file.suffix != ".png")
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in inside}


def _drop_foreign_lock(run: Run, files: dict[str, bytes], absent: dict[str, str]) -> None:
    lock = files.get("environment/requirements.lock")
    if lock is not None and hashlib.sha256(lock).hexdigest() != run.data.tags.get("lock_digest"):
        del files["environment/requirements.lock"]
        absent["the lock of all packages"] = "the one with the run is not the one that the training recorded"


def _add_evidence(
    facts: VersionFacts, extract: Extract, files: dict[str, bytes], absent: dict[str, str]
) -> tuple[Evaluation | None, Robustness | None]:
    """What the last decision rested on; where there was none yet, what was collected."""
    digest = extract.recorded("evidence_sha256") or facts.evidence_sha256
    if not digest:
        absent["evidence for the gates"] = (
            "the training pipeline has not collected it"
            if facts.architecture.startswith("xception")
            else "only Xception versions face the gates"
        )
        return None, None
    with fetched_evidence(facts, digest) as (folder, evidence):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                files[f"evidence/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
    return evidence.test, evidence.robustness


def _read(files: dict[str, bytes], prefix: str, load: Callable[[Path], Loaded]) -> Loaded:
    with tempfile.TemporaryDirectory() as scratch:
        for path, content in files.items():
            if path.startswith(prefix):
                (Path(scratch) / path.removeprefix(prefix)).write_bytes(content)
        return load(Path(scratch))
