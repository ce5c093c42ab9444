from typing import Annotated

from zenml import step

from bone_age import tracking
from bone_age.data.prepared import PreparedImages
from bone_age.modelling.trained import TrainedModel
from bone_age.quiet_import import quietly
from bone_age.scratch import scratch_folder
from bone_age.settings import Home, PlannedTraining
from steps.caching import TRAIN
from steps.context import current_run


@step(cache_policy=TRAIN)
def train_model(images: PreparedImages, plan: PlannedTraining) -> Annotated[TrainedModel, "trained_model"]:
    """Train one architecture within its nested MLflow run."""
    with quietly():
        from bone_age.modelling.training import train  # imports TensorFlow, which a cached run does not need

    with tracking.architecture_run(current_run(), plan.name) as run_id:
        tracking.log_plan(plan, images)
        model = train(plan, images, Home(), scratch_folder(), tracking.log_epoch, run_id)
        tracking.log_training(model, images)
    return model
