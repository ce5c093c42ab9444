"""The best Xception faces the gates and, if it passes them all, becomes `champion`.

The champion is measured anew on today's test rows, through its own preprocessing and from the files up: a figure from
another data set, or from another day, is no opponent.
"""

from __future__ import annotations

import math

from bone_age import registry
from bone_age.data.manifest import Dataset
from bone_age.errors import BoneAgeError
from bone_age.evaluation.comparison import Comparison
from bone_age.governance.promotion import Candidate, Champion, Decision, Policy, choose, decide
from bone_age.mlflow_connection import first_line
from bone_age.serving.predictor import Predictor
from bone_age.serving.scoring import score_dataset
from bone_age.settings import EvaluationSettings


def face_the_gates(
    candidates: list[Candidate], comparison: Comparison, splits: Dataset, policy: Policy, seed: int
) -> Decision:
    """Judge the best Xception and move the alias if it passes.

    Args:
        candidates: The run's registered versions.
        comparison: Gives the baseline and the test rows that every model was measured on.
        splits: The data set those rows are from.
    Raises:
        BoneAgeError: MLflow does not answer.
    """
    chosen = choose(candidates)
    champion = _champion_today(chosen, comparison, splits, seed)
    decision = decide(candidates, comparison.baseline.metrics.mae.value, champion, policy)
    if decision.promoted and decision.version is not None:
        registry.set_alias(registry.CHALLENGER, decision.version)
        registry.set_alias(registry.CHAMPION, decision.version)
    if decision.version is not None and decision.outcome != "already champion":
        registry.set_version_tag(decision.version, "decision", f"{decision.outcome}: {decision.reason}"[:5000])
    return decision


def _champion_today(chosen: Candidate | None, comparison: Comparison, splits: Dataset, seed: int) -> Champion | None:
    """The serving version with its MAE on the comparison's test rows; without a figure where it cannot be run."""
    current = registry.version_by_alias(registry.CHAMPION)
    if current is None:
        return None
    version, synthetic = int(current.version), current.tags.get("synthetic") == "True"
    if chosen is not None and chosen.version == version:
        return Champion(version=version, test_mae=chosen.test_mae, synthetic=synthetic)
    tested = set(comparison.baseline.predictions["image_id"])
    rows = splits.table[splits.table["image_id"].isin(tested)]
    try:
        name, folder = registry.resolve(f"models:/{registry.REGISTERED_MODEL}/{version}")
        evaluation = score_dataset(
            Predictor.from_folder(folder, name),
            splits,
            rows,
            "test",
            EvaluationSettings(bootstrap_replicates=100),
            seed,
        )
    except BoneAgeError as error:
        return Champion(version=version, test_mae=None, synthetic=synthetic, why_not_measured=first_line(error))
    mae = evaluation.metrics.mae.value
    return Champion(version=version, test_mae=mae if math.isfinite(mae) else None, synthetic=synthetic)
