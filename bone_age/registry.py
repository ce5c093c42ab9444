"""Registered versions of `bone-age` and their aliases.

A version appears last, when all its files are in the store: never by halves. Resolving a reference imports neither
ZenML nor TensorFlow, so that `predict` starts quickly.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from bone_age.errors import ModelError
from bone_age.mlflow_connection import connect, first_line, reopened
from bone_age.scratch import scratch_folder
from bone_age.serving.bundle import Bundle

REGISTERED_MODEL = "bone-age"
CHAMPION, CHALLENGER = "champion", "challenger"
BUNDLE = "bundle"
_BUNDLE_IN_VERSION = f"artifacts/{BUNDLE}"  # beside it lies the code, hundreds of files that a server is asked for
_FETCHED_KEPT = 4  # more than one piece of work compares; a server that follows promotions for a year fills no disk
_fetched: dict[tuple[str, int], tuple[Path, Path]] = {}


@dataclass(frozen=True)
class VersionFacts:
    """What MLflow's tags say of a version; empty strings where a tag is absent."""

    version: int
    architecture: str
    dataset_fingerprint: str
    synthetic: bool
    model_digest: str
    evidence_sha256: str
    run_id: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: ModelVersion) -> VersionFacts:
        tags = found.tags
        told = {
            name: tags.get(name, "")
            for name in ("architecture", "dataset_fingerprint", "model_digest", "evidence_sha256")
        }
        return cls(
            version=int(found.version),
            synthetic=tags.get("synthetic") == "True",
            run_id=found.run_id or "",
            description=found.description or "",
            tags=dict(tags),
            **told,
        )


def version_facts(version: int) -> VersionFacts:
    """One version by its number.

    Raises:
        ModelError: There is no such version.
    """
    try:
        return VersionFacts.of(connect().get_model_version(REGISTERED_MODEL, str(version)))
    except MlflowException as error:
        raise ModelError(f"models:/{REGISTERED_MODEL}/{version}: {first_line(error)}") from None


def all_versions() -> list[VersionFacts]:
    """Every version, the first one first."""
    found = connect().search_model_versions(f"name = '{REGISTERED_MODEL}'")
    return sorted(map(VersionFacts.of, found), key=lambda facts: facts.version)


def find_version(run_id: str) -> ModelVersion | None:
    """The version registered from a nested run, if there is one."""
    found = connect().search_model_versions(f"name = '{REGISTERED_MODEL}' and run_id = '{run_id}'")
    return found[0] if found else None


def register_bundle(folder: Path, run_id: str, tags: dict[str, str], description: str) -> int:
    """Log a bundle as an MLflow model under its nested run and make it a version of `bone-age`. Returns its number.

    A run that already has a version keeps it, so that a repeated step adds nothing.
    """
    existing = find_version(run_id)
    if existing is not None:
        return int(existing.version)
    package = Path(__file__).resolve().parent
    with reopened(run_id), tempfile.TemporaryDirectory() as scratch:
        named = shutil.copytree(folder, Path(scratch) / BUNDLE)  # MLflow keeps it under its own name
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "serving" / "pyfunc_model.py"),
            artifacts={BUNDLE: str(named)},
            code_paths=[str(package)],
            pip_requirements=_serving_requirements(),
        )
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(REGISTERED_MODEL, description="Bone age in months from a hand radiograph")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        REGISTERED_MODEL, info.model_uri, run_id, tags=tags, description=description, model_id=info.model_id
    )
    return int(version.version)


def _serving_requirements() -> list[str]:
    names = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pandas", "pillow", "pydantic",
             "pydantic-settings", "pydicom", "python-gdcm", "pyyaml", "rich", "scipy")  # fmt: skip
    return [f"{name}=={installed_version(name)}" for name in names]


