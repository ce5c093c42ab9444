from typing import Annotated

from zenml import step

from bone_age import tracking
from bone_age.data.prepared import PreparedImages
from bone_age.evaluation.evaluated import EvaluatedModel, evaluate_trained
from bone_age.mlflow_connection import reopened
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import EvaluationSettings
from steps.caching import EVALUATE


@step(cache_policy=EVALUATE)
def evaluate_model(
    model: TrainedModel, images: PreparedImages, settings: EvaluationSettings, seed: int
) -> Annotated[EvaluatedModel, "evaluated_model"]:
    """Measure the exported network on validation and test, and log it to the model's nested run."""
    network = OnnxNetwork(model.onnx)
    evaluated = evaluate_trained(model.plan.name, network.predict_months, network.features, images, settings, seed)
    with reopened(model.record.mlflow_run_id):
        tracking.log_evaluated(evaluated)
    return evaluated
