"""The calibrated model as a folder and as a version: the parent's networks, its own correction, widths and figures."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import numpy as np

from bone_age import registry, tracking
from bone_age.data.manifest import Dataset
from bone_age.data.validation import DataValidation
from bone_age.evaluation import plots
from bone_age.evaluation.answer_sample import AnswerSample, sample_of_held_out
from bone_age.evaluation.evaluated import SAMPLE_ROWS
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.evaluation.site_correction import SiteCalibration, SiteFit, composed
from bone_age.governance.audit_bundle.sources import CALIBRATION_RUN
from bone_age.imaging import preprocess, read_image
from bone_age.mlflow_connection import connect
from bone_age.provenance import provenance
from bone_age.serving.bundle import (
    CALIBRATION,
    CARD,
    CHECKSUMS,
    FACTS,
    FIGURES,
    HELD_OUT,
    Bundle,
    load_bundle,
    write_checksums,
)
from bone_age.serving.card import model_card
from bone_age.serving.predictor import Predictor
from bone_age.settings import digest_of


def corrected(parent: Predictor, site: SiteCalibration, fit: SiteFit) -> Predictor:
    """The parent's networks with the correction and the intervals of a site."""
    facts = parent.bundle.facts
    facts = facts.model_copy(update={"correction": composed(facts.correction, fit.correction), "site": site})
    return Predictor(replace(parent.bundle, facts=facts, calibration=fit.intervals), f"{parent.name}, calibrated")


def find(parent_digest: str, splits: Dataset) -> int | None:
    """The version that this model and these very rows have made before."""
    same = {"calibrated_from_digest": parent_digest, "site_rows": _rows_key(splits)}
    for version in registry.all_versions():
        if same.items() <= dict(version.tags).items():
            return version.version
    return None


def register(
    calibrated: Predictor,
    fit: SiteFit,
    before: Evaluation,
    after: Evaluation,
    splits: Dataset,
    validation: DataValidation,
    policy_digest: str,
) -> int:
    """Log the calibration to a run of its own, and make the model a version. Returns its number."""
    site = calibrated.bundle.facts.site
    assert site is not None
    tags = {
        "kind": CALIBRATION_RUN,
        "calibrated_from": site.parent,
        "calibrated_from_digest": site.parent_digest,
        "site_fingerprint": splits.fingerprint,
        "site_rows": _rows_key(splits),
    }
    connect()
    with mlflow.start_run(run_name=f"calibration-{splits.name}", tags=tracking.code_tags() | tags) as run:
        _log(fit, before, after, splits, validation)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = _write(Path(scratch), calibrated, after, _sample(calibrated, splits))
        told = _version_tags(bundle, policy_digest) | {name: tags[name] for name in tags if name != "kind"}
        told |= {name: run.data.tags[name] for name in ("git_dirty", "lock_digest")}
        return registry.register_bundle(bundle.folder, run.info.run_id, told, _description(bundle, after))


def _rows_key(splits: Dataset) -> str:
    """Of the fingerprint and which rows fit: another division is another calibration."""
    fitted = ",".join(sorted(splits.table[splits.table["split"] != "test"]["sha256"]))
    return digest_of({"fingerprint": splits.fingerprint, "fitted": fitted})


def _log(fit: SiteFit, before: Evaluation, after: Evaluation, splits: Dataset, validation: DataValidation) -> None:
    for split in ("validation", "test"):
        tracking.log_input(splits.split(split), splits.name, splits.fingerprint, split)
    mlflow.set_tags(tracking.dataset_tags(splits))
    tracking.log_params({"kind": fit.kind, "correction": fit.correction.model_dump()})
    mlflow.log_metrics({f"fitted_mae__{kind}": months for kind, months in fit.mae_months.items()})
    mlflow.log_metrics(before.flat("before_") | after.flat("test_"))
    tracking.log_validation(validation)
    tracking.log_saved(after, "evaluation/test")
    tracking.log_saved(before, "before")
    mlflow.log_dict(asdict(provenance()), "environment.json")
    tracking.log_pictures({"before_and_after.png": plots.before_and_after(before, after)}, CALIBRATION_RUN)


def _sample(calibrated: Predictor, splits: Dataset) -> AnswerSample:
    """Of the site's radiographs, so that monitoring compares the site with itself."""
    rows = lowest_hashes(splits.table, SAMPLE_ROWS)
    paths = [splits.path_of(relative) for relative in rows["path"]]
    images = np.stack([preprocess(read_image(path), calibrated.preprocessing) for path in paths])
    features = calibrated.network.features(images)
    likeness = calibrated.bundle.likeness
    distances = None if likeness is None else likeness.distances(features)
    sexes = rows["sex"].tolist()
    months = calibrated.predict_prepared(images, sexes).astype(np.float64)
    bounds = np.stack([months, *calibrated.calibration.interval(months)], axis=1)
    return sample_of_held_out(images, features, distances, sexes, bounds)


def _write(folder: Path, calibrated: Predictor, after: Evaluation, sample: AnswerSample) -> Bundle:
    parent, facts = calibrated.bundle, calibrated.bundle.facts
    replaced = {CALIBRATION, FACTS, FIGURES, CARD, HELD_OUT, CHECKSUMS}
    for file in parent.folder.iterdir():
        if file.name not in replaced:
            shutil.copyfile(file, folder / file.name)
    facts = facts.model_copy(update={"test_mae": after.metrics.mae.value})
    (folder / CALIBRATION).write_text(calibrated.calibration.model_dump_json(indent=2))
    (folder / FACTS).write_text(facts.model_dump_json(indent=2))
    (folder / FIGURES).write_text(json.dumps(after.to_json(), indent=2))
    sample.save(folder / HELD_OUT)
    card = model_card(facts.model_dump(), parent.preprocessing, calibrated.calibration, after.to_json())
    (folder / CARD).write_text(card)
    write_checksums(folder)
    return load_bundle(folder)


def _version_tags(bundle: Bundle, policy_digest: str) -> dict[str, str]:
    facts = bundle.facts
    return {
        "architecture": facts.architecture,
        "inputs": facts.inputs,
        "dataset_fingerprint": facts.dataset_fingerprint,
        "synthetic": str(facts.synthetic),
        "preprocessing_digest": bundle.preprocessing.digest,
        "policy_digest": policy_digest,
        "git_commit": facts.git_commit,
        "seed": str(facts.seed),
        "onnx_sha256": bundle.onnx_sha256,
        "model_digest": bundle.digest,
    }


def _description(bundle: Bundle, after: Evaluation) -> str:
    site, mae = bundle.facts.site, after.metrics.mae
    assert site is not None
    return (
        f"{site.parent}, calibrated for {site.dataset_name} on {site.fitted_rows} radiographs ({site.kind}): MAE "
        f"{mae.value:.1f} months [{mae.lo:.1f}, {mae.hi:.1f}] on {after.caption}. Not a medical device."
    )
