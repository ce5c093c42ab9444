"""Collects the evidence for a run's Xception versions: the champion on today's rows, latency, byte-equal preprocessing.

The champion is measured anew on today's test rows, through its own preprocessing and from the files up: a figure from
another data set, or from another day, is no opponent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pandas as pd

from bone_age import registry
from bone_age.data.leakage import in_another_split
from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.data.validation import DataValidation
from bone_age.errors import BoneAgeError, ModelError
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.robustness import Robustness
from bone_age.governance.candidates import Candidate
from bone_age.governance.evidence import Evidence, EvidenceFacts, MeasuredChampion
from bone_age.governance.stored import load_evidence, predictor_of, store_evidence
from bone_age.imaging import preprocess, read_image
from bone_age.mlflow_connection import connect, first_line
from bone_age.modelling.trained import TrainedModel
from bone_age.provenance import code_digest, operator
from bone_age.serving.bundle import Bundle
from bone_age.serving.predictor import Predictor
from bone_age.serving.scoring import score_dataset
from bone_age.settings import EvaluationSettings, TrainingConfig

COMPARED_IMAGES = 32
TIMED_ROUNDS = 15


@dataclass(frozen=True, eq=False)
class Measured:
    """One Xception of a run with what the run measured of it."""

    candidate: Candidate
    model: TrainedModel
    figures: EvaluatedModel
    robustness: Robustness
    images: PreparedImages


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the evidence of all versions of a run shares."""

    splits: Dataset
    validation: DataValidation
    baseline_mae: float
    config_yaml: str
    policy_digest: str
    settings: EvaluationSettings
    seed: int


@dataclass(frozen=True, eq=False)
class ChampionToday:
    """The version that serves now, measured on somebody else's test rows; without figures where that failed."""

    facts: MeasuredChampion
    predictor: Predictor | None
    test: Evaluation | None

    def timed_beside(self, other: Predictor) -> tuple[float | None, MeasuredChampion]:
        """Milliseconds of one image through `other`, and the facts with those of the champion, in turns."""
        times = latencies(other, self.predictor) if self.predictor else (None, None)
        return times[0], self.facts.model_copy(update={"latency_ms": times[1]})


def collect(measured: Sequence[Measured], around: Surroundings) -> list[Candidate]:
    """Measure what is not measured yet, and store the evidence of each version in its run.

    Evidence that a version has already is kept when it is of the same data, policy and champion.

    Returns:
        The candidates with the digest of their evidence.
    Raises:
        BoneAgeError: MLflow does not answer, or a version's files are damaged.
    """
    wanting = [one for one in measured if not _stored(one.candidate, around)]
    champion = None
    if wanting:
        rows = _tested(wanting[0], around.splits)
        champion = measure_champion(around.splits, rows, around.settings, around.seed)
    digests = {one.candidate.version: store_evidence(_evidence(one, around, champion)) for one in wanting}
    return [
        one.candidate.model_copy(
            update={"evidence_sha256": digests.get(one.candidate.version) or _stored(one.candidate, around)}
        )
        for one in measured
    ]


def collect_for_run(
    candidates: Sequence[Candidate],
    models: Sequence[TrainedModel],
    evaluated: Sequence[EvaluatedModel],
    robustness: Sequence[Robustness],
    images: Sequence[PreparedImages],
    comparison: Comparison,
    validation: DataValidation,
    splits: Dataset,
    config: TrainingConfig,
    policy_digest: str,
) -> list[Candidate]:
    """`collect` for what the steps of a pipeline run made.

    Args:
        models, evaluated, robustness, images: Of the Xceptions, in the same order.
    """
    by_architecture = {candidate.architecture: candidate for candidate in candidates}
    measured = [
        Measured(by_architecture[model.plan.architecture], model, figures, changes, prepared)
        for model, figures, changes, prepared in zip(models, evaluated, robustness, images, strict=True)
    ]
    around = Surroundings(
        splits=splits,
        validation=validation,
        baseline_mae=comparison.baseline.metrics.mae.value,
        config_yaml=config.portable_yaml,
        policy_digest=policy_digest,
        settings=config.evaluation,
        seed=config.seed,
    )
    return collect(measured, around)


def _stored(candidate: Candidate, around: Surroundings) -> str:
    """Digest of the version's evidence; empty where it has none that holds today."""
    version = registry.version_facts(candidate.version)
    try:
        facts = load_evidence(version).facts
    except ModelError:
        return ""
    current = registry.version_by_alias(registry.CHAMPION)
    if current is not None and int(current.version) != candidate.version:
        today = registry.VersionFacts.of(current).model_digest
    else:
        today = facts.champion.model_digest if facts.champion else ""
    measured = facts.champion.model_digest if facts.champion else ""
    told = (facts.model_digest, facts.dataset_fingerprint, facts.policy_digest, measured)
    same = told == (version.model_digest, around.splits.fingerprint, around.policy_digest, today)
    return version.evidence_sha256 if same else ""


