"""A site's radiographs: sound, enough, unknown to the model, and divided into those that fit and those that test."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from bone_age import registry
from bone_age.data.manifest import Dataset
from bone_age.data.validation import DataValidation
from bone_age.errors import InputError, ModelError
from bone_age.evaluation.intervals import require_rows
from bone_age.evaluation.site_correction import MIN_CASES
from bone_age.governance.stored import load_evidence
from bone_age.serving.predictor import Predictor
from bone_age.settings import ValidationBounds

FIT, TEST = "validation", "test"
TEST_SHARE = 0.4
MIN_TESTED = 10
_SALT = "bone-age-site-1"


def divided(dataset: Dataset, coverage: float) -> Dataset:
    """Fill the `split` column with `validation` (to fit on) and `test`, by a hash of the patient's id.

    Where the data names splits, its `test` rows test and all others fit.

    Raises:
        InputError: Fewer than 50 radiographs, or too few in one of the two parts.
    """
    if len(dataset) < MIN_CASES:
        raise InputError(f"{dataset.name}: {len(dataset)} labelled radiographs, at least {MIN_CASES} are needed")
    given = dataset.table["split"]
    tests = given == TEST if (given != "").any() else dataset.table["patient_id"].map(_tests)
    table = dataset.table.assign(split=tests.map({True: TEST, False: FIT}))
    assigned = dataset.with_table(table)
    require_rows(len(assigned.split(FIT)), coverage)
    if (n := len(assigned.split(TEST))) < MIN_TESTED:
        raise InputError(f"{dataset.name}: {n} radiographs to test on, at least {MIN_TESTED} are needed")
    return assigned


def validated(dataset: Dataset) -> DataValidation:
    """Judge labels, images and leakage between the two parts.

    Raises:
        InputError: There are errors; file, row and value of the first ones.
    """
    from bone_age.data.expectations import validate_dataset  # imports Great Expectations: after all quick refusals

    validation = validate_dataset(dataset, ValidationBounds())
    validation.raise_on_errors()
    return validation


def refuse_known(dataset: Dataset, parent: Predictor) -> None:
    """A model is not measured on what it learned from.

    Known is what the registry holds of the parent; of a model folder, and of the reference model, it holds nothing.

    Raises:
        InputError: The parent was trained or chosen on one of the images.
    """
    learned: set[str] = set()
    for version in registry.all_versions():
        if version.model_digest == parent.digest and version.evidence_sha256:
            with suppress(ModelError):
                manifest = load_evidence(version).manifest
                learned |= set(manifest[manifest["split"] != TEST]["sha256"])
    known = dataset.table[dataset.table["sha256"].isin(learned)]
    if len(known):
        site = parent.bundle.facts.site
        remedy = f"begin with what it was calibrated from, --model {site.parent}" if site else "a site needs its own"
        raise InputError(
            f"{known['source_row'].iloc[0]}: {parent.name} was trained or chosen on this very image, as on "
            f"{len(known) - 1} more of {len(dataset)}; {remedy}"
        )


def _tests(patient_id: str) -> bool:
    digest = hashlib.sha256(f"{_SALT}\0{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < TEST_SHARE
