from zenml import step

from bone_age import tracking
from bone_age.governance.policy import Policy
from bone_age.settings import TrainingConfig
from steps.context import current_run


@step(enable_cache=False)
def record_configuration(config: TrainingConfig, policy: Policy) -> None:
    """Open the pipeline run's parent run in MLflow with everything that was asked for, before any work is done."""
    with tracking.parent_run(current_run()):
        tracking.log_config(config, policy)
