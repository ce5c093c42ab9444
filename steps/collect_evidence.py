from typing import Annotated

from zenml import step

from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.data.validation import DataValidation
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.robustness import Robustness
from bone_age.governance.candidates import Candidate
from bone_age.governance.collecting import collect_for_run
from bone_age.modelling.trained import TrainedModel
from bone_age.settings import TrainingConfig


@step(enable_cache=False)
def collect_evidence(
    candidates: list[Candidate],
    models: list[TrainedModel],
    evaluated: list[EvaluatedModel],
    robustness: list[Robustness],
    images: list[PreparedImages],
    comparison: Comparison,
    validation: DataValidation,
    splits: Dataset,
    config: TrainingConfig,
    policy_digest: str,
) -> Annotated[list[Candidate], "judged_candidates"]:
    """Store what the gates rest on with each Xception version. Not cached: the champion may be new."""
    measured = (models, evaluated, robustness, images)
    return collect_for_run(candidates, *measured, comparison, validation, splits, config, policy_digest)