def import_reference(bundle: Bundle) -> tuple[int, bool]:
    """Make the project's reference model a version, so that a retraining has something to beat; it gets no alias.

    Returns:
        The version's number, and whether it is new: the same file is imported once.
    """
    client = connect()
    found = client.search_model_versions(f"name = '{REGISTERED_MODEL}' and tags.onnx_sha256 = '{bundle.onnx_sha256}'")
    if found:
        return int(found[0].version), False
    facts = bundle.facts
    tags = {
        "architecture": facts.architecture,
        "inputs": facts.inputs,
        "dataset_fingerprint": facts.dataset_fingerprint,
        "synthetic": str(facts.synthetic),
        "preprocessing_digest": bundle.preprocessing.digest,
        "git_commit": facts.git_commit,
        "seed": str(facts.seed),
        "onnx_sha256": bundle.onnx_sha256,
        "model_digest": bundle.digest,
        "reference": "true",
    }
    with mlflow.start_run(run_name="reference", tags=tags | {"kind": "reference"}) as run:
        mlflow.log_metrics({f"test_{name}": value for name, value in bundle.figures().items()})
    said = f"The project's reference model, {facts.architecture}: MAE {facts.test_mae:.1f} months on its test split."
    return register_bundle(bundle.folder, run.info.run_id, tags, f"{said} Not a medical device."), True


def version_by_alias(alias: str) -> ModelVersion | None:
    """The version an alias points to; None where there is none."""
    try:
        return connect().get_model_version_by_alias(REGISTERED_MODEL, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def set_alias(alias: str, version: int) -> None:
    """Point an alias at a version."""
    connect().set_registered_model_alias(REGISTERED_MODEL, alias, str(version))


def remove_alias(alias: str) -> None:
    """Leave an alias pointing nowhere."""
    connect().delete_registered_model_alias(REGISTERED_MODEL, alias)


def set_version_tag(version: int, key: str, value: str) -> None:
    connect().set_model_version_tag(REGISTERED_MODEL, str(version), key, value)


def describe_version(version: int, text: str) -> None:
    """What people read on the version's page in MLflow, Markdown."""
    connect().update_model_version(REGISTERED_MODEL, str(version), description=text)


def resolve(reference: str) -> tuple[str, Path]:
    """A `models:/bone-age/7` or `models:/bone-age@champion` as its exact name and the folder of its bundle.

    Raises:
        ModelError: There is no such version, or its files are gone.
    """
    client = connect()
    name, _, rest = reference.removeprefix("models:/").partition("@" if "@" in reference else "/")
    try:
        if "@" in reference:
            version = client.get_model_version_by_alias(name, rest)
        else:
            version = client.get_model_version(name, rest)
    except MlflowException as error:
        raise ModelError(f"{reference}: {first_line(error)}") from None
    exact = f"models:/{version.name}/{version.version}"
    return exact, _download(version)


def _download(version: ModelVersion) -> Path:
    """The bundle's folder: in place where the store is local, else fetched; a process keeps the last few it fetched."""
    uri = f"models:/{version.name}/{version.version}"
    try:
        store = get_artifact_repository(uri)
        while isinstance(store, ModelsArtifactRepository):
            store = store.repo
        if isinstance(store, LocalArtifactRepository):
            return Path(download_artifacts(f"{uri}/{_BUNDLE_IN_VERSION}"))
        return _fetched_once(uri, version.creation_timestamp)
    except Exception as error:  # each artifact store has its own errors
        raise ModelError(f"{uri}: its files cannot be read: {first_line(error)}") from None


def _fetched_once(uri: str, created_ms: int) -> Path:
    key = (uri, created_ms)  # a number may be given again, to another model
    if key not in _fetched:
        place = scratch_folder()
        _fetched[key] = place, Path(download_artifacts(f"{uri}/{_BUNDLE_IN_VERSION}", dst_path=str(place)))
    _fetched[key] = _fetched.pop(key)  # last, as the one most recently asked for
    for old in list(_fetched)[:-_FETCHED_KEPT]:
        shutil.rmtree(_fetched.pop(old)[0], ignore_errors=True)
    return _fetched[key][1]
