from typing import Annotated

from zenml import step

from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.governance.candidates import Candidate, register_all
from bone_age.modelling.trained import TrainedModel
from bone_age.settings import TrainingConfig


@step(enable_cache=False)
def register_models(
    models: list[TrainedModel], evaluated: list[EvaluatedModel], config: TrainingConfig, policy_digest: str
) -> Annotated[list[Candidate], "candidates"]:
    """Make every model a version of `bone-age`; one that is a version already stays it. Ablations are left out."""
    return register_all(models, evaluated, config, policy_digest)