def _evidence(one: Measured, around: Surroundings, champion: ChampionToday | None) -> Evidence:
    version = one.candidate.version
    own = predictor_of(version)
    if champion is not None and champion.facts.version == version:
        champion = None  # it serves already, and is no opponent of itself
    rows = _tested(one, around.splits)
    facts = EvidenceFacts(
        version=version,
        architecture=one.model.plan.architecture,
        model_digest=own.bundle.digest,
        dataset_fingerprint=around.splits.fingerprint,
        policy_digest=around.policy_digest,
        synthetic=around.splits.synthetic,
        mlflow_run_id=one.model.record.mlflow_run_id,
        trained_by=connect().get_run(one.model.record.mlflow_run_id).data.tags.get("trained_by") or operator(),
        code_digest=code_digest("imaging", "data/prepared", "modelling"),
        data_errors=len(around.validation.errors),
        leaks=count_leaks(around.splits, around.validation),
        baseline_mae=around.baseline_mae,
        onnx_difference_months=one.model.record.onnx_difference_months,
        preprocessing_compared=min(COMPARED_IMAGES, len(rows)),
        preprocessing_differences=_prepared_differently(own.bundle, rows, around.splits, one.images),
    )
    if champion is not None:
        milliseconds, timed = champion.timed_beside(own)
        facts = facts.model_copy(update={"latency_ms": milliseconds, "champion": timed})
    return Evidence(
        facts=facts,
        test=one.figures.test,
        manifest=around.splits.table,
        config_yaml=around.config_yaml,
        robustness=one.robustness,
        champion=champion.test if champion else None,
    )


def _tested(one: Measured, splits: Dataset) -> pd.DataFrame:
    """The rows of the test figures; quarantined images were never tested."""
    return splits.table[splits.table["image_id"].isin(set(one.figures.test.predictions["image_id"]))]


def count_leaks(splits: Dataset, validation: DataValidation) -> int:
    """Patients, images and look-alikes in more than one split."""
    shared = [in_another_split(splits.table, column).notna().sum() for column in ("patient_id", "sha256")]
    return int(sum(shared)) + sum(pair.crosses_splits for pair in validation.near_duplicates)


def _prepared_differently(bundle: Bundle, rows: pd.DataFrame, splits: Dataset, images: PreparedImages) -> int:
    """Of the first test images, how many serving prepares to other bytes than training saw."""
    array, differing = images.images, 0
    prepared_rows = images.table.set_index("image_id")["array_row"]
    for image_id, relative in zip(rows["image_id"].head(COMPARED_IMAGES), rows["path"], strict=False):
        served = preprocess(read_image(splits.path_of(relative)), bundle.preprocessing)
        differing += not np.array_equal(served, array[int(prepared_rows[image_id])])
    return differing


def measure_champion(
    splits: Dataset, rows: pd.DataFrame, settings: EvaluationSettings, seed: int
) -> ChampionToday | None:
    """Predict `rows` (of `splits.table`) with the version that serves now; None where none does.

    A champion that cannot be measured does not stop anybody: why is said, and its gates fail.
    """
    current = registry.version_by_alias(registry.CHAMPION)
    if current is None:
        return None
    version = int(current.version)
    try:
        predictor = predictor_of(version)
        test = score_dataset(predictor, splits, rows, "test", settings, seed)
    except BoneAgeError as error:
        tagged = registry.VersionFacts.of(current).model_digest
        facts = MeasuredChampion(version=version, model_digest=tagged, why_not_measured=first_line(error))
        return ChampionToday(facts, None, None)
    return ChampionToday(MeasuredChampion(version=version, model_digest=predictor.bundle.digest), predictor, test)


def latencies(one: Predictor, other: Predictor) -> tuple[float, float]:
    """Median milliseconds of one prepared image through either, in turns, so that other load meets both."""
    times: tuple[list[float], list[float]] = ([], [])
    images = [np.full((1, size, size), 127, np.uint8) for size in (_side(one), _side(other))]
    for round_number in range(TIMED_ROUNDS + 1):
        for predictor, image, taken in zip((one, other), images, times, strict=True):
            started = time.perf_counter()
            predictor.predict_prepared(image, ["F"])
            if round_number:  # the first one warms up
                taken.append((time.perf_counter() - started) * 1000)
    return median(times[0]), median(times[1])


def _side(predictor: Predictor) -> int:
    return predictor.bundle.preprocessing.image_size_px
